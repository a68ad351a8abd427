"""
What a connection ends with when it does not end well.
"""

from OpenSSL import SSL
from twisted.internet.error import ConnectError, ConnectingCancelledError, ConnectionClosed, DNSLookupError
from twisted.web.client import RequestGenerationFailed, RequestTransmissionFailed, ResponseFailed

NETWORK_ERRORS = (ConnectError, ConnectingCancelledError, ConnectionClosed, DNSLookupError, SSL.Error)
WRAPPERS = (RequestGenerationFailed, RequestTransmissionFailed, ResponseFailed)
"""In which an HTTP client hands over what went wrong below."""


def innermost(error: Exception) -> Exception:
    """What C{error} wraps."""
    while isinstance(error, WRAPPERS) and error.reasons:
        error = error.reasons[0].value
    return error
