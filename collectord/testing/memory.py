"""
A store in memory: for tests, and as the simplest example of a store.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TypeGuard, TypeVar

from attrs import define, evolve, field
from zope.interface import implementer

from collectord.interfaces import ICrashStorage, IDumpStaging, IStagedDump
from collectord.model import Content, Crash, InMemory
from collectord.pieces import Pieces, ReaderAt

T = TypeVar("T")


@implementer(ICrashStorage, IDumpStaging)
@define(eq=False)
class MemoryCrashStorage:
    """
    Keeps crashes in memory for as long as the process runs.

    @ivar crashes: what was saved, by crash id.
    """

    name: str = "memory"
    crashes: dict[str, Crash] = field(factory=dict)

    async def save(self, crash: Crash) -> str:
        dumps = [
            evolve(dump, content=InMemory(tuple(dump.content.pieces))) if self.owns(dump.content) else dump
            for dump in crash.dumps
        ]
        self.crashes[crash.crash_id] = evolve(crash, dumps=dumps)
        return self.name

    async def check(self) -> Mapping[str, int]:
        return {"crashes": len(self.crashes)}

    async def close(self) -> None:
        """Keep the crashes, since tests look at them. Nothing else was taken."""

    def new_dump(self) -> "MemoryStagedDump":
        return MemoryStagedDump(self)

    def owns(self, content: Content) -> TypeGuard["MemoryStagedDump"]:
        return isinstance(content, MemoryStagedDump) and content.home is self

    async def wait_for_discards(self) -> None:
        return

    async def is_shared_by(self, staging_ids: Sequence[str]) -> bool:
        return False


@implementer(IStagedDump)
@define(eq=False)
class MemoryStagedDump:
    """
    A staged dump, which lies in memory, too.

    @ivar home: the store that it is staged in.
    """

    home: MemoryCrashStorage
    pieces: list[bytes] = field(factory=list)

    async def append(self, pieces: Sequence[bytes]) -> None:
        self.pieces.extend(pieces)

    def content(self) -> "MemoryStagedDump":
        return self

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece

    async def examine(self, work: Callable[[ReaderAt], T]) -> T:
        return work(Pieces(self.pieces))

    def discard(self) -> None:
        self.pieces.clear()
