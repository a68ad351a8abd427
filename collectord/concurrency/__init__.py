"""
Tools for work that takes time: threads, time limits, work in the background, and the limit of open files.
"""
