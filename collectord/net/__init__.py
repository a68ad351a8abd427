"""
The network: listening ports, certificates, the errors of connections, and what is private in Twisted.
"""
