"""
A chain of three stores in memory that fail, or hang, where they are told to.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from collectord.errors import StorageError
from collectord.interfaces import ICrashStorage, IDumpStaging, IStagedDump
from collectord.model import MINIDUMP, Content, Crash
from collectord.pieces import Pieces, ReaderAt
from collectord.storage.chain.backend import Backend
from collectord.storage.chain.chain import FallbackCrashStorage
from collectord.storage.chain.waitingroom import WaitingRoom
from tests.unit.storage.stores import bytes_of, make_crash, started

T = TypeVar("T")

Hook = Callable[[], Any]


@implementer(IStagedDump)
@define(eq=False)
class FickleDump:
    """Of a fickle store."""

    home: "FickleStore"
    pieces: list[bytes] = field(factory=list)
    discarded: int = 0

    async def append(self, pieces: Sequence[bytes]) -> None:
        await self.home.do("append")
        self.pieces.extend(pieces)

    def content(self) -> "FickleDump":
        return self

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            await self.home.do("read")
            yield piece

    async def examine(self, work: Callable[[ReaderAt], T]) -> T:
        await self.home.do("read")
        return work(Pieces(self.pieces))

    def discard(self) -> None:
        self.discarded += 1


@implementer(ICrashStorage, IDumpStaging)
@define(eq=False)
class FickleStore:
    """
    A store in memory.

    @ivar trouble: by operation (save, check, append, read): the error it raises, or C{None} where it hangs.
    @ivar saved: the bytes of all dumps, by crash id.
    """

    name: str
    trouble: dict[str, Exception | None] = field(factory=dict)
    calls: list[str] = field(factory=list)
    saved: dict[str, dict[str, bytes]] = field(factory=dict)
    erased: set[str] = field(factory=set)
    dumps: list[FickleDump] = field(factory=list)
    hung: list[Deferred[None]] = field(factory=list)
    kept: dict[str, Content] = field(factory=dict)
    staging_id: str = ""

    async def do(self, operation: str) -> None:
        self.calls.append(operation)
        if operation in self.trouble:
            error = self.trouble[operation]
            if error is not None:
                raise error
            hung: Deferred[None] = Deferred()
            self.hung.append(hung)
            await hung

    async def save(self, crash: Crash) -> str:
        await self.do("save")
        for dump in crash.dumps:
            assert not isinstance(dump.content, FickleDump) or dump.content.home is self
        self.kept = {dump.name: dump.content for dump in crash.dumps}
        self.saved[crash.crash_id] = {dump.name: await bytes_of(dump.content) for dump in crash.dumps}
        return self.name

    async def check(self) -> Mapping[str, int]:
        await self.do("check")
        return {"free_bytes": 7}

    async def close(self) -> None:
        await self.do("close")

    def new_dump(self) -> FickleDump:
        self.dumps.append(FickleDump(self))
        return self.dumps[-1]

    def owns(self, content: Content) -> bool:
        return isinstance(content, FickleDump) and content.home is self

    async def is_shared_by(self, staging_ids: Sequence[str]) -> bool:
        await self.do("is_shared_by")
        return self.staging_id in staging_ids

    async def has(self, crash_id: str) -> bool:
        await self.do("has")
        return crash_id in self.saved

    async def was_erased(self, crash_id: str) -> bool:
        await self.do("was_erased")
        return crash_id in self.erased

    async def wait_for_discards(self) -> None:
        await self.do("wait_for_discards")


def full() -> StorageError:
    return StorageError("No space left on device")


@define(eq=False)
class Chain:
    """Three stores and their clock."""

    clock: Clock = field(factory=Clock)
    first: FickleStore = field(factory=lambda: FickleStore("first"))
    second: FickleStore = field(factory=lambda: FickleStore("second"))
    third: FickleStore = field(factory=lambda: FickleStore("third"))
    storage: FallbackCrashStorage = field(init=False)

    def __attrs_post_init__(self) -> None:
        backends = [
            Backend(name=s.name, storage=s, staging=s, timeout=10.0, has=s.has, was_erased=s.was_erased)
            for s in self.stores
        ]
        self.storage = FallbackCrashStorage(
            backends, self.clock, WaitingRoom(self.clock, seconds=10.0, limit=1_000_000)
        )

    @property
    def stores(self) -> list[FickleStore]:
        return [self.first, self.second, self.third]

    @property
    def opened(self) -> list[bool]:
        return [backend.breaker.open for backend in self.storage.backends]

    @property
    def calls(self) -> list[list[str]]:
        """What each store was asked for since the last time."""
        calls = [list(store.calls) for store in self.stores]
        for store in self.stores:
            store.calls.clear()
        return calls

    def trouble(self, **operations: Exception | None) -> None:
        """All of them fail."""
        for store in self.stores:
            store.trouble = dict(operations)

    def save(self, crash: Crash | None = None) -> Deferred[str]:
        return started(self.storage.save(crash or make_crash()))

    def spilled(self, *appends: bytes) -> IStagedDump:
        """A dump of so many appends; all of them are done."""
        dump = self.storage.new_dump()
        for piece in appends:
            done = started(dump.append([piece]))
            assert (done.called, done.result) == (True, None)
        return dump

    def pass_time(self, seconds: float) -> None:
        """In small steps."""
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end - 1e-9:
            self.clock.advance(min(0.05, end - self.clock.seconds()))


def error_in(work: Deferred[Any]) -> BaseException:
    """What it failed with by now."""
    failed: list[BaseException] = []

    def note(failure: Failure) -> None:
        assert failure.value is not None
        failed.append(failure.value)

    work.addErrback(note)
    assert failed, work
    return failed[0]


def crash_with(dump: IStagedDump, content: bytes) -> Crash:
    return make_crash(dumps={"small": b"in memory", MINIDUMP: content}, places={MINIDUMP: dump.content()})
