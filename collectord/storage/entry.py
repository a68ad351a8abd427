"""
One try to keep one crash on a file system: its files written, put in their places, or undone.
"""

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from threading import Lock

from collectord.model import Crash, InMemory
from collectord.storage.layout import Place
from collectord.storage.spill import StagedFile
from collectord.storage.staging import StagingDirectory
from collectord.storage.stored import StoredFile


class Attempt:
    """
    One try to keep one crash. Whoever decides it first has decided it: the thread that committed it (or failed), or the
    reactor that waits no longer.

    @ivar kept: what was decided; None: nothing yet.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self.kept: bool | None = None
        self.abandoned = False

    def decide(self, *, kept: bool) -> bool:
        """False: it was decided before."""
        with self._lock:
            if self.kept is not None:
                return False
            self.kept = kept
            return True

    def abandon(self) -> bool:
        """Decide that nothing of it is to be left. False: it was decided before."""
        with self._lock:
            if self.kept is not None:
                return False
            self.kept, self.abandoned = False, True
            return True


class Entry:
    """
    One crash on its way through two syncs.

    @ivar attempt: decides what becomes of it.
    @ivar directories: that have to be durable once it is in its place.
    """

    def __init__(self, crash: Crash, place: Place, attempt: Attempt) -> None:
        self.crash = crash
        self.place = place
        self.attempt = attempt
        self.directories = {place.names, place.slot}
        self._written: list[str] = []  # staging names that are ours to remove
        self._moves: list[tuple[str, str]] = []
        self._moved: list[str] = []
        self._linked = False

    def write(self, staging: StagingDirectory) -> list[tuple[str, int]]:
        """
        Write the files under their staging names.

        @return: those that are to be synced, with their descriptors.

        @raise OSError: undo it.
        """
        opened: list[tuple[str, int]] = []
        try:
            for dump in self.crash.dumps:
                final = self.place.dump(dump.name)
                if isinstance(dump.content, StagedFile):
                    staged = dump.content.path
                    opened.append((staged, os.open(staged, os.O_RDWR | os.O_CLOEXEC)))
                    self._moves.append((staged, final))
                elif isinstance(dump.content, StoredFile):
                    opened.append(self._wrote(final, staging.copy(os.path.basename(final), dump.content)))
                else:
                    assert isinstance(dump.content, InMemory)
                    opened.append(self._write(staging, final, dump.content.pieces))
            opened.append(self._write(staging, self.place.raw_crash, [json.dumps(self.crash.raw_crash).encode()]))
        except BaseException:
            for _, fd in opened:
                os.close(fd)
            raise
        return opened

    def _write(self, staging: StagingDirectory, final: str, pieces: Sequence[bytes]) -> tuple[str, int]:
        return self._wrote(final, staging.write(os.path.basename(final), pieces))

    def _wrote(self, final: str, new: tuple[str, int]) -> tuple[str, int]:
        staged = new[0]
        self._written.append(staged)
        self._moves.append((staged, final))
        return new

    def put_in_place(self) -> None:
        """
        Give the files their places. A crash that is there already, of an id chosen by its client, stays as it was.

        A spilled dump gets a second name, not a new one: if this store fails now, the next can still read it.

        @raise OSError: undo it.
        """
        if os.path.lexists(self.place.raw_crash):
            self._remove_written()
            self.directories = {self.place.names}
            return
        with suppress(FileExistsError):
            os.symlink(self.place.link_target, self.place.link)
        self._linked = True
        for staged, final in self._moves[len(self._moved) :]:
            if staged in self._written:
                os.rename(staged, final)
                self._written.remove(staged)  # a later attempt may use the name again
            else:
                os.link(staged, final)
            self._moved.append(final)

    def undo(self) -> None:
        """
        Leave nothing behind. The raw crash goes first, so that no half crash is ever seen.

        It goes back to the staging area, so that whoever sweeps finds the rest if this process dies now.
        """
        if self._moved and self._moved[-1] == self.place.raw_crash:
            staged = self._moves[-1][0]
            with suppress(OSError):
                os.link(self.place.raw_crash, staged)
                self._written.append(staged)
        while self._moved:
            _quietly_unlink(self._moved.pop())
        if self._linked:
            _quietly_unlink(self.place.link)
        self._remove_written()

    def _remove_written(self) -> None:
        for staged in self._written:
            _quietly_unlink(staged)


def _quietly_unlink(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)
