"""
A source and sinks in memory, which fail when they are told to.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import implementer

from collectord.crashmover.sink import Sink
from collectord.errors import StorageError
from collectord.interfaces import ICrashSource
from collectord.model import Crash, NewCrash
from tests.unit.storage.stores import make_crash


def crash_id(number: int) -> str:
    return f"{number:08x}-57c6-4e5d-b2cf-cabde2160622"


@implementer(ICrashSource)
@define(eq=False)
class MemorySource:
    """
    @ivar crashes: what is new, by crash id.
    @ivar broken: what loading raises, by crash id.
    @ivar fails: what listing, removing and the quarantine raise.
    @ivar listing: where it is not None, a list waits for it.
    @ivar claimed: what is claimed now.
    @ivar remembered: for whom which id is to be published.
    @ivar stolen: somebody else removes what is loaded.
    """

    name: str = "memory"
    crashes: dict[str, Crash] = field(factory=dict)
    broken: dict[str, Exception] = field(factory=dict)
    fails: dict[str, Exception] = field(factory=dict)
    quarantined: dict[str, str] = field(factory=dict)
    loads: int = 0
    lists: int = 0
    kept: list[bool] = field(factory=list)
    listing: Deferred[None] | None = None
    claimed: set[str] = field(factory=set)
    to_remove: set[str] = field(factory=set)
    remembered: list[tuple[str, str]] = field(factory=list)
    stolen: bool = False

    def add(self, *numbers: int, **annotations: Any) -> None:
        for number in numbers:
            self.crashes[crash_id(number)] = make_crash(crash_id(number), **annotations)

    async def new_crashes(self) -> AsyncIterator[Sequence[NewCrash]]:
        self.lists += 1
        self._may_fail("list")
        if self.listing is not None:
            await self.listing
        for name in sorted(self.crashes):
            yield [NewCrash(name, "")]

    async def load(self, new: NewCrash) -> Crash | None:
        self.loads += 1
        assert new.crash_id not in self.claimed - self.to_remove
        if new.crash_id in self.broken:
            self.claimed.add(new.crash_id)
            raise self.broken[new.crash_id]
        crash = self.crashes.get(new.crash_id)
        if crash is not None:
            self.claimed.add(new.crash_id)
        if self.stolen:
            del self.crashes[new.crash_id]
        return crash

    async def release(self, new: NewCrash) -> None:
        self.claimed.discard(new.crash_id)

    async def is_gone(self, new: NewCrash, crash: Crash) -> bool:
        return new.crash_id not in self.crashes

    async def remember(self, new: NewCrash, crash: Crash, publisher: str) -> None:
        self._may_fail("remember")
        self.remembered.append((publisher, new.crash_id))

    async def remove(self, new: NewCrash, crash: Crash, *, keep: bool) -> None:
        self.to_remove.add(new.crash_id)
        self._may_fail("remove")
        self.to_remove.remove(new.crash_id)
        self.kept.append(keep)
        self.claimed.remove(new.crash_id)
        self.crashes.pop(new.crash_id, None)

    async def quarantine(self, new: NewCrash, reason: str) -> None:
        self._may_fail("quarantine")
        self.quarantined[new.crash_id] = reason
        self.claimed.remove(new.crash_id)
        del self.crashes[new.crash_id]

    def _may_fail(self, what: str) -> None:
        if what in self.fails:
            raise self.fails[what]


@define(eq=False)
class FakeSink:
    """
    What a sink leads to.

    @ivar got: crash ids, each as often as it came.
    @ivar fails: whether it takes nothing.
    @ivar refuses: crash ids that it never takes.
    @ivar raises: whatever it raises instead.
    @ivar is_there: it passes every check all the same.
    @ivar hangs: gets a Deferred for each that comes, where it is a list.
    """

    name: str
    got: list[str] = field(factory=list)
    fails: bool = False
    refuses: set[str] = field(factory=set)
    raises: Exception | None = None
    is_there: bool = False
    hangs: list[Deferred[None]] | None = None
    checks: int = 0
    kind: Literal["moved", "published"] = "moved"

    async def deliver(self, crash: Crash) -> None:
        if self.hangs is not None:
            until: Deferred[None] = Deferred()
            self.hangs.append(until)
            await until
        if self.raises is not None:
            raise self.raises
        if self.fails or crash.crash_id in self.refuses:
            raise StorageError(f"{self.name} takes nothing")
        self.got.append(crash.crash_id)

    async def check(self) -> None:
        self.checks += 1
        if self.is_there:
            return
        if self.raises is not None:
            raise self.raises
        if self.fails:
            raise StorageError(f"{self.name} is not there")

    def as_sink(self, clock: Clock, *, verify: bool = False, timeout: float = 60.0) -> Sink:
        return Sink(
            self.name,
            self.kind,
            self.deliver,
            self.check,
            timeout=timeout,
            verify=verify,
            clock=clock,
            chance=lambda: 0.5,
        )
