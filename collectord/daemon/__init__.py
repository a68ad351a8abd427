"""
The composition: which services run, and how they hang together.
"""
