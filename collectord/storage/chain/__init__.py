"""
Stores that are tried in order.
"""
