"""
What a connection ends with when it does not end well.
"""

from OpenSSL import SSL
from twisted.internet.error import ConnectError, ConnectingCancelledError, ConnectionClosed, DNSLookupError

NETWORK_ERRORS = (ConnectError, ConnectingCancelledError, ConnectionClosed, DNSLookupError, SSL.Error)
