"""
One try to keep one crash on a file system: its files written, put in their places, or undone.
"""

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from threading import Lock

from attrs import evolve
from twisted.logger import Logger

from collectord.metrics import BROKEN_COPIES
from collectord.model import Crash, InMemory
from collectord.storage.content import StoredFile
from collectord.storage.filesystem.capabilities import NOT_HERE
from collectord.storage.filesystem.existing import NOTHING, Existing, look_at
from collectord.storage.filesystem.layout import Place
from collectord.storage.filesystem.quarantine import REASON, make_directory, put_aside
from collectord.storage.filesystem.spill import StagedFile
from collectord.storage.filesystem.staging import StagingDirectory
from collectord.storage.filesystem.sync import Batch
from collectord.storage.filesystem.versions import mark_as_told


class CommitLatch:
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


class CrashTransaction:
    """
    One crash on its way through two syncs.

    @param existing: what was there a moment ago; None: nobody looked.
    @ivar attempt: decides what becomes of it.
    @ivar directories: that have to be durable once it is in its place.
    """

    _log = Logger()

    def __init__(self, crash: Crash, place: Place, attempt: CommitLatch, existing: Existing | None = None) -> None:
        self.crash = crash
        self.place = place
        self.attempt = attempt
        self.directories = {place.names, place.slot}
        self._written: list[str] = []  # staging names that are ours to remove
        self._moves: list[tuple[str, str]] = []
        self._moved: list[str] = []
        self._lent: dict[str, str] = {}  # spilled dumps that could not have two names
        self._linked = False
        self._existing = existing
        self._aside = ""  # where it is kept instead of in its place

    @property
    def staged(self) -> Sequence[str]:
        """The staging names of what was written."""
        return [staged for staged, _ in self._moves]

    @property
    def is_begun(self) -> bool:
        """Whether some of its files have their places by now."""
        return bool(self._moved)

    def write(self, staging: StagingDirectory, opened: Batch) -> None:
        """
        Write the files under their staging names, and give them to C{opened} to be synced.

        @raise OSError: undo it.
        """
        finals = self.place.dumps([dump.name for dump in self.crash.dumps], case=staging.capabilities.case)
        for dump in self.crash.dumps:
            final = finals[dump.name]
            if isinstance(dump.content, StagedFile):
                staged = dump.content.path
                opened.append((staged, dump.content.take()))
                self._moves.append((staged, final))
            elif isinstance(dump.content, StoredFile):
                copy = staging.copy(os.path.basename(final), dump.content.path, dump.sha256)
                opened.append(self._wrote(final, copy))
            else:
                assert isinstance(dump.content, InMemory)
                opened.append(self._write(staging, final, dump.content.pieces))
        opened.append(self._write(staging, self.place.raw_crash, [json.dumps(self.crash.raw_crash).encode()]))

    def _write(self, staging: StagingDirectory, final: str, pieces: Sequence[bytes]) -> tuple[str, int]:
        return self._wrote(final, staging.write(os.path.basename(final), pieces))

    def _wrote(self, final: str, new: tuple[str, int]) -> tuple[str, int]:
        staged = new[0]
        self._written.append(staged)
        self._moves.append((staged, final))
        return new

    def put_in_place(self, staging: StagingDirectory) -> None:
        """
        Give the files their places. A whole crash of this id that is there already stays as it was.

        A spilled dump gets a second name, not a new one: if this store fails now, the next can still read it. So does
        the raw crash where others stage, too, or may begin to before it is decided: by its name in the staging area
        they know that it may go again.

        @raise OSError: undo it.
        """
        # First, whatever is there: of two that are both staged at least one sees the other.
        staging.refuse_undecided(self.crash.crash_id)
        if self._aside:
            self._move_all(staging)
            return
        if not self._moved and (there := self._there()).files:
            if there.problem:
                self._put_aside(staging, there)
            elif all(there.checksums.get(dump.name) == dump.sha256 for dump in self.crash.dumps):
                mark_as_told(self.place.raw_crash)  # or a mover that has it in hand since before would remove it
                # Whoever put it there may have been cut off before its link was durable.
                self.directories = {self.place.names, *filter(None, [there.slot])}
                return
            else:
                self._go_aside(staging)
                return
        self._linked = True
        with suppress(FileExistsError):
            staging.mark_new(self.place.link, self.place.link_target)
        self._move_all(staging)

    def _there(self) -> Existing:
        if self.crash.fresh and not os.path.lexists(self.place.raw_crash):
            return NOTHING
        if self._existing is None or not self._existing.is_still_there(self.place):
            self._existing = look_at(self.place)  # it came since, with another try or by another process
        return self._existing

    def _put_aside(self, staging: StagingDirectory, there: Existing) -> None:
        """What is broken gives way to what is whole, and stays."""
        directory = self._quarantine(staging, there.files, there.problem)
        put_aside(self.place, there.files, directory)
        for link in self.place.links():
            _quietly_unlink(link)
        self._existing = None
        BROKEN_COPIES.labels(self.place.root).inc()
        self._log.error(
            "{crash_id} was there already, and broken: that copy is in {directory} now: {why}",
            crash_id=self.crash.crash_id,
            directory=directory,
            why=there.problem,
        )

    def _go_aside(self, staging: StagingDirectory) -> None:
        """Two crashes have one id: the first stays what it is, and the second, which is confirmed, is kept, too."""
        why = "another crash of this id, with other dumps, was there already"
        directory = self._quarantine(staging, [os.path.basename(final) for _, final in self._moves], why)
        self._log.error(
            "{crash_id} is kept in {directory}: {why}", crash_id=self.crash.crash_id, directory=directory, why=why
        )
        self._aside = directory
        self.directories = {directory, os.path.dirname(directory)}
        self.place = evolve(self.place, names=directory)
        self._moves = [(staged, f"{directory}/{os.path.basename(final)}") for staged, final in self._moves]
        self._move_all(staging)

    def _quarantine(self, staging: StagingDirectory, files: Sequence[str], why: str) -> str:
        return make_directory(self.place, files, why, datetime.now(UTC).isoformat(), staging.make_directory)

    def _move_all(self, staging: StagingDirectory) -> None:
        for staged, final in self._moves[len(self._moved) :]:
            self._move(staging, staged, final)

    def _move(self, staging: StagingDirectory, staged: str, final: str) -> None:
        if staged not in self._written:
            try:
                linked = _could_link(staging, staged, final)
            except FileExistsError:
                os.unlink(final)  # a leftover: its raw crash is not there
                linked = _could_link(staging, staged, final)
            if not linked:
                os.rename(staged, final)
                self._lent[final] = staged
        elif final == self.place.raw_crash and (staging.others or not self.crash.fresh):
            if not _could_link(staging, staged, final):
                twin = self._write_twin(staging)
                os.rename(twin, final)
                self._written.remove(twin)
        else:
            os.rename(staged, final)
            self._written.remove(staged)  # a later attempt may use the name again
        self._moved.append(final)

    def _write_twin(self, staging: StagingDirectory) -> str:
        """The raw crash once more, durable: without hard links it can't be in its place and be seen as undecided."""
        twin = f"{staging.path}/{self.crash.crash_id}.twin"
        if twin not in self._written:
            _, fd = staging.write(os.path.basename(twin), [json.dumps(self.crash.raw_crash).encode()])
            self._written.append(twin)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        return twin

    def settle(self) -> bool:
        """
        It is kept: let whoever finds it count on that.

        @return: False: it could not be said.
        """
        self._remove_written()
        return not self._written

    def undo(self) -> None:
        """
        Leave nothing behind. The raw crash goes first, so that no half crash is ever seen, and last from the staging
        area, so that whoever sweeps finds the rest if this process dies now.
        """
        if self._moved and self._moved[-1] == self.place.raw_crash and self._moves[-1][0] not in self._written:
            with suppress(OSError):
                os.rename(self.place.raw_crash, self._moves[-1][0])
                self._written.append(self._moves[-1][0])
                self._moved.pop()
        while self._moved:
            final = self._moved.pop()
            if final in self._lent:
                with suppress(OSError):
                    os.rename(final, self._lent.pop(final))
            else:
                _quietly_unlink(final)
        if self._linked:
            _quietly_unlink(self.place.link)
        if self._aside:
            _quietly_unlink(f"{self._aside}/{REASON}")
        self._remove_written()

    def _remove_written(self) -> None:
        self._written = [staged for staged in self._written if not _quietly_unlink(staged)]


def _could_link(staging: StagingDirectory, staged: str, final: str) -> bool:
    """False: the file system knows no second names, or none in that place."""
    if not staging.capabilities.hard_links:
        return False
    try:
        os.link(staged, final)
    except OSError as e:
        if e.errno in NOT_HERE:
            return False
        raise
    return True


def _quietly_unlink(path: str) -> bool:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
