"""
collectord collects crash reports over HTTP: a client that is answered with a CrashID knows that its crash is on disk.
"""

__version__ = "0.1.0"
