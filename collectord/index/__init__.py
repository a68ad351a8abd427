"""
The index of crashes: which there are, how often each bug was seen, and what is coming in. It may be lost at any time.
"""
