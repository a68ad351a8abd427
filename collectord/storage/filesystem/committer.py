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

_MOST_REMEMBERED = 100_000
_ABANDONED = OSError("abandoned")


Outcomes = Sequence[tuple[CommitLatch, OSError | None]]
"""What was decided, and why it is not kept; None: it is kept."""


class GroupCommit:
    """
    The committing thread of one store.

    @param root: of the store; directories below are made as they are needed.
    @param refuse_full: raises OSError where the store counts as full; asked once for a group.
    @param on_resolved: called on the thread with each group that is decided.
    @param most_open: files of crashes that may be open at a time; None: what the limit of open files leaves for them.
    @ivar rounds: that the thread has done.
    """

    _log = Logger()

    def __init__(
        self,
        root: str,
        staging: StagingDirectory,
        sync: Sync,
        refuse_full: Callable[[], object],
        on_resolved: Callable[[Outcomes], None],
        most_open: int | None = None,
    ) -> None:
        self._root = root
        self._staging = staging
        self._sync = sync
        self._refuse_full = refuse_full
        self._on_resolved = on_resolved
        self._queue: SimpleQueue[CrashTransaction | None] = SimpleQueue()  # None ends the thread
        self._deferred_duplicates: list[CrashTransaction] = []
        self._unreleased: list[CrashTransaction] = []  # kept, but others can't know that yet
        self._durable: set[str] = set()  # directories whose own entries are durable
        self._thread: Thread | None = None
        self._closed = False
        self._most_open = most_open or share(_SHARE, _GROUP)
        self.rounds = 0

    def submit(self, transaction: CrashTransaction) -> None:
        """Commit C{transaction} with the next group."""
        self._queue.put(transaction)
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
        renamed: list[CrashTransaction] = []
        while renamed or not self._closed:
            group = self._next_group(renamed)
            try:
                renamed = self.commit(group, renamed)
            except Exception as e:
                # A thread that died here would hang every later crash.
                self._log.failure("a group could not be committed")
                self._resolve((transaction, OSError(str(e))) for transaction in [*group, *renamed])
                renamed = []
            self.rounds += 1

    def _next_group(self, renamed: Sequence[CrashTransaction]) -> list[CrashTransaction]:
        """@param renamed: not decided yet. While there are any it does not wait."""
        waiting, self._deferred_duplicates = self._deferred_duplicates, []
        files = sum(len(transaction.crash.dumps) + 1 for transaction in waiting)
        with suppress(Empty):
            while files < self._most_open:
                transaction = self._queue.get(block=not (renamed or waiting or self._closed))
                if transaction is None:
                    self._closed = True
                    break
                waiting.append(transaction)
                files += len(transaction.crash.dumps) + 1
        # Of one id, chosen by its clients, one at a time: they would write to the same names.
        group = {transaction.crash.crash_id: transaction for transaction in renamed}
        for transaction in waiting:
            if group.setdefault(transaction.crash.crash_id, transaction) is not transaction:
                self._deferred_duplicates.append(transaction)
        return list(group.values())[len(renamed) :]

    def commit(self, group: Sequence[CrashTransaction], renamed: Sequence[CrashTransaction]) -> list[CrashTransaction]:
        """
        One sync: C{renamed} is kept by it, C{group} is written before it and put in place after it.

        @return: what is in place by now, to be kept by the next sync.
        """
        batch = Batch(self._sync, self._most_open)
        prepared = self._prepare(group, batch)
        directories = {transaction: self._up_to_durable(transaction.directories) for transaction in renamed}
        needed = set().union(*directories.values())
        batch.sync(needed)
        failed = batch.failed
        if failed:
            self._distrust(failed)
        elif needed:
            self._note_durable(needed)
        self._resolve((transaction, _first_error(failed, directories[transaction])) for transaction in renamed)
        now_renamed = []
        no_peers = self._problem_of_refreshing_peers()
        for transaction in prepared:
            error = no_peers or _first_error(failed, transaction.staged)
            try:
                if error is None and not transaction.latch.abandoned:
                    self._publish(transaction)
                    now_renamed.append(transaction)
                    continue
            except OSError as e:
                error = e
            self._resolve([(transaction, error or _ABANDONED)])
        return now_renamed

    def _problem_of_refreshing_peers(self) -> OSError | None:
        """Who does not know who else stages there may put a crash in its place that is just taken away."""
        try:
            self._staging.peers.refresh()
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
        self._durable.clear()

    def _prepare(self, group: Sequence[CrashTransaction], batch: Batch) -> list[CrashTransaction]:
        prepared, failed = [], []
        full: OSError | None = None
        try:
            self._refuse_full()
        except OSError as e:
            full = e
        for transaction in group:
            error = full or (_ABANDONED if transaction.latch.abandoned else None)
            if error is None:
                try:
                    transaction.prepare(self._staging, batch)
                    prepared.append(transaction)
                    continue
                except OSError as e:
                    error = e
                except Exception as e:  # what can't be written down takes nobody along
                    self._log.failure("a crash could not be written")
                    error = OSError(str(e))
            failed.append((transaction, error))
        self._resolve(failed)
        return prepared

    def _resolve(self, outcomes: Iterable[tuple[CrashTransaction, OSError | None]]) -> None:
        group = []
        for transaction, error in outcomes:
            mine = transaction.latch.resolve(kept=error is None)
            if transaction.latch.abandoned or (mine and error is not None):
                transaction.rollback()
                self._remove_empty(transaction.directories)
            if mine:
                group.append((transaction.latch, error))
                if error is None:
                    self._unreleased.append(transaction)
        self._unreleased = [transaction for transaction in self._unreleased if not transaction.release_staging()]
        if group:
            self._on_resolved(group)

    def _publish(self, transaction: CrashTransaction) -> None:
        try:
            transaction.publish(self._staging)
        except FileNotFoundError:
            if transaction.is_begun:  # what was moved by now went with its directory
                raise
            self._make_directory(transaction.place.name_dir)
            self._make_directory(transaction.place.date_dir)
            transaction.publish(self._staging)

    def _make_directory(self, directory: str) -> None:
        try:
            self._staging.make_directory(directory)
            self._durable.discard(directory)  # it was removed since
        except FileExistsError:
            pass
        except FileNotFoundError:
            if (parent := os.path.dirname(directory)) == self._root:
                raise  # its file system went away: nothing is made in what is there instead
            self._make_directory(parent)
            self._make_directory(directory)

    def _remove_empty(self, directories: set[str]) -> None:
        """Remove those that are empty, and what led to them: the next to need them makes, and syncs, them anew."""
        for directory in directories:
            while directory != self._root:
                try:
                    os.rmdir(directory)
                except OSError:  # there are others in it, or it was never made
                    break
                # Another process may make it again, and be cut off before its entry is durable.
                self._durable.discard(directory)
                directory = os.path.dirname(directory)

    def _up_to_durable(self, directories: set[str]) -> set[str]:
        # Another process may have made a directory and not have synced it yet: trust only what was synced here.
        needed = set(directories)
        for directory in directories:
            while directory != self._root and directory not in self._durable:
                directory = os.path.dirname(directory)
                needed.add(directory)
        return needed

    def _note_durable(self, directories: set[str]) -> None:
        # A directory's own entry is durable when its parent was synced, and so on up to the root.
        if len(self._durable) > _MOST_REMEMBERED:
            self._durable.clear()
        self._durable.update(d for d in directories if os.path.dirname(d) in directories)


def _first_error(failed: dict[str, OSError], paths: Iterable[str]) -> OSError | None:
    if not failed:
        return None
    return next((failed[path] for path in paths if path in failed), None)
