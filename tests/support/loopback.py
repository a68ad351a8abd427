"""
What servers on loopback in the reactor of a test have in common: their port, their connections, and waiting for both.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

C = TypeVar("C", bound="LoopbackConnection")


@define(eq=False)
class LoopbackServer(Generic[C]):
    """
    A server that listens on a free loopback port.

    @ivar connections: those that are open.
    @ivar opened: how many connections there were.
    """

    connections: list[C] = field(factory=list, kw_only=True)
    opened: int = field(default=0, kw_only=True)
    _waiting: list[tuple[Callable[[], object], Deferred[None]]] = field(factory=list, init=False)
    _port: Any = field(default=None, init=False)

    def connection(self) -> C:
        """A protocol for a new connection."""
        raise NotImplementedError

    def listen(self, reactor: Any) -> None:
        self._port = reactor.listenTCP(0, Factory.forProtocol(self.connection), interface="127.0.0.1")

    @property
    def port(self) -> int:
        return int(self._port.getHost().port)

    async def close(self) -> None:
        for connection in list(self.connections):
            cast(Any, connection.transport).abortConnection()
        await self._port.stopListening()
        await self.until(lambda: not self.connections)

    def until(self, condition: Callable[[], object]) -> Deferred[None]:
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


class LoopbackConnection(Protocol):
    """A connection that its server knows of while it is open."""

    def __init__(self, server: LoopbackServer[Any]) -> None:
        self._server = server

    def connectionMade(self) -> None:
        self._server.connections.append(self)
        self._server.opened += 1
        self._server.look()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._server.connections.remove(self)
        self._server.look()
