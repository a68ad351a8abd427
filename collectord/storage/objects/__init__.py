"""
Crashes in buckets of object stores.
"""
