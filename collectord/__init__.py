"""
collectord: a crash-report collector whose CrashID is a receipt.
"""

__version__ = "0.1.0"
