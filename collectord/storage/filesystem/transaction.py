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
from collectord.storage.filesystem.existing import NOTHING, Existing, look_at
from collectord.storage.filesystem.fsops import sync_and_close, try_hard_link, try_unlink
from collectord.storage.filesystem.layout import REASON, Place
from collectord.storage.filesystem.quarantine import make_directory, put_aside
from collectord.storage.filesystem.spill import StagedFile
from collectord.storage.filesystem.staging import StagingDirectory
from collectord.storage.filesystem.sync import Batch
from collectord.storage.filesystem.versions import mark_as_confirmed


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

    def resolve(self, *, kept: bool) -> bool:
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
    @ivar latch: decides what becomes of it.
    @ivar directories: that have to be durable once it is in its place.
    """

    _log = Logger()

    def __init__(self, crash: Crash, place: Place, latch: CommitLatch, existing: Existing | None = None) -> None:
        self.crash = crash
        self.place = place
        self.latch = latch
        self.directories = {place.name_dir, place.date_dir}
        self._created: list[str] = []  # staging names that are ours to remove
        self._renames: list[tuple[str, str]] = []
        self._published: list[str] = []
        self._renamed_spills: dict[str, str] = {}  # spilled dumps that could not have two names
        self._marked_new = False
        self._existing = existing
        self._quarantined_in = ""  # where it is kept instead of in its place

    @property
    def staged(self) -> Sequence[str]:
        """The staging names of what was written."""
        return [staged for staged, _ in self._renames]

    @property
    def is_begun(self) -> bool:
        """Whether some of its files have their places by now."""
        return bool(self._published)

    def prepare(self, staging: StagingDirectory, opened: Batch) -> None:
        """
        Write the files under their staging names, and give them to C{opened} to be synced.

        @raise OSError: roll it back.
        """
        finals = self.place.dumps([dump.name for dump in self.crash.dumps], case=staging.capabilities.case)
        for dump in self.crash.dumps:
            final = finals[dump.name]
            if isinstance(dump.content, StagedFile):
                staged = dump.content.path
                opened.append((staged, dump.content.take()))
                self._renames.append((staged, final))
            elif isinstance(dump.content, StoredFile):
                copy = staging.copy(os.path.basename(final), dump.content.path, dump.sha256)
                opened.append(self._note_created(final, copy))
            else:
                assert isinstance(dump.content, InMemory)
                opened.append(self._create(staging, final, dump.content.pieces))
        opened.append(self._create(staging, self.place.raw_crash, [json.dumps(self.crash.raw_crash).encode()]))

    def _create(self, staging: StagingDirectory, final: str, pieces: Sequence[bytes]) -> tuple[str, int]:
        return self._note_created(final, staging.write(os.path.basename(final), pieces))

    def _note_created(self, final: str, new: tuple[str, int]) -> tuple[str, int]:
        staged = new[0]
        self._created.append(staged)
        self._renames.append((staged, final))
        return new

    def publish(self, staging: StagingDirectory) -> None:
        """
        Give the files their places. A whole crash of this id that is there already stays as it was.

        A spilled dump gets a second name, not a new one: if this store fails now, the next can still read it. So does
        the raw crash where others stage, too, or may begin to before it is decided: by its name in the staging area
        they know that it may go again.

        @raise OSError: roll it back.
        """
        # First, whatever is there: of two that are both staged at least one sees the other.
        staging.peers.refuse_contended(self.crash.crash_id)
        if self._quarantined_in:
            self._publish_all(staging)
            return
        if not self._published and (existing := self._look_at_existing()).files:
            if existing.problem:
                self._quarantine_broken(staging, existing)
            elif all(existing.checksums.get(dump.name) == dump.sha256 for dump in self.crash.dumps):
                mark_as_confirmed(self.place.raw_crash)  # or a mover that has it in hand since before would remove it
                # Whoever put it there may have been cut off before its link was durable.
                self.directories = {self.place.name_dir, *filter(None, [existing.date_dir])}
                return
            else:
                self._publish_in_quarantine(staging)
                return
        self._marked_new = True
        with suppress(FileExistsError):
            staging.mark_new(self.place.link, self.place.link_target)
        self._publish_all(staging)

    def _look_at_existing(self) -> Existing:
        if self.crash.fresh and not os.path.lexists(self.place.raw_crash):
            return NOTHING
        if self._existing is None or not self._existing.is_still_there(self.place):
            self._existing = look_at(self.place)  # it came since, with another try or by another process
        return self._existing

    def _quarantine_broken(self, staging: StagingDirectory, existing: Existing) -> None:
        """What is broken gives way to what is whole, and stays."""
        directory = self._make_directory(staging, existing.files, existing.problem)
        put_aside(self.place, existing.files, directory)
        for link in self.place.links():
            try_unlink(link)
        self._existing = None
        BROKEN_COPIES.labels(self.place.root).inc()
        self._log.error(
            "{crash_id} was there already, and broken: that copy is in {directory} now: {why}",
            crash_id=self.crash.crash_id,
            directory=directory,
            why=existing.problem,
        )

    def _publish_in_quarantine(self, staging: StagingDirectory) -> None:
        """Two crashes have one id: the first stays what it is, and the second, which is confirmed, is kept, too."""
        why = "another crash of this id, with other dumps, was there already"
        directory = self._make_directory(staging, [os.path.basename(final) for _, final in self._renames], why)
        self._log.error(
            "{crash_id} is kept in {directory}: {why}", crash_id=self.crash.crash_id, directory=directory, why=why
        )
        self._quarantined_in = directory
        self.directories = {directory, os.path.dirname(directory)}
        self.place = evolve(self.place, name_dir=directory)
        self._renames = [(staged, f"{directory}/{os.path.basename(final)}") for staged, final in self._renames]
        self._publish_all(staging)

    def _make_directory(self, staging: StagingDirectory, files: Sequence[str], why: str) -> str:
        return make_directory(self.place, files, why, datetime.now(UTC).isoformat(), staging.make_directory)

    def _publish_all(self, staging: StagingDirectory) -> None:
        for staged, final in self._renames[len(self._published) :]:
            self._publish_one(staging, staged, final)

    def _publish_one(self, staging: StagingDirectory, staged: str, final: str) -> None:
        if staged not in self._created:
            try:
                linked = _try_hard_link(staging, staged, final)
            except FileExistsError:
                os.unlink(final)  # a leftover: its raw crash is not there
                linked = _try_hard_link(staging, staged, final)
            if not linked:
                os.rename(staged, final)
                self._renamed_spills[final] = staged
        elif final == self.place.raw_crash and (staging.peers.names or not self.crash.fresh):
            if not _try_hard_link(staging, staged, final):
                twin = self._create_twin(staging)
                os.rename(twin, final)
                self._created.remove(twin)
        else:
            os.rename(staged, final)
            self._created.remove(staged)  # a later attempt may use the name again
        self._published.append(final)

    def _create_twin(self, staging: StagingDirectory) -> str:
        """The raw crash once more, durable: without hard links it can't be in its place and be seen as undecided."""
        twin = f"{staging.path}/{self.crash.crash_id}.twin"
        if twin not in self._created:
            _, fd = staging.write(os.path.basename(twin), [json.dumps(self.crash.raw_crash).encode()])
            self._created.append(twin)
            sync_and_close(fd)
        return twin

    def release_staging(self) -> bool:
        """
        It is kept: let whoever finds it count on that.

        @return: False: it could not be said.
        """
        self._remove_created()
        return not self._created

    def rollback(self) -> None:
        """
        Leave nothing behind. The raw crash goes first, so that no half crash is ever seen, and last from the staging
        area, so that whoever sweeps finds the rest if this process dies now.
        """
        if (
            self._published
            and self._published[-1] == self.place.raw_crash
            and self._renames[-1][0] not in self._created
        ):
            with suppress(OSError):
                os.rename(self.place.raw_crash, self._renames[-1][0])
                self._created.append(self._renames[-1][0])
                self._published.pop()
        while self._published:
            final = self._published.pop()
            if final in self._renamed_spills:
                with suppress(OSError):
                    os.rename(final, self._renamed_spills.pop(final))
            else:
                try_unlink(final)
        if self._marked_new:
            try_unlink(self.place.link)
        if self._quarantined_in:
            try_unlink(f"{self._quarantined_in}/{REASON}")
        self._remove_created()

    def _remove_created(self) -> None:
        self._created = [staged for staged in self._created if not try_unlink(staged)]


def _try_hard_link(staging: StagingDirectory, staged: str, final: str) -> bool:
    return staging.capabilities.hard_links and try_hard_link(staged, final)
