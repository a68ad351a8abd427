"""
An HTTP server on loopback, in the reactor of the test, whose answers are bytes that a test chooses.
"""

import re
from collections.abc import Mapping
from typing import Any, cast

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ITransport
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_CHUNKED = re.compile(rb"(?i)\r\ntransfer-encoding: *chunked")


@frozen
class WireRequest:
    """
    One request as it came.

    @ivar headers: names in lower case.
    @ivar body: out of its chunks, but compressed as it came.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


def answer(status: int, body: bytes = b"", *headers: bytes) -> bytes:
    """The bytes of a whole answer."""
    lines = [b"HTTP/1.1 %d Whatever" % status, b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@define(eq=False)
class WireServer:
    """
    A server that listens on a free loopback port.

    @ivar answers: what is written to each request, in order; the last one is for all others. None: nothing is.
    @ivar hangs_up: after an answer the connection is closed.
    @ivar requests: those that came whole.
    @ivar connections: those that are open.
    @ivar opened: how many connections there were.
    """

    answers: list[bytes | None] = field(factory=list)
    hangs_up: bool = False
    requests: list[WireRequest] = field(factory=list)
    connections: list["_Connection"] = field(factory=list)
    opened: int = 0
    _waiting: list[tuple[Any, Deferred[None]]] = field(factory=list)
    _port: Any = None

    def listen(self, reactor: Any) -> None:
        self._port = reactor.listenTCP(0, Factory.forProtocol(lambda: _Connection(self)), interface="127.0.0.1")

    def url(self, path: str = "/submit") -> str:
        return f"http://127.0.0.1:{self._port.getHost().port}{path}"

    async def close(self) -> None:
        for connection in list(self.connections):
            cast(Any, connection.transport).abortConnection()
        await self._port.stopListening()
        await self.until(lambda: not self.connections)

    def until(self, condition: Any) -> Deferred[None]:
        """Fires once C{condition} holds: it is looked at when something comes, or a connection begins or ends."""
        done: Deferred[None] = Deferred()
        self._waiting.append((condition, done))
        self.look()
        return done

    def look(self) -> None:
        """Tell those who wait for what is so now."""
        for each in list(self._waiting):
            if each[0]():
                self._waiting.remove(each)
                each[1].callback(None)

    def received(self, request: WireRequest, transport: ITransport) -> None:
        self.requests.append(request)
        chosen = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if chosen is not None:
            transport.write(chosen)
            if self.hangs_up:
                transport.loseConnection()
        self.look()


class _Connection(Protocol):
    def __init__(self, server: WireServer) -> None:
        self._server = server
        self._received = b""

    def connectionMade(self) -> None:
        self._server.connections.append(self)
        self._server.opened += 1
        self._server.look()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._server.connections.remove(self)
        self._server.look()

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        while (request := self._whole()) is not None:
            assert self.transport is not None
            self._server.received(request, self.transport)

    def _whole(self) -> WireRequest | None:
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
        return WireRequest(method, target, {name.lower(): value for name, value in headers.items()}, body)


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
