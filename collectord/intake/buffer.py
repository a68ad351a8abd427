"""
Dumps on their way in.

A dump stays in memory while all uploads together fit into a budget. Beyond it the oldest are spilled to a staging file,
in one large write each, on the store's own threads. So an ordinary load never touches the disk twice, a thousand slow
uploads cost little memory, and a store that fails in the middle of a dump finds it still whole up here.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

from attrs import define, field
from twisted.internet.defer import Deferred, succeed

from collectord.errors import AllStoresFailed
from collectord.interfaces import IDumpStaging, IStagedDump
from collectord.model import Dump, InMemory

SPILL_UNIT = 32 * 1024
"""A dump of fewer bytes in memory that is still growing is not worth a file."""

ANNOTATIONS = 128 * 1024 * 1024
"""Bytes that the annotations of all unfinished uploads may take together: they can't be spilled."""

_WORTHWHILE = 1024
_SMALL = 4096
_COALESCED = 32 * 1024
_AHEAD = 1024 * 1024


class Pausable(Protocol):
    """The way in of one upload. Holds are counted."""

    def pause(self) -> None:
        """Read nothing more from the client."""

    def resume(self) -> None:
        """Take one hold back."""


@define(eq=False)
class MemoryBudget:
    """
    The bytes of unfinished uploads in memory.

    @ivar limit: beyond it the oldest dumps are spilled. While more than so many bytes wait for a disk, whoever sends
        more is held: a slow disk slows its clients, and does not fill the memory.
    """

    limit: int
    used: int = 0
    flushing: int = 0
    annotations: int = 0
    _candidates: dict[DumpBuffer, None] = field(factory=dict, repr=False)
    _held: dict[Pausable, None] = field(factory=dict, repr=False)

    def reserve(self, size: int) -> None:
        """C{size} bytes more are in memory."""
        self.used += size
        while self.used - self.flushing > self.limit and self._candidates:
            spool = next(iter(self._candidates))
            self.remove_candidate(spool)
            spool.spill()

    def reserve_annotations(self, size: int) -> None:
        """
        C{size} bytes more of annotations are in memory.

        @raise AllStoresFailed: they are too many.
        """
        self.annotations += size
        if self.annotations > ANNOTATIONS:
            raise AllStoresFailed("the annotations of unfinished uploads take too much memory")

    def release_annotations(self, size: int) -> None:
        """C{size} bytes of annotations are out of memory."""
        self.annotations -= size

    def start_flush(self, size: int) -> None:
        """C{size} of the bytes in memory now wait for a disk."""
        self.flushing += size

    def finish_flush(self, size: int) -> None:
        """C{size} of the bytes that waited for a disk are out of memory."""
        self.flushing -= size
        self.used -= size
        if self.flushing <= self.limit and self._held:
            held, self._held = self._held, {}
            for flow in held:
                flow.resume()

    def release(self, size: int) -> None:
        """C{size} bytes are out of memory without having waited for a disk."""
        self.used -= size

    def add_candidate(self, spool: DumpBuffer) -> None:
        """C{spool} has enough in memory to be worth spilling."""
        self._candidates[spool] = None

    def remove_candidate(self, spool: DumpBuffer) -> None:
        """C{spool} must not be spilled any more."""
        self._candidates.pop(spool, None)

    def hold_if_crowded(self, flow: Pausable) -> None:
        """Hold C{flow} until fewer bytes wait for a disk."""
        if self.flushing > self.limit and flow not in self._held:
            flow.pause()
            self._held[flow] = None


class DumpBuffer:
    """One dump on its way in."""

    def __init__(self, name: str, budget: MemoryBudget, staging: IDumpStaging, flow: Pausable) -> None:
        self.name = name
        self.size = 0
        self._sha256 = hashlib.sha256()
        self._budget = budget
        self._staging = staging
        self._flow = flow
        self._pieces: list[bytes] = []
        self._in_memory = 0  # bytes of the pieces
        self._flushing = 0  # of these, what waits to be saved
        self._complete = False
        self._released = False
        self._staged: IStagedDump | None = None
        self._spilling = False
        self._spilled: Deferred[None] = succeed(None)
        self._failure: Exception | None = None
        self._holding = False

    def write(self, data: bytes) -> None:
        """
        Add to the end.

        @raise CollectordError: an earlier part could not be spilled; from then on the dump is lost.
        """
        if self._failure is not None:
            raise self._failure
        size = len(data)
        self._sha256.update(data)
        self.size += size
        pieces = self._pieces
        if size < _SMALL and pieces and len(pieces[-1]) < _COALESCED:
            pieces[-1] += data
        else:
            pieces.append(data)
        before, self._in_memory = self._in_memory, self._in_memory + size
        if before < SPILL_UNIT <= self._in_memory:
            self._budget.add_candidate(self)
        self._budget.reserve(size)
        self._budget.hold_if_crowded(self._flow)
        if self._spilling and self._in_memory > _AHEAD and not self._holding:
            self._holding = True
            self._flow.pause()

    def end(self) -> None:
        """Nothing more will be written. Many small dumps of an unfinished upload are worth spilling as well."""
        if self._in_memory >= _WORTHWHILE:
            self._budget.add_candidate(self)

    def spill(self) -> None:
        """Move what is in memory to the staging file; L{finish} tells a failure."""
        if not self._spilling and self._failure is None:
            self._spilling = True
            self._spilled = Deferred.fromCoroutine(self._spill())

    async def _spill(self) -> None:
        staged = self._staged = self._staged or self._staging.new_dump()
        try:
            while self._pieces:
                await self._append(staged)
                if self._in_memory < SPILL_UNIT and not self._complete:
                    break
        except Exception as e:  # whatever it is: a dump with a hole must never be taken for a whole one
            self._failure = e
        finally:
            self._spilling = False
            if self._holding:
                self._holding = False
                self._flow.resume()
            if self._released:
                staged.discard()

    async def _append(self, staged: IStagedDump) -> None:
        pieces, self._pieces = self._pieces, []
        size, self._in_memory = self._in_memory, 0
        self._budget.start_flush(size)
        try:
            await staged.append(pieces)
        finally:
            self._budget.finish_flush(size)

    async def finish(self) -> Dump:
        """
        The whole dump; nothing more will be written.

        @raise CollectordError: there was no place to spill it.
        """
        self._complete = True
        self._budget.remove_candidate(self)
        if self._staged is not None:
            await self._spilled
            self.spill()
            await self._spilled
        if self._failure is not None:
            raise self._failure
        self._flushing = self._in_memory
        self._budget.start_flush(self._flushing)
        content = InMemory(self._pieces) if self._staged is None else self._staged.content()
        return Dump(name=self.name, size=self.size, sha256=self._sha256.hexdigest(), content=content)

    def release(self) -> None:
        """The dump is saved, or given up: forget it here."""
        if self._released:
            return
        self._released = True
        self._budget.remove_candidate(self)
        self._budget.release(self._in_memory - self._flushing)
        self._budget.finish_flush(self._flushing)
        self._pieces = []
        self._in_memory = 0
        if self._staged is not None and not self._spilling:
            self._staged.discard()
