"""
The journal: one line for each step of a crash.
"""
