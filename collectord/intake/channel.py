"""
A connection to a client, on top of Twisted's: it can answer before it has read the whole body.

An answer before the end of the body needs a lingering close. The answer is sent, the sending side is closed, and what
the client still sends is read and dropped for a while. Otherwise a client that is still sending would see a reset, and
never read its answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.interfaces import IAddress, IHalfCloseableDescriptor, IHalfCloseableProtocol, ISSLTransport
from twisted.internet.protocol import connectionDone
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from zope.interface import implementer

from collectord.intake.chunks import ChunkedDecoder, MalformedChunks
from collectord.intake.incoming import Incoming
from collectord.intake.outgoing import BAD_REQUEST, Outgoing, Transport
from collectord.intake.states import PARSING, TRANSITIONS, Event, State
from collectord.intake.timeouts import ConnectionSite, Progress
from collectord.net.twisted_private import HTTPConnection

_HEADERS_END = b"\r\n\r\n"
_MOST_LINES = 1000
"""Lines that the headers of one request may have, those that only continue a header included."""


@implementer(IHalfCloseableProtocol)
class StreamingChannel(HTTPConnection):
    """
    One connection of a client. All of it is for the reactor thread.

    Its site asks it now and then whether it L{is_overdue}, since a timer for each connection would cost more.

    @ivar state: what the connection is doing. Only L{_handle} changes it, by the table L{TRANSITIONS}.
    @ivar incoming: decides when the connection reads from its client.
    """

    site: ConnectionSite
    transport: Transport  # type: ignore[assignment]
    timeOut = None

    state = State.WAITING
    incoming: Incoming
    _progress: Progress
    _outgoing: Outgoing
    _chunks: ChunkedDecoder | None = None
    _request_line = b""
    _header_lines = 0
    _is_half_closed = False
    _host: IAddress | None = None

    def _handle(self, event: Event) -> bool:
        """@return: whether C{event} is allowed in the current state; if so, the one that follows is entered."""
        step = _STEPS[self.state].get(event)
        if step is None:
            return False
        self.state, enter = step
        self._progress.restart(self.site.now())
        if enter is not None:
            enter(self)
        return True

    def _wait(self) -> None:
        self._request_line = b""
        self._header_lines = 0

    def _receive(self) -> None:
        self._progress.begin_body()

    def _refuse(self) -> None:
        self.clearLineBuffer()
        self.persistent = False

    def _linger(self) -> None:
        self.clearLineBuffer()
        half_closeable: Any = IHalfCloseableDescriptor(self.transport, None)
        # TLS can't close one side only: the client would see a broken stream. The answer's length tells where it ends.
        if half_closeable is not None and not ISSLTransport.providedBy(self.transport):
            half_closeable.loseWriteConnection()
        self.incoming.drop()

    def _close(self) -> None:
        self.clearLineBuffer()
        super().loseConnection()

    def _abort(self) -> None:
        self.clearLineBuffer()
        self.transport.abortConnection()

    # ——— what the client sends ———

    def connectionMade(self) -> None:
        super().connectionMade()
        now = self.site.now()
        self._progress = Progress(now, now)
        self.incoming = Incoming(self.transport, self.site, self._progress)
        self._outgoing = Outgoing()
        self.site.connected(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._handle(Event.CONNECTION_LOST)
        self.clearLineBuffer()
        self.site.disconnected(self)
        super().connectionLost(reason)

    def readConnectionLost(self) -> None:
        """The client has closed its sending side. It may still wait for an answer."""
        self._is_half_closed = True
        self._close_if_client_has()

    def _close_if_client_has(self) -> None:
        if self._is_half_closed and not (self.is_parsing or self.paused):  # everything that it has sent is parsed
            self._handle(Event.HALF_CLOSED)

    def writeConnectionLost(self) -> None:
        """Our sending side is closed, which was our own doing."""

    def dataReceived(self, data: bytes) -> None:
        progress = self._progress
        progress.last_byte = now = self.site.now()
        if self.state is State.WAITING and not progress.received:
            progress.since = now  # the time for the headers begins with their first byte
        progress.received += len(data)
        if self.is_parsing:
            LineReceiver.dataReceived(self, data)  # keeps it until the bytes before it are parsed
        elif self.state in PARSING:
            self.site.turns.begin(now)
            body = data.find(_HEADERS_END) + len(_HEADERS_END) if self.state is State.WAITING else 0
            if len(_HEADERS_END) <= body < len(data):
                # For each line Twisted copies all that comes after it, so it gets the headers alone, and then the body.
                LineReceiver.dataReceived(self, data[:body])
                if self.state not in PARSING:
                    return
                data = data[body:]
            LineReceiver.dataReceived(self, data)
        elif progress.received > self.site.limits.linger_bytes:
            self._handle(Event.FLOODED)

    def lineReceived(self, line: bytes) -> None:
        self._header_lines += 1
        if self._header_lines > _MOST_LINES:
            self.bad_request()
            return
        if not self._request_line:  # an empty line may come before it
            self._request_line = line
        try:
            super().lineReceived(line)
        except ValueError:  # a Content-Length of thousands of digits
            if self.state is not State.WAITING:
                raise
            self.bad_request()

    def lineLengthExceeded(self, line: bytes) -> None:
        self.bad_request()

    def allHeadersReceived(self) -> None:
        request = self.requests[-1]
        # Twisted's own decoder is not used: it takes 30 ms for 64 KiB of tiny chunks.
        self._chunks = ChunkedDecoder(request.handleContentChunk, self._chunks_ended) if self.length is None else None
        self._handle(Event.HEADERS_COMPLETE)
        super().allHeadersReceived()
        if request.requestHeaders.hasHeader(b"Expect"):
            self._outgoing.is_behind = True  # "100 Continue" may wait in the transport

    def rawDataReceived(self, data: bytes) -> None:
        if self._chunks is None or self.state is not State.RECEIVING:
            super().rawDataReceived(data)
            return
        try:
            self._chunks.dataReceived(data)
        except MalformedChunks:
            self.bad_request()

    def _chunks_ended(self, rest: bytes) -> None:
        self.allContentReceived()
        if rest:
            self.dataReceived(rest)
            self._share_time()

    def allContentReceived(self) -> None:
        if self._handle(Event.BODY_COMPLETE):
            super().allContentReceived()

    def bad_request(self) -> None:
        if self.state is State.WAITING:
            self.transport.write(BAD_REQUEST)
        if self._handle(Event.MALFORMED) and self.state is State.REFUSING:
            self.requests[-1].body_is_broken()

    # ——— what the request asks ———

    @property
    def request_line(self) -> tuple[bytes, bytes, bytes]:
        """Method, URI and version of the request whose headers have just ended."""
        method, uri, version = self._request_line.split(b" ")
        return method, uri, version

    def abandon_body(self) -> None:
        """Prepare for an answer before the end of the body. Nothing that the client sends then is a request."""
        self._handle(Event.BODY_UNWANTED)

    def getHost(self) -> IAddress:
        if self._host is None:
            self._host = super().getHost()
        return self._host

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        if self.site.is_last_answer:
            self.persistent = False
            headers.setRawHeaders(b"Connection", [b"close"])
        self._outgoing.begin(version, code, reason, headers)

    def write(self, data: bytes) -> None:
        self._outgoing.add(data)

    def requestDone(self, request: object) -> None:
        self._outgoing.send(self.transport)
        self._handle(Event.ANSWERED)
        super().requestDone(request)
        self._share_time()
        self._close_if_client_has()

    def loseConnection(self) -> None:
        self._handle(Event.CLOSE)

    # ——— sharing the reactor's time ———

    def _share_time(self) -> None:
        """Before the next of several pipelined requests, let other connections have their turn, if it is time."""
        if self.paused or self.state is not State.WAITING or not self.site.turns.is_over():
            return
        if requests := self.clearLineBuffer():
            self.paused = True
            LineReceiver.dataReceived(self, requests)  # puts them back, and parses nothing while paused
            self.incoming.pause()
            self.site.turns.wait(self._go_on)

    def _go_on(self) -> None:
        self.paused = False
        if self.state in PARSING:
            self.incoming.resume()
            LineReceiver.dataReceived(self, b"")
            self._close_if_client_has()

    def pauseProducing(self) -> None:
        """The client does not read its answers. The transport calls this."""
        super().pauseProducing()
        self.incoming.hold()

    def resumeProducing(self) -> None:
        """The client has read its answers. The transport calls this."""
        super().resumeProducing()
        if self.state in PARSING:
            self._progress.restart(self.site.now())
        self.incoming.let_go()

    # ——— what the site asks ———

    def is_overdue(self, now: float) -> bool:
        """Whether the connection takes too long, judged by what has been read of it so far."""
        if self.incoming.pauses and self.state is State.RECEIVING:
            self._progress.restart(now)  # the client can't send
        return self._progress.is_overdue(self.state, now, self.site)

    def end(self) -> None:
        """End the connection, since it is overdue. A client whose body is late is told so first."""
        if self._handle(Event.OVERDUE) and self.state is State.REFUSING:
            self.requests[-1].body_is_late()

    def forgive(self, seconds: float) -> None:
        """Take time off in which this process read nothing."""
        self._progress.forgive(seconds)

    def abort(self) -> None:
        """Cut the connection off at once."""
        self._handle(Event.CUT_OFF)


_ENTER: Mapping[State, Callable[[StreamingChannel], None]] = {
    State.WAITING: StreamingChannel._wait,
    State.RECEIVING: StreamingChannel._receive,
    State.REFUSING: StreamingChannel._refuse,
    State.LINGERING: StreamingChannel._linger,
    State.CLOSING: StreamingChannel._close,
    State.TIMED_OUT: StreamingChannel._close,
    State.ABORTED: StreamingChannel._abort,
}
"""What is done when a state is entered. Nothing is, where it is not listed."""

_STEPS = {
    state: {event: (after, _ENTER.get(after)) for event, after in events.items()}
    for state, events in TRANSITIONS.items()
}
