"""
What the end-to-end and fault tests stand on: real daemons, real disks that fail, real clients.
"""
