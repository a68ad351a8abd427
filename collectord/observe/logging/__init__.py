"""
The log: events, where they go, and the thread that writes them.
"""
