"""
The composition of the daemon: which services it runs, made from its settings and connected with each other.
"""
