"""
Group commit: the crashes that arrive while the last sync runs are committed together by the next one.

Each crash passes through two syncs. Its files are written to the staging directory, and the first sync makes them
durable. Then they are moved to their places, the raw crash last, and the second sync makes the directories durable.
Only then is the crash kept. One sync is the second one of a group and the first one of the group after it.

One thread does all of this. Each system call of a thread hands Python's lock over and takes it back, and several
threads would spend more time on that than on the calls.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread

from twisted.logger import Logger

from collectord.concurrency.descriptors import share
from collectord.concurrency.threadpool import start_thread
from collectord.metrics import SYNC_FAILURES
from collectord.storage.filesystem.staging import StagingDirectory
from collectord.storage.filesystem.sync import Batch, Sync
from collectord.storage.filesystem.transaction import CommitAbandoned, CommitLatch, CrashTransaction

_GROUP = 512
"""About how many files are committed together."""

_SHARE = 16
"""
One in so many descriptors may be a file of the group. If a crash has more files, some of them are synced before the
others are written.
"""

_MOST_REMEMBERED = 100_000
"""How many directories are remembered as durable."""

Outcomes = Sequence[tuple[CommitLatch, OSError | None]]
"""The crashes that were resolved, and why each is not kept; None: it is kept."""


class GroupCommit:
    """
    The committing thread of one store.

    @param root: of the store. Directories below it are made as they are needed.
    @param staging: the staging directory of this process in the store.
    @param sync: makes files and directories durable.
    @param refuse_full: raises L{OSError} if the store counts as full; called once for each group, on the thread.
    @param on_resolved: called on the thread with the crashes that were just resolved.
    @param most_open: how many files of crashes may be open at a time; None: as many as the process can spare.
    @ivar rounds: how many groups the thread has dealt with.
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
        self._unreleased: list[CrashTransaction] = []  # kept, but their intent records are still there
        self._durable: set[str] = set()  # directories whose own entries are durable
        self._thread: Thread | None = None
        self._closed = False
        self._most_open = most_open or share(_SHARE, _GROUP)
        self.rounds = 0

    def start(self) -> None:
        """
        Start the thread if it does not run yet. Only the reactor thread may call it.

        @raise OSError: the system allows no more threads now.
        """
        if self._thread is None:
            self._thread = start_thread(self._run, f"commit {self._root}")

    def submit(self, transaction: CrashTransaction) -> None:
        """Commit a crash with the next group, once the thread was started. Only the reactor thread may call it."""
        self._queue.put(transaction)

    def close(self) -> None:
        """Let the thread end once it has committed what was submitted; nothing may be submitted afterwards."""
        self._queue.put(None)

    def wait_until_closed(self) -> None:
        """Return once the thread has ended, and each crash is kept or rolled back. It blocks while a disk hangs."""
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        renamed: list[CrashTransaction] = []
        while renamed or self._deferred_duplicates or not self._closed:
            group = self._next_group(renamed)
            try:
                renamed = self.commit(group, renamed)
            except Exception as e:
                # If the thread ended here, every later crash would hang.
                self._log.failure("a group could not be committed")
                self._resolve((transaction, OSError(str(e))) for transaction in [*group, *renamed])
                renamed = []
            self.rounds += 1

    def _next_group(self, renamed: Sequence[CrashTransaction]) -> list[CrashTransaction]:
        """
        Take the crashes that wait. If there are none, wait for one, unless some are renamed and wait for a sync.

        @param renamed: as L{commit} has it.
        """
        waiting, self._deferred_duplicates = self._deferred_duplicates, []
        files = sum(len(transaction.crash.dumps) + 1 for transaction in waiting)
        with suppress(Empty):
            while files < self._most_open:
                transaction = self._queue.get(block=not (renamed or waiting))
                if transaction is None:
                    self._closed = True
                    break
                waiting.append(transaction)
                files += len(transaction.crash.dumps) + 1
        # A client may choose an id that another one has. Their files have the same names, so one crash waits.
        group = {transaction.crash.crash_id: transaction for transaction in renamed}
        for transaction in waiting:
            if group.setdefault(transaction.crash.crash_id, transaction) is not transaction:
                self._deferred_duplicates.append(transaction)
        return list(group.values())[len(renamed) :]

    def commit(self, group: Sequence[CrashTransaction], renamed: Sequence[CrashTransaction]) -> list[CrashTransaction]:
        """
        Do one sync, the first for C{group} and the second for C{renamed}.

        @param group: is prepared before the sync, and published after it.
        @param renamed: was published after the last sync; with this one it is kept.
        @return: the part of C{group} that was published.
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
            self._resolve([(transaction, error or CommitAbandoned())])
        return now_renamed

    def _problem_of_refreshing_peers(self) -> OSError | None:
        """
        Look again who else stages here. A process that does not know that could put a crash in its place that another
        process is just taking away.
        """
        try:
            self._staging.peers.refresh()
        except OSError as e:
            return e
        return None

    def _distrust(self, failed: Mapping[str, OSError]) -> None:
        """Report a failed sync, and count no directory as durable any more."""
        SYNC_FAILURES.labels(self._root).inc()
        path, error = next(iter(failed.items()))
        self._log.error(
            "{store}: its disk did not take what was written ({path}: {why}): nothing of it is trusted",
            store=self._root,
            path=path,
            why=error.strerror or error,
        )
        # A directory that was made just before may not be on the disk, even though it is there when it is looked for.
        self._durable.clear()

    def _prepare(self, group: Sequence[CrashTransaction], batch: Batch) -> list[CrashTransaction]:
        prepared, failed = [], []
        full: OSError | None = None
        try:
            self._refuse_full()
        except OSError as e:
            full = e
        for transaction in group:
            error = full or (CommitAbandoned() if transaction.latch.abandoned else None)
            if error is None:
                try:
                    transaction.prepare(self._staging, batch)
                    prepared.append(transaction)
                    continue
                except OSError as e:
                    error = e
                except Exception as e:  # a crash that can't be serialized must not fail the others
                    self._log.failure("a crash could not be written")
                    error = OSError(str(e))
            failed.append((transaction, error))
        self._resolve(failed)
        return prepared

    def _resolve(self, outcomes: Iterable[tuple[CrashTransaction, OSError | None]]) -> None:
        """Decide for each crash whether it is kept, roll back those that are not, and report what was decided."""
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
        directories = {transaction.place.name_dir, transaction.place.date_dir}
        # A directory that is not known is new, mostly. A crash that is not fresh may be there already, and need none.
        for directory in directories - self._durable if transaction.crash.fresh else ():
            self._make_directory(directory)
        try:
            transaction.publish(self._staging)
        except FileNotFoundError:
            if transaction.is_begun:  # the files that were moved by now are gone with their directory
                raise
            self._make_directory(transaction.place.name_dir)  # by now it may be one in the quarantine
            self._make_directory(transaction.place.date_dir)
            transaction.publish(self._staging)

    def _make_directory(self, directory: str) -> None:
        try:
            self._staging.make_directory(directory)
            self._durable.discard(directory)  # somebody removed it since it was synced
        except FileExistsError:
            pass
        except FileNotFoundError:
            if (parent := os.path.dirname(directory)) == self._root:
                raise  # the file system went away, and nothing may be made in what is there instead
            self._make_directory(parent)
            self._make_directory(directory)

    def _remove_empty(self, directories: set[str]) -> None:
        """
        Remove the directories that are empty, and the empty ones above them. Whoever needs them next makes and syncs
        them again.
        """
        for directory in directories:
            while directory != self._root:
                try:
                    os.rmdir(directory)
                except OSError:  # something else is in it, or it was never made
                    break
                # Another process may make it again, and be cut off before its entry is durable.
                self._durable.discard(directory)
                directory = os.path.dirname(directory)

    def _up_to_durable(self, directories: set[str]) -> set[str]:
        """
        C{directories} and those above them whose own entries may not be durable: all that have to be synced.

        Another process may have made a directory and not have synced it yet. So only what was synced here counts.
        """
        needed = set(directories)
        for directory in directories:
            while directory != self._root and directory not in self._durable:
                directory = os.path.dirname(directory)
                needed.add(directory)
        return needed

    def _note_durable(self, directories: set[str]) -> None:
        """Remember the directories whose own entries are durable: those whose parents were synced, too."""
        if len(self._durable) > _MOST_REMEMBERED:
            self._durable.clear()
        self._durable.update(d for d in directories if os.path.dirname(d) in directories)


def _first_error(failed: Mapping[str, OSError], paths: Iterable[str]) -> OSError | None:
    if not failed:
        return None
    return next((failed[path] for path in paths if path in failed), None)
