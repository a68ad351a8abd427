"""
Crashes sent on to another collector.
"""
