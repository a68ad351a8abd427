"""
The errors of outgoing connections, and how to find them in what an HTTP client raises.
"""

from OpenSSL import SSL
from twisted.internet.error import ConnectError, ConnectingCancelledError, ConnectionClosed, DNSLookupError
from twisted.web.client import RequestGenerationFailed, RequestTransmissionFailed, ResponseFailed

NETWORK_ERRORS = (ConnectError, ConnectingCancelledError, ConnectionClosed, DNSLookupError, SSL.Error)
"""What a connection that fails ends with."""

WRAPPING_ERRORS = (RequestGenerationFailed, RequestTransmissionFailed, ResponseFailed)
"""Twisted's HTTP client raises one of these. The errors of the connection, or of a cancel, are in its C{reasons}."""


def innermost_error(error: Exception) -> Exception:
    """
    Unwrap C{error}: return the first reason of a wrapping error, and of that one's if it wraps another.

    An error that wraps none is returned as it is.
    """
    while isinstance(error, WRAPPING_ERRORS) and error.reasons:
        error = error.reasons[0].value
    return error
