"""
A request whose body is processed while it arrives, and which can be answered before its body has ended.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from time import time
from typing import Protocol
from urllib.parse import unquote_to_bytes

from twisted.internet.interfaces import IAddress
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import datetimeToString
from twisted.web.resource import IResource
from twisted.web.server import Request

from collectord.errors import ClientGone, CollectordError, MalformedReport, TooSlow
from collectord.intake.turns import Connection
from collectord.metrics import ABANDONED


class Body(Protocol):
    """Takes the body of one request, piece by piece."""

    @property
    def refusal(self) -> CollectordError | None:
        """Why the rest of the body is not wanted. Once there is a reason, the request is answered at once."""

    def received(self, data: bytes) -> None:
        """Take the next bytes of the body."""

    def refuse(self, reason: CollectordError) -> None:
        """Give up the body, and what has been made of it. C{reason} becomes the L{refusal}, unless there is one."""


BodyFor = Callable[["StreamingRequest", int | None], Body | None]
"""
Finds what takes the body of a request; None where a body is of no use.

It is called when the headers are complete, with the request and the length of its body in bytes. The length is None
where the body is chunked.
"""


class RequestSite(Protocol):
    """What a request asks of the site that it has come to."""

    @property
    def resource(self) -> IResource:
        """Answers the requests."""

    @property
    def body_for(self) -> BodyFor:
        """Finds what takes the body of a request."""

    def now(self) -> float:
        """The time in seconds, by a clock that is never set back."""


class RequestConnection(Protocol):
    """What a request asks of the connection that it has come by."""

    @property
    def site(self) -> RequestSite:
        """The site that accepted the connection."""

    @property
    def incoming(self) -> Connection:
        """What pauses it, and lets other connections have their turn."""

    @property
    def request_line(self) -> tuple[bytes, bytes, bytes]:
        """Method, URI and version of the request whose headers have just ended."""

    def getPeer(self) -> IAddress:
        """The address of the other side: of the client, or of the proxy that it comes by."""

    def loseConnection(self) -> None:
        """Close it, after what is written. The request gets no answer."""

    def abandon_body(self) -> None:
        """Prepare for an answer before the end of the body. Nothing that the client sends then is a request."""


class StreamingRequest(Request):
    """
    One request. Its resource answers it when the body is complete, or as soon as the body is refused.

    @ivar body: what takes the body; the resource asks it for the result. None where a body is of no use.
    @ivar began: when the headers were complete, in seconds by the clock of the site.
    @ivar is_abandoned: the client has gone, and nobody hears the answer.
    """

    _log = Logger()
    channel: RequestConnection  # type: ignore[assignment]
    defaultContentType = b"text/plain; charset=utf-8"
    body: Body | None = None
    began = 0.0
    is_abandoned = False
    _answering = False

    def gotLength(self, length: int | None) -> None:
        """The headers are complete. Twisted calls this with the length of the body; None where it is chunked."""
        self.began = self.channel.site.now()
        self._know(*self.channel.request_line)
        self.body = self.channel.site.body_for(self, length)
        if length != 0 and (self.body is None or self.body.refusal is not None):
            self._answer_early()

    def handleContentChunk(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        if self._answering or self.body is None:
            return
        self.body.received(data)
        if self.body.refusal is not None:
            self._answer_early()

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """The body is complete: have the request answered, unless that has been done."""
        if not self._answering:
            self._answering = True
            self.process()

    def process(self) -> None:
        """Have the request answered. What takes its body was found by its path, so that is not looked up again."""
        if self.body is None:
            super().process()
            return
        self.site = self.channel.site  # type: ignore[assignment]
        self.setHeader(b"date", _date(int(time())))
        try:
            self.render(self.channel.site.resource)
        except Exception:
            self.processingFailed(Failure())

    def body_is_late(self) -> None:
        """Refuse the body since it comes too slowly."""
        self._refuse(TooSlow())

    def body_is_broken(self) -> None:
        """Refuse the body since its chunks are malformed."""
        self._refuse(MalformedReport("invalid_payload_structure"))

    def _refuse(self, reason: CollectordError) -> None:
        if self.body is not None and not self._answering:
            self.body.refuse(reason)
            self._answer_early()

    def connectionLost(self, reason: Failure) -> None:
        """The client has gone. A crash that is already being saved is saved nevertheless."""
        if self.body is not None and not self._answering:
            self.body.refuse(ClientGone())
            ABANDONED.inc()
            self._log.info("refused: client_gone")
        self.is_abandoned = True
        super().connectionLost(reason)

    def getRequestHostname(self) -> bytes:
        """A fixed name: Klein would answer 500 to a C{Host} header that it can't decode, and no route depends on it."""
        return b"localhost"

    def _know(self, method: bytes, uri: bytes, version: bytes) -> None:
        self.method, self.uri, self.clientproto = method, uri, version
        self.path = _readable(_path(uri))
        self.args = {}

    def _answer_early(self) -> None:
        # Twisted would answer "100 Continue" to this header, and so ask for the body that is not wanted.
        self.requestHeaders.removeHeader(b"Expect")
        self.responseHeaders.setRawHeaders(b"Connection", [b"close"])
        self._answering = True
        self.channel.abandon_body()
        self.process()


@lru_cache(maxsize=1)
def _date(second: int) -> bytes:
    date: bytes = datetimeToString(second)
    return date


def _path(uri: bytes) -> bytes:
    """The path in C{uri}, without the query, and without the scheme and host that a client of a proxy may send."""
    path = uri.partition(b"?")[0]
    if path.lower().startswith((b"http://", b"https://")):
        path = b"/" + path.split(b"/", 3)[3] if path.count(b"/") > 2 else b"/"
    return path


def _readable(path: bytes) -> bytes:
    """C{path}; where it is not UTF-8, another path that has no route, since Klein would log a traceback."""
    try:
        unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        return b"/\xef\xbf\xbd"
    return path
