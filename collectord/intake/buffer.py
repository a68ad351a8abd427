"""
A dump while it is received: in memory first, and on a disk if memory is short.

A dump stays in memory while all uploads together fit into a budget. Beyond it the oldest dumps are spilled to files, in
one large write each, on the store's own threads. So under an ordinary load nothing is written twice, a thousand slow
uploads take little memory, and if a store fails in the middle of a dump, the dump is still whole in memory.
"""

import hashlib

from twisted.internet.defer import Deferred

from collectord.intake.budget import MemoryBudget, Pausable
from collectord.interfaces import IDumpStaging, IStagedDump
from collectord.model import Dump, InMemory

SPILL_UNIT = 32 * 1024
"""Bytes that a dump that is still growing must have in memory to be worth spilling."""

_WORTHWHILE = 1024
"""Bytes that a complete dump must have in memory to be worth spilling."""

_SMALL = 4096
"""A piece with fewer bytes is joined to the one before it, as long as that has fewer than C{_COALESCED}."""

_COALESCED = 32 * 1024

_AHEAD = 1024 * 1024
"""A client that sends more than so many bytes while its dump is being spilled is paused."""


class DumpBuffer:
    """
    One dump while it is received. It is used on the reactor thread only.

    @param name: of the dump.
    @param budget: of all uploads together.
    @param staging: takes the dump when it is spilled.
    @param flow: the upload that the dump is part of.
    @ivar size: how many bytes were received.
    """

    def __init__(self, name: str, budget: MemoryBudget, staging: IDumpStaging, flow: Pausable) -> None:
        self.name = name
        self.size = 0
        self._sha256 = hashlib.sha256()
        self._budget = budget
        self._staging = staging
        self._flow = flow
        self._pieces: list[bytes] = []
        self._in_memory = 0  # the size of the pieces
        self._flushing = 0  # how much of these waits for a store that keeps the crash
        self._complete = False
        self._released = False
        self._staged: IStagedDump | None = None
        self._spilling = False
        self._spilled: Deferred[None] | None = None  # once it was begun to spill it
        self._failure: Exception | None = None  # raised once, by write or by finish: it ends the whole upload
        self._pausing = False

    def write(self, data: bytes) -> None:
        """
        Add to the end of the dump.

        @raise CollectordError: what was received before could not be spilled, so the dump is lost.
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
        self._budget.pause_if_crowded(self._flow)
        if self._spilling and self._in_memory > _AHEAD and not self._pausing:
            self._pausing = True
            self._flow.pause()

    def end(self) -> None:
        """
        Note that the dump is complete, though its upload is not. Even a small dump may be spilled now, for an upload
        may have many of them.
        """
        if self._in_memory >= _WORTHWHILE:
            self._budget.add_candidate(self)

    def spill(self) -> None:
        """Begin to move what is in memory to the staged file. If that fails, L{write} and L{finish} raise the error."""
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
        except Exception as e:  # any error leaves a hole in the dump, and it must never be taken for a whole one
            self._failure = e
        finally:
            self._spilling = False
            if self._pausing:
                self._pausing = False
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

    async def finish(
        self, filename: str | None = None, content_type: str | None = None, *, is_minidump: bool = False
    ) -> Dump:
        """
        Return the whole dump; nothing more may be written. The dump may be used until L{release}.

        @param filename: as L{Dump} has it, like the others.

        @raise CollectordError: it could not be spilled, so it is lost.
        """
        self._complete = True
        self._budget.remove_candidate(self)
        if self._spilled is not None:
            await self._spilled
            self.spill()
            await self._spilled
        if self._failure is not None:
            raise self._failure
        self._flushing = self._in_memory
        self._budget.start_flush(self._flushing)
        content = InMemory(self._pieces) if self._staged is None else self._staged.content()
        return Dump(
            name=self.name,
            size=self.size,
            sha256=self._sha256.hexdigest(),
            content=content,
            filename=filename,
            content_type=content_type,
            is_minidump=is_minidump,
        )

    def release(self) -> None:
        """Forget the dump, because its crash is kept or given up. A second call does no harm."""
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
