"""
Whole answers of known length, for both ports: some clients cannot read chunks.
"""

import json

from twisted.web.iweb import IRequest

JSON = b"application/json"


def answer(request: IRequest, content_type: bytes, content: bytes) -> bytes:
    """C{content} as a whole answer, to be returned from a route."""
    request.setHeader(b"content-type", content_type)
    request.setHeader(b"content-length", b"%d" % len(content))
    return content


def text(request: IRequest, status: int, body: str, content_type: bytes = b"text/plain; charset=utf-8") -> bytes:
    """As L{answer}, of a status and a text."""
    request.setResponseCode(status)
    request.setHeader(b"server", b"collectord")
    return answer(request, content_type, body.encode())


def json_text(request: IRequest, status: int, value: object) -> bytes:
    """As L{text}, of C{value} as JSON."""
    return text(request, status, json.dumps(value) + "\n", JSON)
