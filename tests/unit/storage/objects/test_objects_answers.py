"""
The head of an answer, in all forms that servers send it in, as the library of Python reads it.
"""

import http.client
import socket

import pytest

from collectord.storage.objects.answers import Headers, HeadReader
from tests.support.cases import for_each

ANSWERS = [
    b'HTTP/1.1 200 OK\r\nETag: "a:b"\r\nContent-Length: 3\r\n\r\nyes',
    b"HTTP/1.1 200 OK\nServer:x\ncontent-length:3\n\nyes",
    b"HTTP/1.1 200\r\nContent-Length: 3\r\n\r\nyes",
    b"HTTP/1.1 404 Not  Found\r\nContent-Length: 3\r\nContent-Length: 7\r\n\r\nyes",
    b"HTTP/1.1 200 OK\r\nX-Long: a\r\n  b\r\n\tc\r\nContent-Length: 3\r\n\r\nyes",
    b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 3\r\n\r\nyes",
    b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nyes",
    b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 3\r\n\r\nyes",
    b"HTTP/1.0 200 OK\r\nKeep-Alive: timeout=5\r\nContent-Length: 3\r\n\r\nyes",
    b"HTTP/1.1 200 OK\r\n\r\nyes",
    b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nyes",
    b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nyes",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\nHTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nContent-Length: 9\r\n\r\n3\r\nyes\r\n0\r\nX: y\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Type: Text/HTML; charset=x\r\nContent-Length: 3\r\n\r\nyes",
]
BROKEN = [
    b"",
    b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70000 + b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 101 + b"\r\n",
    b"SSH-2.0\r\n",
    b"HTTP/1.1 two OK\r\n\r\n",
    b"HTTP/1.1 99 OK\r\n\r\n",
    b"HTTP/2 200 OK\r\n\r\n",
]


def begun(kind: type[http.client.HTTPResponse], answer: bytes, method: str) -> http.client.HTTPResponse:
    """It has read the head of C{answer}."""
    ours, other = socket.socketpair()
    with ours, other:
        other.sendall(answer)
        other.shutdown(socket.SHUT_WR)
        response = kind(ours, method=method)
        try:
            response.begin()
        except BaseException:
            response.close()
            raise
        return response


@for_each("answer", ANSWERS)
def test_it_is_read_as_the_library_reads_it(answer: bytes) -> None:
    for method in ("GET", "HEAD"):
        expected, found = (begun(kind, answer, method) for kind in (http.client.HTTPResponse, HeadReader))
        assert isinstance(found, HeadReader)
        for name in ("status", "version", "chunked", "length", "will_close"):
            assert getattr(found, name) == getattr(expected, name), name
        assert found.reason.split() == expected.reason.split()
        for name, value in expected.headers.items():
            assert found.head.get(name).split() == expected.headers[name].split(), value
        assert found.read() == expected.read()


@for_each("answer", BROKEN)
def test_what_the_library_refuses_is_refused(answer: bytes) -> None:
    for kind in (http.client.HTTPResponse, HeadReader):
        with pytest.raises(http.client.HTTPException):
            begun(kind, answer, "GET")


def test_a_head_that_ends_in_its_middle_is_refused() -> None:
    with pytest.raises(http.client.RemoteDisconnected):
        begun(HeadReader, b"HTTP/1.1 200 OK\r\nETag: x\r\n", "GET")


def test_headers() -> None:
    headers = Headers.of([" lost", "Content-Type: Text/HTML; charset=x", "no colon", " neither", "a: 1", "A: 2", "  3"])
    assert (headers.content_type, headers.get("a"), headers.has("A"), headers.has("b")) == (
        "text/html",
        "1",
        True,
        False,
    )
    assert (headers.get("b"), headers.get("b", "c"), Headers().content_type) == ("", "c", "")
