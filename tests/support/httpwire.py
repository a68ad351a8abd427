"""
An HTTP server on loopback, in the reactor of the test, whose answers are bytes that a test chooses.
"""

import re

from attrs import define, field
from twisted.internet.interfaces import ITransport

from tests.support.loopback import LoopbackConnection, LoopbackServer
from tests.support.recording import Request

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_CHUNKED = re.compile(rb"(?i)\r\ntransfer-encoding: *chunked")


def answer(status: int, body: bytes = b"", *headers: bytes) -> bytes:
    """The bytes of a whole answer."""
    lines = [b"HTTP/1.1 %d Whatever" % status, b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@define(eq=False)
class WireServer(LoopbackServer["_Connection"]):
    """
    An HTTP server.

    @ivar answers: what is written to each request, in order; the last one is for all others. None: nothing is.
    @ivar hangs_up: after an answer the connection is closed.
    @ivar requests: those that came whole.
    """

    answers: list[bytes | None] = field(factory=list)
    hangs_up: bool = False
    requests: list[Request] = field(factory=list)

    def connection(self) -> "_Connection":
        return _Connection(self)

    def url(self, path: str = "/submit") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def received(self, request: Request, transport: ITransport) -> None:
        self.requests.append(request)
        chosen = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if chosen is not None:
            transport.write(chosen)
            if self.hangs_up:
                transport.loseConnection()
        self.look()


class _Connection(LoopbackConnection):
    def __init__(self, server: WireServer) -> None:
        super().__init__(server)
        self._wire = server
        self._received = b""

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        while (request := self._whole()) is not None:
            assert self.transport is not None
            self._wire.received(request, self.transport)

    def _whole(self) -> Request | None:
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end:
            return None
        if _CHUNKED.search(head):
            body, rest = _from_chunks(rest)
        else:
            length = int(found[1]) if (found := _LENGTH.search(head)) else 0
            body, rest = (rest[:length], rest[length:]) if len(rest) >= length else (None, rest)
        if body is None:
            return None
        self._received = rest
        first, *lines = head.decode().split("\r\n")
        method, target, _ = first.split()
        headers = dict(line.split(": ", 1) for line in lines)
        return Request(method, target, {name.lower(): value for name, value in headers.items()}, body)


def _from_chunks(data: bytes) -> tuple[bytes | None, bytes]:
    """The body that C{data} begins with, and what follows it; None while it is not whole."""
    body = b""
    while True:
        size, end, rest = data.partition(b"\r\n")
        if not end or len(rest) < int(size, 16) + 2:
            return None, data
        body, data = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        if int(size, 16) == 0:
            return body, data
