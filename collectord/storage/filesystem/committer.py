"""
Group commit: what came while the last sync ran goes with the next.

Each crash passes through two syncs. Its files are written under staging names, and the first sync makes them durable;
then they are renamed, the raw crash last, and the second makes the directories durable. Only then the crash is kept.
One sync serves the second half of one group and the first half of the next.

One thread does it all: each system call of a thread hands Python's lock over and back, which costs more than the call.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread

from twisted.logger import Logger

from collectord.concurrency.descriptors import share
from collectord.metrics import SYNC_FAILURES
from collectord.storage.filesystem.staging import StagingDirectory
from collectord.storage.filesystem.sync import Batch, Sync
from collectord.storage.filesystem.transaction import CommitLatch, CrashTransaction

_GROUP = 512
"""Files of a group, about."""

_SHARE = 16
"""
One in so many descriptors may be a file of the group. Of a crash with more files some are synced before the others are
written.
"""

_KNOWN = 100_000
_ABANDONED = OSError("abandoned")


Decided = Sequence[tuple[CommitLatch, OSError | None]]
"""What was decided, and why it is not kept; None: it is kept."""


class GroupCommit:
    """
    The committing thread of one store.

    @param root: of the store; directories below are made as they are needed.
    @param have_space: raises OSError where the store counts as full; asked once for a group.
    @param decided: called on the thread with each group that is decided.
    @param most_open: files of crashes that may be open at a time; None: what the limit of open files leaves for them.
    @ivar rounds: that the thread has done.
    """

    _log = Logger()

    def __init__(
        self,
        root: str,
        staging: StagingDirectory,
        sync: Sync,
        have_space: Callable[[], object],
        decided: Callable[[Decided], None],
        most_open: int | None = None,
    ) -> None:
        self._root = root
        self._staging = staging
        self._sync = sync
        self._have_space = have_space
        self._decided = decided
        self._queue: SimpleQueue[CrashTransaction | None] = SimpleQueue()  # None ends the thread
        self._postponed: list[CrashTransaction] = []
        self._unsettled: list[CrashTransaction] = []  # kept, but others can't know that yet
        self._known: set[str] = set()  # directories whose own entries are durable
        self._thread: Thread | None = None
        self._closed = False
        self._most_open = most_open or share(_SHARE, _GROUP)
        self.rounds = 0

    def enter(self, entry: CrashTransaction) -> None:
        """Commit C{entry} with the next group."""
        self._queue.put(entry)
        if self._thread is None:
            self._thread = Thread(target=self._run, name=f"commit {self._root}", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Nothing is committed any more: end the thread."""
        self._queue.put(None)

    def wait_until_closed(self) -> None:
        """Return once the thread has ended, and nothing is in doubt any more; it blocks for as long as a disk hangs."""
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        placed: list[CrashTransaction] = []
        while placed or not self._closed:
            group = self._next_group(placed)
            try:
                placed = self.commit(group, placed)
            except Exception as e:
                # A thread that died here would hang every later crash.
                self._log.failure("a group could not be committed")
                self._decide((entry, OSError(str(e))) for entry in [*group, *placed])
                placed = []
            self.rounds += 1

    def _next_group(self, placed: Sequence[CrashTransaction]) -> list[CrashTransaction]:
        """@param placed: not decided yet. While there are any it does not wait."""
        waiting, self._postponed = self._postponed, []
        files = sum(len(entry.crash.dumps) + 1 for entry in waiting)
        with suppress(Empty):
            while files < self._most_open:
                entry = self._queue.get(block=not (placed or waiting or self._closed))
                if entry is None:
                    self._closed = True
                    break
                waiting.append(entry)
                files += len(entry.crash.dumps) + 1
        # Of one id, chosen by its clients, one at a time: they would write to the same names.
        group = {entry.crash.crash_id: entry for entry in placed}
        for entry in waiting:
            if group.setdefault(entry.crash.crash_id, entry) is not entry:
                self._postponed.append(entry)
        return list(group.values())[len(placed) :]

    def commit(self, group: Sequence[CrashTransaction], placed: Sequence[CrashTransaction]) -> list[CrashTransaction]:
        """
        One sync: C{placed} is kept by it, C{group} is written before it and put in place after it.

        @return: what is in place by now, to be kept by the next sync.
        """
        batch = Batch(self._sync, self._most_open)
        written = self._write(group, batch)
        directories = {entry: self._on_the_way_to(entry.directories) for entry in placed}
        needed = set().union(*directories.values())
        batch.sync(needed)
        failed = batch.failed
        if failed:
            self._distrust(failed)
        elif needed:
            self._remember(needed)
        self._decide((entry, _first(failed, directories[entry])) for entry in placed)
        in_place = []
        unseen = self._problem_of_looking_around()
        for entry in written:
            error = unseen or _first(failed, entry.staged)
            try:
                if error is None and not entry.attempt.abandoned:
                    self._put_in_place(entry)
                    in_place.append(entry)
                    continue
            except OSError as e:
                error = e
            self._decide([(entry, error or _ABANDONED)])
        return in_place

    def _problem_of_looking_around(self) -> OSError | None:
        """Who does not know who else stages there may put a crash in its place that is just taken away."""
        try:
            self._staging.look_around()
        except OSError as e:
            return e
        return None

    def _distrust(self, failed: Mapping[str, OSError]) -> None:
        SYNC_FAILURES.labels(self._root).inc()
        path, error = next(iter(failed.items()))
        self._log.error(
            "{store}: its disk did not take what was written ({path}: {why}): nothing of it is trusted",
            store=self._root,
            path=path,
            why=error.strerror or error,
        )
        # What they lead to may not be on the disk, though it will be there when it is looked for.
        self._known.clear()

    def _write(self, group: Sequence[CrashTransaction], batch: Batch) -> list[CrashTransaction]:
        written, failed = [], []
        full: OSError | None = None
        try:
            self._have_space()
        except OSError as e:
            full = e
        for entry in group:
            error = full or (_ABANDONED if entry.attempt.abandoned else None)
            if error is None:
                try:
                    entry.write(self._staging, batch)
                    written.append(entry)
                    continue
                except OSError as e:
                    error = e
                except Exception as e:  # what can't be written down takes nobody along
                    self._log.failure("a crash could not be written")
                    error = OSError(str(e))
            failed.append((entry, error))
        self._decide(failed)
        return written

    def _decide(self, outcomes: Iterable[tuple[CrashTransaction, OSError | None]]) -> None:
        group = []
        for entry, error in outcomes:
            mine = entry.attempt.decide(kept=error is None)
            if entry.attempt.abandoned or (mine and error is not None):
                entry.undo()
                self._unmake(entry.directories)
            if mine:
                group.append((entry.attempt, error))
                if error is None:
                    self._unsettled.append(entry)
        self._unsettled = [entry for entry in self._unsettled if not entry.settle()]
        if group:
            self._decided(group)

    def _put_in_place(self, entry: CrashTransaction) -> None:
        try:
            entry.put_in_place(self._staging)
        except FileNotFoundError:
            if entry.is_begun:  # what was moved by now went with its directory
                raise
            self._make(entry.place.names)
            self._make(entry.place.slot)
            entry.put_in_place(self._staging)

    def _make(self, directory: str) -> None:
        try:
            self._staging.make_directory(directory)
            self._known.discard(directory)  # it was removed since
        except FileExistsError:
            pass
        except FileNotFoundError:
            if (parent := os.path.dirname(directory)) == self._root:
                raise  # its file system went away: nothing is made in what is there instead
            self._make(parent)
            self._make(directory)

    def _unmake(self, directories: set[str]) -> None:
        """Remove those that are empty, and what led to them: the next to need them makes, and syncs, them anew."""
        for directory in directories:
            while directory != self._root:
                try:
                    os.rmdir(directory)
                except OSError:  # there are others in it, or it was never made
                    break
                self._known.discard(directory)  # another process may make it anew, and be cut off before it is durable
                directory = os.path.dirname(directory)

    def _on_the_way_to(self, directories: set[str]) -> set[str]:
        # Another process may have made a directory and not have synced it yet: trust only what was synced here.
        needed = set(directories)
        for directory in directories:
            while directory != self._root and directory not in self._known:
                directory = os.path.dirname(directory)
                needed.add(directory)
        return needed

    def _remember(self, directories: set[str]) -> None:
        # A directory's own entry is durable when its parent was synced, and so on up to the root.
        if len(self._known) > _KNOWN:
            self._known.clear()
        self._known.update(d for d in directories if os.path.dirname(d) in directories)


def _first(failed: dict[str, OSError], paths: Iterable[str]) -> OSError | None:
    if not failed:
        return None
    return next((failed[path] for path in paths if path in failed), None)
