"""
Reads of a minidump what tells where its program crashed, from bytes that nobody has checked.
"""
