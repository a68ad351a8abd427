"""
Threads, time limits and open files: what all that waits for something shares.
"""
