"""
The public site without a network and without a disk, and requests to it.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from zope.interface import implementer

from collectord.collector import Collector
from collectord.dialects.query import query_of
from collectord.dialects.row import Dialect
from collectord.dialects.table import Asked, DialectTable
from collectord.intake.budget import MemoryBudget
from collectord.intake.receiver import Limits, ReportReceiver
from collectord.intake.request import StreamingRequest
from collectord.interfaces import ICrashStorage, IDumpStaging, IStagedDump
from collectord.model import Content, Crash
from collectord.pressure import NO_PRESSURE, Pressure
from collectord.testing.memory import MemoryCrashStorage
from collectord.throttle.results import Result
from collectord.throttle.rules import Verdict
from collectord.web.answers import Shown
from collectord.web.site import PublicSite
from tests.support.judging import judging
from tests.support.response import Response
from tests.unit.intake.parts import (
    CONTENT_TYPE,
    annotation,
    body,
    dump,
)
from tests.unit.intake.wire import Client, Server, serve

CRASH_ID = "8f63752c-57c6-4e5d-b2cf-cabde2160622"
CHOSEN = "11111111-57c6-4e5d-b2cf-cabde2150101"
KEPT = f"CrashID=bp-{CRASH_ID}\n".encode()
REPORT = body(annotation(b"ProductName", b"Fenix"), dump(b"upload_file_minidump", b"MDMP"))
LIMITS = Limits(read=200_000, body=150_000, parts=10, annotations=10_000)
VERSION = {"source": "collectord", "version": "1.2.3"}


@frozen
class State:
    name: str
    problem: str = ""
    figures: Mapping[str, int] = field(factory=dict)
    cautions: Sequence[str] = ()


@implementer(ICrashStorage, IDumpStaging, IStagedDump)
@define(eq=False)
class Store:
    """Keeps at once, or when it is told so, or fails; of a spilled dump nothing is appended, or it fails."""

    name: str = "store"
    waits: bool = False
    error: Exception | None = None
    append_error: Exception | None = None
    states: Sequence[State] = (State("/primary", figures={"free_bytes": 5}), State("/second"))
    takes_crashes: bool = True
    pressure: Pressure = NO_PRESSURE
    kept: MemoryCrashStorage = field(factory=MemoryCrashStorage)
    saving: "list[tuple[Crash, Deferred[None]]]" = field(factory=list)
    staged: list[bytes] = field(factory=list)
    discarded: int = 0
    cancelled: int = 0

    async def save(self, crash: Crash) -> str:
        if self.waits:
            done: Deferred[None] = Deferred(self._cancelled)
            self.saving.append((crash, done))
            await done
        if self.error is not None:
            raise self.error
        return await self.kept.save(crash)

    def _cancelled(self, done: object) -> None:
        self.cancelled += 1

    async def check(self) -> Mapping[str, int]:
        return {}

    async def close(self) -> None:
        """There is nothing to let go of."""

    async def check_each(self) -> Sequence[State]:
        return self.states

    def new_dump(self) -> "Store":
        return self

    def owns(self, content: Content) -> bool:
        return True

    async def is_shared_by(self, staging_ids: Sequence[str]) -> bool:
        return False

    async def wait_for_discards(self) -> None:
        return

    async def append(self, pieces: Sequence[bytes]) -> None:
        if self.append_error is not None:
            raise self.append_error
        self.staged.extend(pieces)

    def content(self) -> Content:
        dump = self.kept.new_dump()
        dump.pieces.extend(self.staged)
        return dump

    def discard(self) -> None:
        self.discarded += 1


@define
class Rig:
    """The public site, in memory."""

    public: PublicSite
    server: Server
    store: Store
    budget: MemoryBudget
    rule: Verdict

    def connect(self) -> Client:
        return self.server.connect()

    def ask(self, sent: bytes, *, piece: int = 65536) -> Response:
        """The only answer, of known length, on a new connection."""
        client = self.connect()
        client.send(sent, piece=piece)
        return checked(client)

    @property
    def crash(self) -> Crash:
        (crash,) = self.store.kept.crashes.values()
        return crash


def checked(client: Client) -> Response:
    """
    The only answer, which has to have a length, not be chunked, be text, and be all that was sent.
    """
    head, _, content = client.received.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").partition(b"\r\n\r\n")
    names = [line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:]]
    assert len(set(names)) == len(names)
    assert b"transfer-encoding" not in names
    response = client.response
    assert response.headers["content-length"] == str(len(content))
    assert response.body == content
    assert response.headers["content-type"].startswith("text/plain")
    assert "twisted" not in head.decode().lower()
    return response


NewRig = Callable[..., Rig]


def make_rig(*rows: Dialect) -> Rig:
    store, budget = Store(), MemoryBudget(limit=1_000_000)

    def receiver_for(request: StreamingRequest, length: int | None, asked: Asked) -> ReportReceiver:
        connection, query = request.channel.incoming, query_of(request.uri)
        return ReportReceiver(LIMITS, budget, store, request.requestHeaders, length, connection, query, asked=asked)

    collector = Collector(
        judge=judging(lambda annotations: made.rule),
        storage=store,
        now=lambda: datetime(2016, 6, 22, tzinfo=UTC),
        seconds=lambda: 0.0,
        random=lambda: UUID("8f63752c-57c6-4e5d-b2cf-cabdefedcba9").bytes,
        token="secret",
    )
    public = PublicSite(collector, receiver_for, store, Shown("bp-"), VERSION, DialectTable(rows))
    server = serve(public.resource(), public.body_for, max_connections=1000)
    made = Rig(public, server, store, budget, Verdict(Result.ACCEPT, "some_rule", 100))
    return made


def post(
    content: bytes,
    *headers: bytes,
    path: bytes = b"/submit",
    content_type: bytes | None = CONTENT_TYPE,
    version: bytes = b"1.1",
    length: bool = True,
) -> bytes:
    lines = [b"POST %s HTTP/%s" % (path, version), b"Host: localhost", *headers]
    if content_type is not None:
        lines.append(b"Content-Type: " + content_type)
    if length:
        lines.append(b"Content-Length: %d" % len(content))
    return b"\r\n".join([*lines, b"", content])


def chunked(content: bytes, *headers: bytes, size: int = 100) -> bytes:
    chunks = [content[at : at + size] for at in range(0, len(content), size)]
    framed = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    return post(framed, b"Transfer-Encoding: chunked", *headers, length=False)
