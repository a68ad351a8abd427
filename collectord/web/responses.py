"""
Whole answers of known length, for both ports: some clients cannot read chunks.
"""

import json

from twisted.web.iweb import IRequest


def text(request: IRequest, status: int, body: str) -> bytes:
    """The whole answer, to be returned from a route."""
    content = body.encode()
    request.setResponseCode(status)
    request.setHeader(b"server", b"collectord")
    request.setHeader(b"content-type", b"text/plain; charset=utf-8")
    request.setHeader(b"content-length", b"%d" % len(content))
    return content


def as_json(request: IRequest, status: int, value: object) -> bytes:
    """C{value} as a whole answer, to be returned from a route."""
    body = text(request, status, json.dumps(value) + "\n")
    request.setHeader(b"content-type", b"application/json")
    return body
