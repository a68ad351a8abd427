"""
A connection without a network: bytes go in, bytes come out, and time is a L{Clock}.
"""

from collections.abc import Callable

from attrs import define, field
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableDescriptor
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from collectord.errors import CollectordError, TooLarge
from collectord.intake.channel import StreamingChannel
from collectord.intake.request import BodyFor, StreamingRequest
from collectord.intake.site import StreamingSite
from collectord.intake.timeouts import ConnectionLimits
from tests.support.response import Response, parse_responses


@implementer(IHalfCloseableDescriptor)
class Wire(StringTransport):
    """A transport that can close its way out, and forbids what must not come after that."""

    half_closed = False

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def writeConnectionLost(self, reason: Failure) -> None:
        raise AssertionError

    def readConnectionLost(self, reason: Failure) -> None:
        raise AssertionError

    def write(self, data: bytes) -> None:
        closed = self.half_closed or self.disconnecting
        assert not closed, data
        super().write(data)

    def writeSequence(self, data: list[bytes]) -> None:
        self.write(b"".join(data))


@define
class Client:
    """The other end of one connection."""

    channel: StreamingChannel
    wire: Wire
    gone: bool = False

    def send(self, data: bytes, *, piece: int = 65536) -> None:
        for at in range(0, len(data), piece):
            assert not self.closed
            self.channel.dataReceived(data[at : at + piece])

    def hang_up(self) -> None:
        self.gone = True
        self.channel.connectionLost(Failure(ConnectionDone()))

    @property
    def received(self) -> bytes:
        return bytes(self.wire.value())

    @property
    def responses(self) -> list[Response]:
        """All of them, whole."""
        return parse_responses(self.received, ended=False) if self.received else []

    @property
    def response(self) -> Response:
        (response,) = self.responses
        return response

    @property
    def closed(self) -> bool:
        return bool(self.wire.disconnecting)

    @property
    def aborted(self) -> bool:
        return bool(self.wire.disconnected)

    @property
    def lingering(self) -> bool:
        """The answer is out, and what still comes in is read."""
        return self.wire.half_closed and not self.closed and self.wire.producerState == "producing"

    @property
    def paused(self) -> bool:
        return bool(self.wire.producerState == "paused")


@define
class PausablePort:
    """A port."""

    moves: list[str] = field(factory=list)

    def stopReading(self) -> None:
        self.moves.append("shut")

    def startReading(self) -> None:
        self.moves.append("open")


@define(eq=False)
class StubBody:
    """Takes C{limit} bytes."""

    limit: int = 1_000_000
    refusal: CollectordError | None = None
    data: bytes = b""
    refused: list[CollectordError] = field(factory=list)

    def received(self, data: bytes) -> None:
        assert self.refusal is None
        self.data += data
        if len(self.data) > self.limit:
            self.refusal = TooLarge()

    def refuse(self, reason: CollectordError) -> None:
        self.refused.append(reason)
        self.refusal = self.refusal or reason


class StubResource(Resource):
    """Answers with what it got; later, where it is told so."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[StreamingRequest] = []
        self.later = False

    def render(self, request: StreamingRequest) -> bytes | int:
        self.requests.append(request)
        if self.later:
            return NOT_DONE_YET
        return self.answer(request)

    def answer(self, request: StreamingRequest) -> bytes:
        body = request.body
        assert body is None or isinstance(body, StubBody)
        refusal = body.refusal if body is not None else None
        request.setResponseCode(404 if body is None else 200 if refusal is None else 400)
        said = b"%s %s %s" % (request.method, request.uri, request.clientproto)
        content = b"%s %s" % (said, str(refusal).encode() if refusal is not None else body.data if body else b"-")
        request.setHeader(b"content-length", b"%d" % len(content))
        return content

    def answer_now(self, at: int = -1) -> None:
        request = self.requests[at]
        request.write(self.answer(request))
        request.finish()


@define
class Server:
    """A site on a clock."""

    site: StreamingSite
    clock: Clock
    port: PausablePort
    clients: list[Client] = field(factory=list)

    def connect(self) -> Client:
        channel = self.site.buildProtocol(None)
        assert isinstance(channel, StreamingChannel)
        wire = Wire()
        channel.makeConnection(wire)
        client = Client(channel, wire)
        self.clients.append(client)
        return client

    def wait(self, seconds: float, step: float = 0.25) -> None:
        for _ in range(round(seconds / step)):
            self.clock.advance(step)

    def stop(self) -> None:
        for client in self.clients:
            if not client.gone:
                client.hang_up()
        self.site.stopFactory()
        assert self.clock.getDelayedCalls() == []


def serve(
    resource: IResource,
    body_for: BodyFor,
    *,
    idle: float = 30.0,
    keep_alive: float = 130.0,
    min_rate: int = 0,
    free: float = 0.0,
    linger_bytes: int = 1_000_000,
    max_connections: int = 100,
) -> Server:
    clock = Clock()
    clock.advance(1000)
    site = StreamingSite(
        resource,
        body_for,
        limits=ConnectionLimits(
            idle=idle, keep_alive=keep_alive, min_rate=min_rate, free=free, linger=10.0, linger_bytes=linger_bytes
        ),
        max_connections=max_connections,
        clock=clock,
    )
    site.startFactory()
    port = PausablePort()
    site.guard(port)
    site.open()
    return Server(site, clock, port)


Serve = Callable[..., Server]
