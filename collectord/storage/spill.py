"""
Dumps that were spilled to a store's staging area while they were received.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from itertools import count

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from collectord.errors import StorageError
from collectord.interfaces import IDumpStaging, IStagedDump
from collectord.model import Content
from collectord.storage.fsops import unlink_if_there
from collectord.storage.staging import StagingDirectory
from collectord.storage.stored import StoredFile
from collectord.threads import InThread


@implementer(IDumpStaging)
class StagingArea:
    """
    @param have_space: raises OSError where the store counts as full.
    @param failed: is told that a dump could not be written.
    """

    _log = Logger()

    def __init__(
        self,
        directory: StagingDirectory,
        in_thread: InThread,
        have_space: Callable[[], object],
        failed: Callable[[], object],
    ) -> None:
        self.directory = directory
        self.in_thread = in_thread
        self.have_space = have_space
        self.failed = failed
        self._numbers = count(1)
        self._removals: set[Deferred[None]] = set()

    def new_dump(self) -> "StagedFile":
        return StagedFile(self, f"{next(self._numbers)}.part")

    def holds(self, content: Content) -> bool:
        return isinstance(content, StagedFile) and content.area is self

    def remove(self, path: str) -> None:
        """Remove a file, in the background."""
        removal = self.in_thread(lambda: unlink_if_there(path))
        self._removals.add(removal)
        removal.addErrback(
            lambda failure: self._log.warn("{path} is left behind: {why}", path=path, why=failure.value)
        ).addBoth(lambda _: self._removals.discard(removal))

    async def is_shared_by(self, markers: Sequence[str]) -> bool:
        return await self.in_thread(lambda: any(map(self.directory.is_shared_by, markers)))

    async def settled(self) -> None:
        for removal in list(self._removals):
            await removal


@implementer(IStagedDump)
class StagedFile:
    """A file of one staging area; also the content of the dump in it."""

    def __init__(self, area: StagingArea, name: str) -> None:
        self.area = area
        self.path = f"{area.directory.path}/{name}"
        self._name = name
        self._size = 0
        self._begun = False
        self._discarded = False

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
        self.area.have_space()
        try:
            self.area.directory.append(self._name, pieces, first=first)
        finally:
            if self._discarded:  # while this hung
                unlink_if_there(self.path)

    def content(self) -> "StagedFile":
        return self

    def chunks(self) -> AsyncIterator[bytes]:
        return StoredFile(self.path, self._size, self.area.in_thread).chunks()

    def discard(self) -> None:
        self._discarded = True
        if self._begun:
            self.area.remove(self.path)
