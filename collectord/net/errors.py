"""
The errors of outgoing connections, and how to find them in what an HTTP client raises.
"""

from OpenSSL import SSL
from twisted.internet.error import ConnectError, ConnectingCancelledError, ConnectionClosed, DNSLookupError
from twisted.web.client import RequestGenerationFailed, RequestTransmissionFailed, ResponseFailed

NETWORK_ERRORS = (ConnectError, ConnectingCancelledError, ConnectionClosed, DNSLookupError, SSL.Error)
"""What a connection that fails ends with."""

WRAPPERS = (RequestGenerationFailed, RequestTransmissionFailed, ResponseFailed)
"""What an HTTP client raises instead: the errors of the connection are inside."""


def innermost(error: Exception) -> Exception:
    """The error that C{error} wraps, through all L{WRAPPERS}; C{error} itself where it is none of them."""
    while isinstance(error, WRAPPERS) and error.reasons:
        error = error.reasons[0].value
    return error
