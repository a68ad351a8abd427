"""
Makes answers of known length, for both ports, since some clients can't read an answer in chunks.
"""

import json

from twisted.web.iweb import IRequest

JSON = b"application/json"


def answer(request: IRequest, content_type: bytes, content: bytes) -> bytes:
    """Set the headers of C{request} for C{content}, and return C{content}, for a route to return it."""
    request.setHeader(b"content-type", content_type)
    request.setHeader(b"content-length", b"%d" % len(content))
    return content


def no_store(request: IRequest) -> IRequest:
    """Forbid proxies to keep the answer to C{request}, since another one may be true a moment later."""
    request.setHeader(b"cache-control", b"no-store")
    return request


def text(request: IRequest, status: int, body: str, content_type: bytes = b"text/plain; charset=utf-8") -> bytes:
    """Answer C{request} with a status and a text; see L{answer}."""
    request.setResponseCode(status)
    request.setHeader(b"server", b"collectord")
    return answer(request, content_type, body.encode())


def json_text(request: IRequest, status: int, value: object) -> bytes:
    """Answer C{request} with a status and C{value} as JSON; see L{answer}."""
    return text(request, status, json.dumps(value) + "\n", JSON)
