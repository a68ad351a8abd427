"""
What is relied on of Twisted beyond what it promises: a new version in which something of it has changed fails here.
"""

import re
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.internet.ssl import optionsForClientTLS
from twisted.internet.tcp import Connection, Port
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.client import HTTP11ClientProtocol  # type: ignore[attr-defined]
from twisted.web.http import HTTPChannel

from collectord.net.twisted_private import HTTPConnection, accept_at_most, is_unfinished, lend, send_now
from tests.support.cases import for_each

SETUP = Path(__file__).parents[3] / "setup.py"


def test_a_version_that_nobody_has_tried_is_not_installed() -> None:
    assert re.search(r'"twisted\[tls\]>=[0-9.]+,<[0-9]+"', SETUP.read_text())


@for_each(
    ("owner", "name"),
    [
        (HTTPChannel, "_busyReceiving"),
        (HTTPChannel, "_respondToBadRequestAndDisconnect"),
        (HTTPChannel, "clearLineBuffer"),
        (HTTPChannel, "length"),
        (HTTPChannel, "paused"),
        (HTTPChannel, "persistent"),
        (Connection, "connected"),
        (Connection, "writeSomeData"),
        (Port, "_shouldShutdown"),
        (Port, "addressFamily"),
        (Port, "doRead"),
        (Port, "stopReading"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_the_names_are_there(owner: type[object], name: str) -> None:
    assert hasattr(owner, name)


def test_where_a_tls_connection_of_a_client_is_made() -> None:
    assert callable(vars(optionsForClientTLS("localhost"))["_createConnection"])


# ——— HTTP connections ———


class Connected(HTTPConnection):
    """Remembers what happened."""

    def __init__(self) -> None:
        super().__init__()
        self.bad = 0
        self.parsing: list[bool] = []

    def bad_request(self) -> None:
        self.bad += 1
        self.clearLineBuffer()

    def lineReceived(self, line: bytes) -> None:
        self.parsing.append(self.is_parsing)
        super().lineReceived(line)


@for_each(
    "sent",
    [
        pytest.param(b"nonsense\r\n", id="request line"),
        pytest.param(b"GET / HTTP/1.1\r\nno colon\r\n\r\n", id="header"),
        pytest.param(b"GET / HTTP/1.1\r\nX: " + b"x" * 16380 + b"\r\n\r\n", id="long headers"),
        pytest.param(b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", id="length"),
    ],
)
def test_a_bad_request_is_told_to_the_hook_alone(sent: bytes) -> None:
    connection, wire = Connected(), StringTransport()
    connection.makeConnection(wire)
    assert not connection.is_parsing
    connection.dataReceived(sent)
    assert connection.bad == 1
    assert (wire.value(), wire.disconnecting) == (b"", False)
    assert set(connection.parsing) == {True}
    assert not connection.is_parsing


def test_without_the_hook_twisted_answers() -> None:
    connection, wire = HTTPConnection(), StringTransport()
    connection.makeConnection(wire)
    connection.dataReceived(b"nonsense\r\n")
    assert wire.value().startswith(b"HTTP/1.1 400 ")
    assert wire.disconnecting


# ——— sockets ———


@define
class Reactor:
    """Who reads and writes."""

    readers: set[Any] = field(factory=set)
    writers: set[Any] = field(factory=set)

    def addReader(self, reader: Any) -> None:
        self.readers.add(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers.discard(reader)

    def addWriter(self, writer: Any) -> None:
        self.writers.add(writer)

    def removeWriter(self, writer: Any) -> None:
        self.writers.discard(writer)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        yield ours, theirs


def test_what_a_socket_takes_is_sent_at_once(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    reactor = Reactor()
    transport = Connection(ours, Protocol(), reactor)  # type: ignore[arg-type]
    assert send_now(transport, b"hello") == b"hello", "it is not connected yet"
    transport.connected = 1
    assert send_now(transport, b"hello") == b""
    assert theirs.recv(10) == b"hello"
    rest, before = b"x" * 10_000_000, b""
    while rest != before:
        before = rest
        rest = send_now(transport, before)
    assert rest, "the socket is full, and that is no error"
    assert reactor.writers == set()


def test_nothing_is_left_for_a_connection_that_is_lost(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    transport = Connection(ours, Protocol(), Reactor())  # type: ignore[arg-type]
    transport.connected = 1
    theirs.close()
    assert send_now(transport, b"hello") == b""


def test_another_transport_sends_nothing_at_once() -> None:
    wire = StringTransport()
    assert send_now(wire, b"hello") == b"hello"
    assert wire.value() == b""


# ——— ports ———


@define(eq=False, slots=False)
class Factory(ServerFactory):
    """Counts."""

    noisy = False
    connections: int = 0

    def buildProtocol(self, addr: object) -> Protocol:
        self.connections += 1
        return Protocol()


@define
class Listening:
    """A port of Twisted's, and clients of it."""

    port: Any
    factory: Factory
    clients: list[socket.socket] = field(factory=list)

    def connect(self, count: int) -> None:
        for _ in range(count):
            self.clients.append(socket.create_connection(("127.0.0.1", self.port.getHost().port), 5))


@pytest.fixture
def listening() -> Iterator[Listening]:
    factory, reactor = Factory(), Reactor()
    port = Port(0, factory, interface="127.0.0.1", reactor=reactor)
    port.startListening()
    found = Listening(port, factory)
    yield found
    if port.connected:
        port.connectionLost(Failure(ConnectionDone()))
    for each in [*found.clients, *reactor.readers]:
        (each if isinstance(each, socket.socket) else each.socket).close()


def test_a_port_accepts_no_more_at_once_than_it_is_told(listening: Listening) -> None:
    assert accept_at_most(3, listening.port) is listening.port
    listening.connect(8)
    accepted = []
    for _ in range(3):
        listening.port.doRead()
        accepted.append(listening.factory.connections)
    assert accepted == [3, 6, 8]


def test_a_port_that_is_lent_accepts_nothing_and_is_not_shut_down(listening: Listening) -> None:
    with closing(socket.socket(fileno=socket.dup(listening.port.fileno()))) as other:
        lend(listening.port)
        assert listening.port not in listening.port.reactor.readers
        listening.connect(1)
        listening.port.connectionLost(Failure(ConnectionDone()))
        other.settimeout(5)
        accepted, _ = other.accept()
        accepted.close()


def test_a_port_that_is_not_lent_is_shut_down(listening: Listening) -> None:
    with closing(socket.socket(fileno=socket.dup(listening.port.fileno()))) as other:
        listening.port.connectionLost(Failure(ConnectionDone()))
        with pytest.raises(OSError, match="Invalid argument"):
            other.accept()


# ——— connections of an HTTP client ———


@define
class Request:
    """Whose body is never sent whole, unless it has none."""

    persistent: bool = True
    method: bytes = b"GET"
    absoluteURI: bytes | None = None

    def writeTo(self, transport: Any) -> Any:
        transport.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        return succeed(None)


def test_a_connection_is_unfinished_from_the_request_to_the_end_of_the_answer() -> None:
    connection: Any = HTTP11ClientProtocol(lambda protocol: None)
    connection.makeConnection(StringTransport())
    assert not is_unfinished(connection)
    answers: list[Any] = []
    connection.request(Request()).addCallback(answers.append)
    assert is_unfinished(connection)
    connection.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel")
    assert is_unfinished(connection)
    answers[0].deliverBody(Protocol())
    connection.dataReceived(b"lo")
    assert not is_unfinished(connection)


def test_a_connection_that_is_lost_is_not_unfinished() -> None:
    connection: Any = HTTP11ClientProtocol(lambda protocol: None)
    connection.makeConnection(StringTransport())
    failures: list[Failure] = []
    connection.request(Request()).addErrback(failures.append)
    connection.connectionLost(Failure(ConnectionDone()))
    assert not is_unfinished(connection)
    assert len(failures) == 1
