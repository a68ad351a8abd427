"""
Ports, certificates and how connections end.
"""
