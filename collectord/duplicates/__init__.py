"""
The same report sent twice: it is recognized, and answered with the id of the crash that is kept already.
"""
