"""
The log: how events become lines, where lines are written, and the thread that writes them.
"""
