"""
Destinations that keep crashes in a bucket of an object store, S3, Google Cloud Storage or Azure, as Socorro reads them.
"""
