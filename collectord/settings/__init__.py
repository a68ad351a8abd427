"""
The settings: which keys there are, where their values come from, and what a worker process gets of them.
"""
