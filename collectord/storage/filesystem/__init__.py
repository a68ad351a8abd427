"""
Crashes on a file system, in Socorro's layout, durable before they are acknowledged.
"""
