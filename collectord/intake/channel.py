"""
A connection to a client, on top of Twisted's: it can answer before it has read the body, and it knows its own age.

An answer that comes before the end of the body needs a lingering close: say it, close the way out, and go on reading
for a while. Otherwise a client that still sends sees a reset and never reads the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from attrs import frozen
from twisted.internet.interfaces import IAddress, IHalfCloseableDescriptor, IHalfCloseableProtocol, ISSLTransport
from twisted.internet.protocol import connectionDone
from twisted.internet.tcp import Connection
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, _ChunkedTransferDecoder
from twisted.web.http_headers import Headers
from zope.interface import implementer

from collectord.intake.chunks import ChunkedDecoder, MalformedChunks

if TYPE_CHECKING:
    from collectord.intake.site import StreamingSite


_BAD_REQUEST = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 12\r\nConnection: close\r\n\r\n"
    b"Bad request\n"
)


_LAST_CHANCE_S = 0.5
"""At the end, a client that has sent nothing for so long will not have begun a request."""


_MOST_LINES = 1000
"""Of the headers of a request, those that only continue one included."""


class Transport(Protocol):
    """What a connection needs of its transport, plain or TLS."""

    def write(self, data: bytes) -> None: ...

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...

    def loseConnection(self) -> None: ...

    def abortConnection(self) -> None: ...


@frozen(kw_only=True)
class ConnectionLimits:
    """
    How long a connection may take.

    @ivar idle: seconds without a byte; also the longest that the headers may take.
    @ivar min_rate: bytes per second of a body, over a window of C{idle} seconds; 0 is off.
    @ivar free: seconds at the beginning of a body in which its rate does not count, unless others wait to get in.
    @ivar linger: seconds after an early answer.
    @ivar linger_bytes: after an early answer.
    """

    idle: float
    min_rate: int = 0
    free: float = 60.0
    linger: float = 10.0
    linger_bytes: int = 64 * 1024 * 1024


@implementer(IHalfCloseableProtocol)
class StreamingChannel(HTTPChannel):
    """One connection. The site's sweep asks L{is_overdue} now and then: a timer for each would cost more."""

    site: StreamingSite
    transport: Transport  # type: ignore[assignment]
    timeOut = None

    _host: IAddress | None = None
    _unsent: Sequence[bytes] = ()
    _in_order = True  # nothing waits in the transport, so that a send of ours overtakes nothing
    _pauses = 0
    _lines = 0  # of the headers
    _body_abandoned = False
    _lingering = False
    _client_is_silent = False
    _closing = False
    in_body = False
    _received = 0  # bytes since the mark
    _marked = 0.0
    _last_byte = 0.0
    _body_began = 0.0

    @property
    def request_line(self) -> tuple[bytes, bytes, bytes]:
        """Method, URI and version of the request whose headers just ended."""
        return self._command, self._path, self._version

    def connectionMade(self) -> None:
        super().connectionMade()
        self._mark()
        self.site.connected(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.site.disconnected(self)
        self.clearLineBuffer()
        super().connectionLost(reason)

    def dataReceived(self, data: bytes) -> None:
        self._last_byte = now = self.site.now()
        if not (self._received or self.in_body or self._lingering):
            self._marked = now  # the headers have their time from their first byte
        self._received += len(data)
        if not self._busyReceiving:
            self.site.turns.begin(now)
        if self._lingering:
            if self._received > self.site.limits.linger_bytes:
                self.transport.abortConnection()
        else:
            LineReceiver.dataReceived(self, data)

    def lineReceived(self, line: bytes) -> None:
        self._lines += 1
        if self._lines > _MOST_LINES:
            self._respondToBadRequestAndDisconnect()
        if self._body_abandoned:
            self.setRawMode()  # or each of the lines that follow would cost a copy of all that come after it
        else:
            super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        self._respondToBadRequestAndDisconnect()

    def rawDataReceived(self, data: bytes) -> None:
        if not self._body_abandoned:
            try:
                super().rawDataReceived(data)
            except MalformedChunks:
                self._respondToBadRequestAndDisconnect()

    def _maybeChooseTransferDecoder(self, header: bytes, data: bytes) -> bool:
        chosen = bool(super()._maybeChooseTransferDecoder(header, data))
        decoder = self._transferDecoder
        if isinstance(decoder, _ChunkedTransferDecoder):  # it takes 30 ms for 64 KiB of tiny chunks
            self._transferDecoder = ChunkedDecoder(decoder.dataCallback, decoder.finishCallback)
        return chosen

    def allHeadersReceived(self) -> None:
        self.in_body = True
        self._lines = 0
        self._mark()
        self._body_began = self._marked
        super().allHeadersReceived()

    def allContentReceived(self) -> None:
        if not self._body_abandoned:
            self.in_body = False
            super().allContentReceived()

    def requestDone(self, request: object) -> None:
        self._mark()
        self._send()
        super().requestDone(request)
        if self._buffer and not self.paused and self.rest(self._go_on):
            self.paused = True  # the next of many pipelined requests
            self.pause()
        if self._client_is_silent and not self._handlingRequest:
            self.loseConnection()

    def _go_on(self) -> None:
        self.paused = False
        self.resume()
        LineReceiver.dataReceived(self, b"")

    def rest(self, go_on: Callable[[], None]) -> bool:
        """Whether its share of the reactor's time is used up; C{go_on} is then called when its next turn comes."""
        if not self.site.turns.is_over():
            return False
        self.site.turns.wait(go_on)
        return True

    def readConnectionLost(self) -> None:
        """The client closed its way out; it may well wait for its answer."""
        self._client_is_silent = True
        if not self._handlingRequest or self._lingering:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Our way out is closed."""

    def getHost(self) -> IAddress:
        if self._host is None:
            self._host = super().getHost()
        return self._host

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        if self.site.ending or self.site.draining:
            self.persistent = False
            headers.setRawHeaders(b"Connection", [b"close"])
        # Kept until the answer is complete: one send for all of it, and none by way of the poll.
        lines = [version, b" ", code, b" ", reason, b"\r\n"]
        for name, values in headers.getAllRawHeaders():
            for value in values:
                lines += (name, b": ", value, b"\r\n")
        self._unsent = [*lines, b"\r\n"]

    def write(self, data: bytes) -> None:
        self._unsent = [*self._unsent, data]

    def _send(self) -> None:
        answer, self._unsent = b"".join(self._unsent), ()
        transport = self.transport
        if self._in_order and isinstance(transport, Connection) and transport.connected:
            sent = transport.writeSomeData(answer)
            answer = answer[sent:] if isinstance(sent, int) else b""
        if answer:
            self._in_order = False
            transport.write(answer)

    def _send100Continue(self) -> None:
        self._in_order = False
        super()._send100Continue()

    def headerReceived(self, line: bytes) -> bool:
        try:
            return bool(super().headerReceived(line))
        except ValueError:  # a Content-Length of thousands of digits
            self._respondToBadRequestAndDisconnect()
            return False

    def _respondToBadRequestAndDisconnect(self) -> None:
        # Twisted's own answer has no length and resets whoever still sends.
        if self.in_body:
            self.requests[-1].body_is_broken()
        elif not self._body_abandoned:
            self.transport.write(_BAD_REQUEST)
            self.abandon_body()
            self._linger()

    def pause(self) -> None:
        """Read nothing more from the client. Holds are counted; none of them lets the client look slow."""
        self._pauses += 1
        if self._pauses == 1 and not self._lingering:
            self.transport.pauseProducing()

    def resume(self) -> None:
        """Take one hold back."""
        self._pauses -= 1
        if self._pauses == 0 and not self._lingering:
            self._mark()
            self.transport.resumeProducing()

    def abandon_body(self) -> None:
        """The answer comes before the end of the body; nothing that follows is a request."""
        self._body_abandoned = True
        self.in_body = False
        self.persistent = False

    def loseConnection(self) -> None:
        if not self._body_abandoned:
            super().loseConnection()
        elif not self._lingering:
            self._linger()

    def _linger(self) -> None:
        self._lingering = True
        self._mark()
        half_closeable: Any = IHalfCloseableDescriptor(self.transport, None)
        # TLS has no half close: below it the client would see its stream cut off. It knows the answer's length.
        if half_closeable is not None and not ISSLTransport.providedBy(self.transport):
            half_closeable.loseWriteConnection()
        self.transport.resumeProducing()

    def _mark(self) -> None:
        self._received = 0
        self._marked = self._last_byte = self.site.now()

    def is_overdue(self, now: float) -> bool:
        """Whether it takes too long, by what was read of it so far."""
        limits = self.site.limits
        if self._closing:
            return True
        if self._lingering:
            return now - self._marked > limits.linger
        if self.in_body:
            if self._pauses:
                self._mark()
            return now - self._last_byte > limits.idle or self._is_slow(now)
        return not (self._handlingRequest or self._body_abandoned) and now - self._marked > self._idle_limit()

    def end(self) -> None:
        """Close what takes too long."""
        if self._closing:
            self.transport.abortConnection()
        elif self.in_body:
            self.requests[-1].body_is_late()
        else:
            self._close()

    def forgive(self, seconds: float) -> None:
        """For so long nobody read what it sent."""
        self._marked += seconds
        self._last_byte += seconds
        self._body_began += seconds

    def _idle_limit(self) -> float:
        idle = self.site.limits.idle
        return min(idle, _LAST_CHANCE_S) if self.site.ending else idle

    def _is_slow(self, now: float) -> bool:
        limits = self.site.limits
        elapsed = now - self._marked
        if not limits.min_rate or elapsed < limits.idle:
            return False
        judged_from = self._body_began if self.site.is_full else self._body_began + limits.free
        if self._marked >= judged_from and self._received < limits.min_rate * elapsed:
            return True
        if now >= judged_from:  # a new window
            last_byte = self._last_byte
            self._mark()
            self._last_byte = last_byte
        return False

    def _close(self) -> None:
        # A flush that the client never reads would keep the socket for ever: the next sweep aborts it.
        self._closing = True
        self.transport.loseConnection()
