"""
A request whose body is consumed as it arrives, and which can be answered before its body has ended.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol
from urllib.parse import unquote_to_bytes

from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Request

from collectord.errors import ClientGone, CollectordError, MalformedReport, TooSlow
from collectord.intake.turns import Connection
from collectord.metrics import ABANDONED


class Body(Protocol):
    """What takes the body of one request."""

    @property
    def refusal(self) -> CollectordError | None:
        """Why the rest of the body is not wanted; the request is then answered at once."""

    def received(self, data: bytes) -> None:
        """Take the next bytes."""

    def refuse(self, reason: CollectordError) -> None:
        """Give the body up, and what was made of it."""


BodyFor = Callable[["StreamingRequest", int | None], Body | None]
"""
What takes the body of a request (its length in bytes, None where it is chunked): None for what has no use for a body.

The request line and the headers are known by then.
"""


class RequestSite(Protocol):
    """What a request asks of the site that it came to."""

    @property
    def body_for(self) -> BodyFor:
        """Finds what takes the body of a request."""

    def now(self) -> float:
        """The time in seconds, by a clock that is never set back."""


class RequestConnection(Connection, Protocol):
    """What a request asks of the connection that it came by."""

    @property
    def site(self) -> RequestSite:
        """The site that accepted the connection."""

    @property
    def request_line(self) -> tuple[bytes, bytes, bytes]:
        """Method, URI and version of the request whose headers have just ended."""

    def abandon_body(self) -> None:
        """Answer before the end of the body; nothing that follows is a request."""


class StreamingRequest(Request):
    """
    One request. It is given to its resource when the body is complete, or as soon as it is clear that it is refused.

    @ivar body: what took the body; the resource asks it for the result.
    @ivar began: when its headers were complete, by the clock of the site.
    """

    _log = Logger()
    channel: RequestConnection  # type: ignore[assignment]
    defaultContentType = b"text/plain; charset=utf-8"
    body: Body | None = None
    began = 0.0
    _answering = False

    def gotLength(self, length: int | None) -> None:
        """The headers are complete."""
        self.began = self.channel.site.now()
        self._know(*self.channel.request_line)
        self.body = self.channel.site.body_for(self, length)
        if length != 0 and (self.body is None or self.body.refusal is not None):
            self._answer_early()

    def handleContentChunk(self, data: bytes) -> None:
        """The next bytes of the body."""
        if self._answering or self.body is None:
            return
        self.body.received(data)
        if self.body.refusal is not None:
            self._answer_early()

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """The body is complete."""
        if not self._answering:
            self._answering = True
            self.process()

    def body_is_late(self) -> None:
        """Nobody waits for this body any longer."""
        self._refuse(TooSlow())

    def body_is_broken(self) -> None:
        """Its chunks can't be understood."""
        self._refuse(MalformedReport("invalid_payload_structure"))

    def _refuse(self, reason: CollectordError) -> None:
        if self.body is not None and not self._answering:
            self.body.refuse(reason)
            self._answer_early()

    def connectionLost(self, reason: Failure) -> None:
        """The client is gone. What is being saved by now is saved nevertheless."""
        if self.body is not None and not self._answering:
            self.body.refuse(ClientGone())
            ABANDONED.inc()
            self._log.info("refused: client_gone")
        super().connectionLost(reason)

    def getRequestHostname(self) -> bytes:
        """Klein asks, and answers 500 to a C{Host} that it can't read; no route depends on it."""
        return b"localhost"

    def _know(self, method: bytes, uri: bytes, version: bytes) -> None:
        self.method, self.uri, self.clientproto = method, uri, version
        self.path = _readable(_path(uri))
        self.args = {}

    def _answer_early(self) -> None:
        # Without this the channel would ask for the body that is not wanted.
        self.requestHeaders.removeHeader(b"Expect")
        self.responseHeaders.setRawHeaders(b"Connection", [b"close"])
        self._answering = True
        self.channel.abandon_body()
        self.process()


def _path(uri: bytes) -> bytes:
    """Without the query, and without the scheme and host that a client of a proxy may send."""
    path = uri.partition(b"?")[0]
    if path.lower().startswith((b"http://", b"https://")):
        path = b"/" + path.split(b"/", 3)[3] if path.count(b"/") > 2 else b"/"
    return path


def _readable(path: bytes) -> bytes:
    """C{path}, or one that leads nowhere where it is not UTF-8: Klein would log a traceback."""
    try:
        unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        return b"/\xef\xbf\xbd"
    return path
