"""
Group commit: what came while the last sync ran goes with the next.

Each crash passes through two syncs. Its files are written under staging names, and the first sync makes them durable;
then they are renamed, the raw crash last, and the second makes the directories durable. Only then the crash is kept.
One sync serves the second half of one group and the first half of the next.

One thread does it all: each system call of a thread hands Python's lock over and back, which costs more than the call.
"""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Lock, Thread

from twisted.logger import Logger

from collectord.model import Crash, InMemory
from collectord.storage.layout import Place
from collectord.storage.spill import StagedFile
from collectord.storage.staging import StagingDirectory
from collectord.storage.sync import Sync

_GROUP = 512
"""Files of a group, about: they are all open at once."""

_KNOWN = 100_000
_ABANDONED = OSError("abandoned")


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
    """

    def __init__(self, crash: Crash, place: Place, attempt: Attempt) -> None:
        self.crash = crash
        self.place = place
        self.attempt = attempt
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
        staged, fd = staging.write(os.path.basename(final), pieces)
        self._written.append(staged)
        self._moves.append((staged, final))
        return staged, fd

    def put_in_place(self) -> None:
        """
        Give the files their places. A crash that is there already, of an id chosen by its client, stays as it was.

        A spilled dump gets a second name, not a new one: if this store fails now, the next can still read it.

        @raise OSError: undo it.
        """
        if os.path.lexists(self.place.raw_crash):
            self._remove_written()
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


Decided = Sequence[tuple[Attempt, OSError | None]]
"""What was decided, and why it is not kept; None: it is kept."""


class GroupCommit:
    """
    The committing thread of one store.

    @param root: of the store; directories below are made as they are needed.
    @param have_space: raises OSError where the store counts as full; asked once for a group.
    @param decided: called on the thread with each group that is decided.
    @ivar rounds: that the thread has done.
    """

    _log = Logger()

    def __init__(
        self,
        root: str,
        staging: StagingDirectory,
        sync: Sync,
        have_space: Callable[[], int],
        decided: Callable[[Decided], None],
    ) -> None:
        self._root = root
        self._staging = staging
        self._sync = sync
        self._have_space = have_space
        self._decided = decided
        self._queue: SimpleQueue[Entry] = SimpleQueue()
        self._known: set[str] = set()  # directories whose own entries are durable
        self._started = False
        self.rounds = 0

    def enter(self, entry: Entry) -> None:
        """Commit C{entry} with the next group."""
        self._queue.put(entry)
        if not self._started:
            self._started = True
            Thread(target=self._run, name=f"commit {self._root}", daemon=True).start()

    def _run(self) -> None:
        placed: list[Entry] = []
        while True:
            group = self._next_group(block=not placed)
            try:
                placed = self.commit(group, placed)
            except Exception as e:
                # A thread that died here would hang every later crash.
                self._log.failure("a group could not be committed")
                self._decide((entry, OSError(str(e))) for entry in [*group, *placed])
                placed = []
            self.rounds += 1

    def _next_group(self, *, block: bool) -> list[Entry]:
        entries = [self._queue.get()] if block else []
        files = sum(len(entry.crash.dumps) + 1 for entry in entries)
        with suppress(Empty):
            while files < _GROUP:
                entries.append(self._queue.get_nowait())
                files += len(entries[-1].crash.dumps) + 1
        return entries

    def commit(self, group: Sequence[Entry], placed: Sequence[Entry]) -> list[Entry]:
        """
        One sync: C{placed} is kept by it, C{group} is written before it and put in place after it.

        @return: what is in place by now, to be kept by the next sync.
        """
        written, opened = self._write(group)
        directories = {entry: self._directories(entry.place) for entry in placed}
        needed = set().union(*directories.values())
        failed = self._sync([file for files in opened for file in files], needed)
        if needed.isdisjoint(failed):
            self._remember(needed)
        self._decide((entry, _first(failed, directories[entry])) for entry in placed)
        in_place = []
        for entry, files in zip(written, opened, strict=True):
            error = _first(failed, [path for path, _ in files])
            try:
                if error is None and not entry.attempt.abandoned:
                    self._put_in_place(entry)
                    in_place.append(entry)
                    continue
            except OSError as e:
                error = e
            self._decide([(entry, error or _ABANDONED)])
        return in_place

    def _write(self, group: Sequence[Entry]) -> tuple[list[Entry], list[list[tuple[str, int]]]]:
        written, opened, failed = [], [], []
        full: OSError | None = None
        try:
            self._have_space()
        except OSError as e:
            full = e
        for entry in group:
            error = full or (_ABANDONED if entry.attempt.abandoned else None)
            if error is None:
                try:
                    opened.append(entry.write(self._staging))
                    written.append(entry)
                    continue
                except OSError as e:
                    error = e
                except Exception as e:  # what can't be written down takes nobody along
                    self._log.failure("a crash could not be written")
                    error = OSError(str(e))
            failed.append((entry, error))
        self._decide(failed)
        return written, opened

    def _decide(self, outcomes: Iterable[tuple[Entry, OSError | None]]) -> None:
        group = []
        for entry, error in outcomes:
            mine = entry.attempt.decide(kept=error is None)
            if entry.attempt.abandoned or (mine and error is not None):
                entry.undo()
            if mine:
                group.append((entry.attempt, error))
        if group:
            self._decided(group)

    def _put_in_place(self, entry: Entry) -> None:
        try:
            entry.put_in_place()
        except FileNotFoundError:
            self._make(entry.place.names)
            self._make(entry.place.slot)
            entry.put_in_place()

    def _make(self, directory: str) -> None:
        try:
            self._staging.make_directory(directory)
            self._known.discard(directory)  # it was removed since
        except FileExistsError:
            pass
        except FileNotFoundError:
            if directory == self._root:
                raise
            self._make(os.path.dirname(directory))
            self._make(directory)

    def _directories(self, place: Place) -> set[str]:
        # Another process may have made a directory and not have synced it yet: trust only what was synced here.
        needed = {place.names, place.slot}
        for directory in (place.names, place.slot):
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


def _quietly_unlink(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)
