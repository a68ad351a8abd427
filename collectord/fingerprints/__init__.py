"""
Tells which reports are of the same bug, mostly, by where their programs crashed: C{docs/fingerprints.rst}.
"""
