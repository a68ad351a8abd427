"""Processes that take submissions on one port, and their parent."""
