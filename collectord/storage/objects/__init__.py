"""
Destinations that keep crashes in a bucket of an object store, S3 or Google Cloud Storage, as Socorro reads them.
"""
