"""
Tells whether a request comes from this host.
"""

from ipaddress import ip_address

from twisted.web.server import Request

_FORWARDED = (b"forwarded", b"via", b"x-real-ip")
_FORWARDED_BEGIN = b"x-forwarded-"


def is_forwarded(request: Request) -> bool:
    """Tell whether a proxy says that it passes the request on for somebody else."""
    names = (name.lower() for name, _ in request.requestHeaders.getAllRawHeaders())
    return any(name in _FORWARDED or name.startswith(_FORWARDED_BEGIN) for name in names)


def is_near(request: Request) -> bool:
    """Tell whether the client is on this host, as far as can be seen: a proxy here need not say for whom it asks."""
    if is_forwarded(request):
        return False
    host = getattr(request.getClientAddress(), "host", None)
    if host is None:  # a unix socket
        return True
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
