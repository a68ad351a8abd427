"""
One try to keep one crash on a file system: its files are prepared, then published, and rolled back if that fails.
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
from collectord.storage.files import sync_and_close
from collectord.storage.filesystem.existing import NOTHING, Existing, look_at
from collectord.storage.filesystem.fsops import try_hard_link, try_unlink
from collectord.storage.filesystem.layout import REASON, Place
from collectord.storage.filesystem.quarantine import make_directory, put_aside
from collectord.storage.filesystem.spill import StagedFile
from collectord.storage.filesystem.staging import StagingDirectory
from collectord.storage.filesystem.sync import Batch
from collectord.storage.filesystem.versions import mark_as_confirmed


class CommitAbandoned(OSError):
    """Nobody waits any more for this crash to be kept, so nothing of it may be left."""

    def __init__(self) -> None:
        super().__init__("abandoned")


class CommitLatch:
    """
    The one decision whether a crash is kept. Two threads may make it, and the first one wins: the committing thread,
    which committed the crash or failed to, and the reactor thread, which waits no longer.

    @ivar kept: what was decided; None: nothing yet.
    @ivar abandoned: whether the reactor thread was first.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self.kept: bool | None = None
        self.abandoned = False

    def resolve(self, *, kept: bool) -> bool:
        """Decide whether the crash is kept. Returns False if that was decided before."""
        with self._lock:
            if self.kept is not None:
                return False
            self.kept = kept
            return True

    def abandon(self) -> bool:
        """Decide that nothing of the crash is to be left. Returns False if it was decided before whether it is kept."""
        with self._lock:
            if self.kept is not None:
                return False
            self.kept, self.abandoned = False, True
            return True


class CrashTransaction:
    """
    One crash on its way through two syncs. All of it blocks, and runs on the committing thread.

    L{prepare} writes its files to the staging directory. After the first sync L{publish} moves them to their places.
    After the second sync, which covers L{directories}, the crash is kept, and L{release_staging} says so to the other
    processes. If anything fails, L{rollback} leaves nothing behind.

    @param existing: what was in its place a moment ago; None: nobody looked.
    @ivar latch: decides whether the crash is kept.
    @ivar directories: the directories that have to be durable once the crash is published.
    """

    _log = Logger()

    def __init__(self, crash: Crash, place: Place, latch: CommitLatch, existing: Existing | None = None) -> None:
        self.crash = crash
        self.place = place
        self.latch = latch
        self.directories = {place.name_dir, place.date_dir}
        self._renames: list[tuple[str, str]] = []  # for each file: its path in the staging directory, its final path
        self._created: list[str] = []  # the paths in the staging directory that this transaction has to remove
        self._published: list[str] = []  # the final paths that exist by now, in the order of _renames
        self._renamed_spills: dict[str, str] = {}  # spilled dumps that were renamed: the staging path by the final path
        self._marked_new = False
        self._existing = existing
        self._quarantined_in = ""  # the directory in the quarantine where the crash is kept instead of in its place

    @property
    def staged(self) -> Sequence[str]:
        """The paths of its files in the staging directory."""
        return [staged for staged, _ in self._renames]

    @property
    def is_begun(self) -> bool:
        """Whether some of its files are in their places by now."""
        return bool(self._published)

    def prepare(self, staging: StagingDirectory, batch: Batch) -> None:
        """
        Write the files to the staging directory, the raw crash last, and add them to C{batch} to be synced.

        @raise OSError: it has to be rolled back.
        """
        finals = self.place.dumps([dump.name for dump in self.crash.dumps], case=staging.capabilities.case)
        for dump in self.crash.dumps:
            final = finals[dump.name]
            if isinstance(dump.content, StagedFile):
                staged = dump.content.path
                batch.append((staged, dump.content.take()))
                self._renames.append((staged, final))
            elif isinstance(dump.content, StoredFile):
                copy = staging.copy(os.path.basename(final), dump.content.path, dump.sha256)
                batch.append(self._note_created(final, copy))
            else:
                assert isinstance(dump.content, InMemory)
                batch.append(self._create(staging, final, dump.content.pieces))
        batch.append(self._create(staging, self.place.raw_crash, [self._raw_crash_json()]))

    def _create(self, staging: StagingDirectory, final: str, pieces: Sequence[bytes]) -> tuple[str, int]:
        return self._note_created(final, staging.write(os.path.basename(final), pieces))

    def _note_created(self, final: str, new: tuple[str, int]) -> tuple[str, int]:
        staged = new[0]
        self._created.append(staged)
        self._renames.append((staged, final))
        return new

    def _raw_crash_json(self) -> bytes:
        return json.dumps(self.crash.raw_crash).encode()

    def publish(self, staging: StagingDirectory) -> None:
        """
        Move the files to their places. If a whole crash of this id is there already, it stays as it is.

        A spilled dump is hard-linked to its place and not renamed: if this store fails now, the next store can still
        read it. So is the raw crash if other processes stage here too, or may begin to before the crash is decided: by
        its name in the staging directory they know that the crash may be rolled back.

        @raise OSError: it has to be rolled back.
        """
        # Check this first, even if the crash turns out to be there already. If two processes stage the same id, at
        # least one sees the other's file.
        staging.peers.refuse_contended(self.crash.crash_id)
        if self._quarantined_in:
            self._publish_all(staging)
            return
        if not self._published and (existing := self._look_at_existing()).files:
            if existing.problem:
                self._quarantine_broken(staging, existing)
            elif all(existing.checksums.get(dump.name) == dump.sha256 for dump in self.crash.dumps):
                # A crashmover that read this crash before would remove it. The mark says that somebody counts on it.
                mark_as_confirmed(self.place.raw_crash)
                # Whoever kept it first may have been cut off before the link was durable.
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
            self._existing = look_at(self.place)  # another try, or another process, kept it since
        return self._existing

    def _quarantine_broken(self, staging: StagingDirectory, existing: Existing) -> None:
        """Move a broken copy to the quarantine: the whole one takes its place, and nothing is thrown away."""
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
        """
        Keep this crash in the quarantine, for another crash of this id is in its place. The first one stays there, and
        the second, which is going to be confirmed, is not lost.
        """
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
            if staged not in self._created:
                self._publish_spilled(staging, staged, final)
            elif final == self.place.raw_crash and (staging.peers.names or not self.crash.fresh):
                self._publish_contested(staging, staged, final)
            else:
                os.rename(staged, final)
                self._created.remove(staged)  # a later try may use the name again
            self._published.append(final)

    def _publish_spilled(self, staging: StagingDirectory, staged: str, final: str) -> None:
        """Publish a spilled dump by a hard link if that is possible, for its file still belongs to its upload."""
        try:
            is_linked = _try_hard_link(staging, staged, final)
        except FileExistsError:
            os.unlink(final)  # it is left over: its raw crash is not there
            is_linked = _try_hard_link(staging, staged, final)
        if not is_linked:
            os.rename(staged, final)
            self._renamed_spills[final] = staged

    def _publish_contested(self, staging: StagingDirectory, staged: str, final: str) -> None:
        """Publish a raw crash, and leave it in the staging directory, where other processes see it."""
        if not _try_hard_link(staging, staged, final):
            twin = self._create_twin(staging)
            os.rename(twin, final)
            self._created.remove(twin)

    def _create_twin(self, staging: StagingDirectory) -> str:
        """Write the raw crash a second time, durably: without hard links one file can't be in both places."""
        twin = f"{staging.path}/{self.crash.crash_id}.twin"
        if twin not in self._created:
            _, fd = staging.write(os.path.basename(twin), [self._raw_crash_json()])
            self._created.append(twin)
            sync_and_close(fd)
        return twin

    def release_staging(self) -> bool:
        """
        Remove what is left of the crash in the staging directory: it is kept, and other processes may count on it.

        @return: False: some of it could not be removed; call this again.
        """
        self._remove_created()
        return not self._created

    def rollback(self) -> None:
        """
        Leave nothing of the crash behind, as far as the disk lets us.

        The raw crash leaves its place first, so that nobody ever sees half a crash there. It leaves the staging
        directory last, so that a sweep finds the rest if this process dies meanwhile.
        """
        self._take_back_raw_crash()
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

    def _take_back_raw_crash(self) -> None:
        """Move the raw crash back to the staging directory, if it was published and is not there any more."""
        if not self._published or self._published[-1] != self.place.raw_crash:
            return
        staged = self._renames[-1][0]
        if staged not in self._created:
            with suppress(OSError):
                os.rename(self.place.raw_crash, staged)
                self._created.append(staged)
                self._published.pop()

    def _remove_created(self) -> None:
        self._created = [staged for staged in self._created if not try_unlink(staged)]


def _try_hard_link(staging: StagingDirectory, staged: str, final: str) -> bool:
    return staging.capabilities.hard_links and try_hard_link(staged, final)
