"""
What other than a POST a path of reports is asked: by browsers, whether a page of another origin may send one there.
"""

from twisted.web.iweb import IRequest

from collectord.dialects.row import Dialect
from collectord.web.responses import text

_DAY_S = b"86400"


def allow_origin(request: IRequest, dialect: Dialect) -> bool:
    """
    Let the page that has made C{request} read the answer, if C{dialect} takes reports from its origin.

    Credentials are allowed, since a browser sends no beacon in JSON otherwise. None are looked at.

    @return: whether it is allowed.
    """
    origin = request.getHeader(b"Origin")
    if origin is None or not ("*" in dialect.cors or origin.decode(errors="replace") in dialect.cors):
        return False
    request.setHeader(b"access-control-allow-origin", origin)
    request.setHeader(b"access-control-allow-credentials", b"true")
    request.setHeader(b"vary", b"Origin")
    return True


def other_method(request: IRequest, dialect: Dialect) -> bytes:
    """Answer a request that is no POST: 200 if a browser asks whether a page may send reports, otherwise 405."""
    if dialect.cors and request.method == b"OPTIONS" and allow_origin(request, dialect):
        request.setHeader(b"access-control-allow-methods", b"POST")
        headers = request.getHeader(b"Access-Control-Request-Headers")
        if headers is not None:
            request.setHeader(b"access-control-allow-headers", headers)
        request.setHeader(b"access-control-max-age", _DAY_S)
        return text(request, 200, "")
    return not_allowed(request, b"POST")


def not_allowed(request: IRequest, methods: bytes) -> bytes:
    """Answer 405: the path does not allow the method, but C{methods}."""
    request.setHeader(b"allow", methods)
    return text(request, 405, "Method not allowed\n")
