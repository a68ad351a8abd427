"""
Dumps that are spilled to the staging directory of a store while they are received.

If the kernel can't write such a file to the disk, that has to be noticed before its crash is kept. The kernel reports
an error only to descriptors that are open when it happens. So each file is held open from before its first write. There
are not enough descriptors for thousands of dumps; the files beyond a certain number are synced by each append instead.
"""

import errno
import os
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import count
from threading import Semaphore
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from collectord.concurrency.descriptors import share
from collectord.concurrency.threadpool import ThreadRunner
from collectord.errors import StorageError
from collectord.interfaces import IDumpStaging, IStagedDump
from collectord.model import Content
from collectord.pieces import ReaderAt
from collectord.storage.content import StoredFile
from collectord.storage.filesystem.fsops import unlink_if_there
from collectord.storage.filesystem.staging import StagingDirectory

T = TypeVar("T")

_HELD = 256
"""At most so many spilled dumps are held open."""
_SHARE = 32
"""One in so many descriptors may hold a spilled dump."""


@implementer(IDumpStaging)
class StagingArea:
    """
    The dumps that are spilled to one store.

    @param directory: the staging directory of this process in the store.
    @param in_thread: runs blocking work on a thread.
    @param refuse_full: raises L{OSError} if the store counts as full; called on threads.
    @param failed: called on the reactor thread when a dump could not be written.
    @param held: how many dumps may be held open at a time; None: as many as the process can spare.
    @ivar to_hold: counts how many more may be.
    """

    _log = Logger()

    def __init__(
        self,
        directory: StagingDirectory,
        in_thread: ThreadRunner,
        refuse_full: Callable[[], object],
        failed: Callable[[], object],
        held: int | None = None,
    ) -> None:
        self.to_hold = Semaphore(share(_SHARE, _HELD) if held is None else held)
        self.directory = directory
        self.in_thread = in_thread
        self.refuse_full = refuse_full
        self.failed = failed
        self._numbers = count(1)
        self._removals: set[Deferred[None]] = set()

    def new_dump(self) -> "StagedFile":
        return StagedFile(self, f"{next(self._numbers)}.part")

    def owns(self, content: Content) -> bool:
        return isinstance(content, StagedFile) and content.area is self

    def remove(self, file: "StagedFile") -> None:
        """Remove the file of a dump, in the background."""
        removal = self.in_thread(file.remove)
        self._removals.add(removal)
        removal.addErrback(
            lambda failure: self._log.warn("{path} is left behind: {why}", path=file.path, why=failure.value)
        ).addBoth(lambda _: self._removals.discard(removal))

    async def is_shared_by(self, staging_ids: Sequence[str]) -> bool:
        return await self.in_thread(lambda: any(map(self.directory.is_shared_by, staging_ids)))

    async def wait_for_discards(self) -> None:
        for removal in list(self._removals):
            await removal


@implementer(IStagedDump)
class StagedFile:
    """
    A spilled dump: its file in the staging directory, and the content of that file.

    L{take} and L{remove} block, and run on threads. Everything else is called on the reactor thread.

    @ivar path: of the file.
    """

    def __init__(self, area: StagingArea, name: str) -> None:
        self.area = area
        self.path = f"{area.directory.path}/{name}"
        self._name = name
        self._size = 0
        self._begun = False
        self._discarded = False
        self._held: list[int] = []  # one descriptor or none; the thread that pops it closes it
        self._taken = False

    async def append(self, pieces: Sequence[bytes]) -> None:
        first, self._begun = not self._begun, True
        try:
            await self.area.in_thread(lambda: self._append(pieces, first=first))
        except OSError as e:
            self.area.failed()
            raise StorageError(f"{self.path}: {e.strerror or e}") from e
        self._size += sum(map(len, pieces))

    def _append(self, pieces: Sequence[bytes], *, first: bool) -> None:
        if self._discarded:
            return
        self.area.refuse_full()
        try:
            if first and self.area.to_hold.acquire(blocking=False):
                self._begin(pieces)
            else:
                self.area.directory.append(self._name, pieces, first=first, sync=not self._held)
        finally:
            if self._discarded:  # somebody has given the dump up while this was hanging
                self.remove()

    def _begin(self, pieces: Sequence[bytes]) -> None:
        try:
            _, fd = self.area.directory.write(self._name, pieces)
        except BaseException:
            self.area.to_hold.release()
            raise
        self._held.append(fd)

    def take(self) -> int:
        """
        Return a descriptor that the caller syncs and closes, to keep the dump. That is possible once: after a sync that
        failed, this file is never trusted again.

        @raise OSError: somebody tried to keep the dump before, or the file is gone.
        """
        if self._taken:
            raise OSError(errno.ESTALE, "it could not be kept before, and has to be copied", self.path)
        self._taken = True
        held = self._release_descriptor()
        return os.open(self.path, os.O_RDWR | os.O_CLOEXEC) if held is None else held

    def _release_descriptor(self) -> int | None:
        try:
            fd = self._held.pop()
        except IndexError:
            return None
        self.area.to_hold.release()
        return fd

    def content(self) -> "StagedFile":
        return self

    def chunks(self) -> AsyncIterator[bytes]:
        return self._stored().chunks()

    async def examine(self, work: Callable[[ReaderAt], T]) -> T:
        return await self._stored().examine(work)

    def _stored(self) -> StoredFile:
        return StoredFile(self.path, self._size, self.area.in_thread)

    def discard(self) -> None:
        self._discarded = True
        if self._begun:
            self.area.remove(self)

    def remove(self) -> None:
        """Close and remove the file. A second call does no harm."""
        held = self._release_descriptor()
        try:
            if held is not None:
                os.close(held)
        finally:
            unlink_if_there(self.path)
