"""
The journal: files in which the daemon writes a line for each step of a crash, for C{collectord audit} to read.
"""
