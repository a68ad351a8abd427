"""
Accounting for the crashes of a day: what the journal says of each, and where it lies.
"""
