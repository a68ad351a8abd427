"""
A dialect is how the clients of one crash SDK send reports: to which paths, with which keys, for which answers.

Each is data: rows of a table, which C{docs/dialects.rst} describes for operators. Nothing here sees a connection.
"""
