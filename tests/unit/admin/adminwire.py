"""
The admin site on a connection without a network, for a daemon that is made up.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from attrs import define, field
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, execute
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel

from collectord.admin.downloads import DumpToSend
from collectord.admin.site import AdminSite
from collectord.model import Content, InMemory
from collectord.observe.crashpage import CrashPage
from collectord.observe.status import Overview
from tests.support.adminindex import CurrentIndex
from tests.support.adminserver import Named
from tests.support.response import Response, parse_responses

T = TypeVar("T")

HOST = IPv4Address("TCP", "10.1.2.3", 8001)


@define(eq=False)
class FakeSource:
    """What the daemon tells: a scenario, or an error."""

    scenario: str = "busy"
    now: float = 1_466_608_800.0
    error: Exception | None = None
    overviews: int = 0
    asked: list[str] = field(factory=list)
    waiting: "Deferred[None] | None" = None
    content: Content = field(factory=lambda: InMemory([b"MDMP", b"rest"]))

    @property
    def named(self) -> Named:
        return Named(self.scenario, self.now)

    def overview(self) -> Overview:
        self.overviews += 1
        if self.error is not None:
            raise self.error
        return self.named.overview()

    async def crash(self, crash_id: str) -> CrashPage | None:
        self.asked.append(crash_id)
        if self.waiting is not None:
            await self.waiting
        if self.error is not None:
            raise self.error
        return self.named.crash(crash_id)

    async def dump(self, crash_id: str, name: str) -> DumpToSend | None:
        if name != "upload_file_minidump" or self.named.crash(crash_id) is None:
            return None
        return DumpToSend(8, self.content)

    def metrics(self) -> tuple[bytes, str]:
        if self.error is not None:
            raise self.error
        return b"a_total 1.0\n", "text/plain; version=0.0.4; charset=utf-8"


@define(eq=False)
class Browser:
    """One connection."""

    channel: HTTPChannel
    wire: StringTransport

    def send(self, data: bytes) -> None:
        self.channel.dataReceived(data)

    @property
    def received(self) -> bytes:
        return bytes(self.wire.value())

    @property
    def aborted(self) -> bool:
        return bool(self.wire.disconnected)

    def hang_up(self) -> None:
        self.channel.connectionLost(Failure(ConnectionDone()))

    def take_nothing(self) -> None:
        """The transport holds enough."""
        self.channel.pauseProducing()

    def take_all(self) -> None:
        self.channel.resumeProducing()

    @property
    def news(self) -> list[tuple[str, Any]]:
        """The events that came since the last look, and None for each comment."""
        events: list[tuple[str, Any]] = []
        head, separator, rest = self.received.partition(b"\r\n\r\n")
        body = unchunked(rest if separator and head.startswith(b"HTTP/") else self.received)
        self.wire.clear()
        for block in body.split("\n\n")[:-1]:
            lines = block.split("\n")
            if lines[0].startswith(":"):
                events.append(("comment", None))
            else:
                name, data = lines
                events.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
        return events


def unchunked(body: bytes) -> str:
    """The whole chunks of it."""
    text = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        text, body = text + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return text.decode("ascii")


class Admin:
    """The admin site."""

    def __init__(
        self,
        *,
        token: str = "",
        hosts: Sequence[str] = (),
        host: IAddress = HOST,
        client: IAddress | None = None,
        downloads: bool = True,
        allow_open: bool = False,
    ) -> None:
        self.source = FakeSource()
        self.clock = Clock()
        self.clock.advance(1000)
        self.in_thread: list[Callable[[], object]] = []
        index: Any = CurrentIndex(lambda: self.source.named.index)
        self.site = AdminSite(
            self.source,
            index,
            token=token,
            hosts=hosts,
            clock=self.clock,
            downloads=downloads,
            allow_open=allow_open,
            in_thread=self._in_thread,
        )
        self._factory = self.site.factory()
        self._host = host
        self._client = client

    def _in_thread(self, work: Callable[[], T]) -> Deferred[T]:
        self.in_thread.append(work)
        return execute(work)

    def connect(self) -> Browser:
        channel = self._factory.buildProtocol(None)
        assert isinstance(channel, HTTPChannel)
        wire = StringTransport(hostAddress=self._host, peerAddress=self._client)
        channel.makeConnection(wire)
        return Browser(channel, wire)

    def ask(
        self,
        path: str,
        *headers: str,
        method: str = "GET",
        host: str | None = "localhost:8001",
        version: str = "1.1",
        body: bytes = b"",
    ) -> Response:
        """The only answer, on a new connection; of HEAD without its body."""
        browser = self.connect()
        lines = [f"{method} {path} HTTP/{version}", *([] if host is None else [f"Host: {host}"]), *headers]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        browser.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        received = browser.received
        if method == "HEAD":
            head, separator, nothing = received.partition(b"\r\n\r\n")
            assert (separator, nothing) == (b"\r\n\r\n", b"")
            received = b"\r\n".join(line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-l"))
            received += b"\r\n\r\n"
        browser.hang_up()
        (response,) = parse_responses(received)
        return response

    def follow(self) -> Browser:
        """A client of the live data."""
        browser = self.connect()
        browser.send(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return browser

    def wait(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.advance(1)
