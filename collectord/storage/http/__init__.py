"""
The destination that posts crashes to another collector.
"""
