"""
Group commit: what finished while the last sync ran goes with the next.

Each crash passes through two syncs. The first makes its files durable under their staging names; then they are renamed,
the raw crash last; the second makes the directories durable. Only then the crash is kept. One sync serves the second
half of one group and the first half of the next.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Lock, Thread

from attrs import define, field
from twisted.logger import Logger

from collectord.storage.layout import Place
from collectord.storage.sync import Sync

_KNOWN = 100_000


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


@define(eq=False, kw_only=True)
class Entry:
    """
    A crash whose files are written under their staging names.

    @ivar moves: from staging to their places, the raw crash last.
    @ivar spilled: those of the staging names that belong to others. They get a second name instead of a new one, so
        that the next store can still read them when this one fails.
    """

    place: Place
    moves: Sequence[tuple[str, str]]
    spilled: frozenset[str]
    attempt: Attempt
    _moved: list[str] = field(factory=list)
    _linked: bool = False

    def put_in_place(self) -> None:
        """
        Rename the files to their places. A crash that is there already, of an id chosen by its client, stays as it was.

        @raise OSError: undo it.
        """
        if os.path.lexists(self.place.raw_crash):
            self._remove_staged()
            return
        with suppress(FileExistsError):
            os.symlink(self.place.link_target, self.place.link)
        self._linked = True
        for staged, final in self.moves[len(self._moved) :]:
            (os.link if staged in self.spilled else os.rename)(staged, final)
            self._moved.append(final)

    def undo(self) -> None:
        """Leave nothing behind. The raw crash goes first, so that no half crash is ever seen."""
        while self._moved:
            _quietly_unlink(self._moved.pop())
        if self._linked:
            _quietly_unlink(self.place.link)
        self._remove_staged()

    def _remove_staged(self) -> None:
        for staged, _ in self.moves:
            if staged not in self.spilled:
                _quietly_unlink(staged)


Settled = Sequence[tuple[Attempt, OSError | None]]
"""What was decided, and why it is not kept; None: it is kept."""


class GroupCommit:
    """
    The committing thread of one store.

    @param root: of the store; directories below are made as they are needed.
    @param settled: called on the thread with each group that is decided.
    """

    _log = Logger()

    def __init__(
        self, root: str, sync: Sync, make_directory: Callable[[str], None], settled: Callable[[Settled], None]
    ) -> None:
        self._root = root
        self._sync = sync
        self._make_directory = make_directory
        self._settled = settled
        self._queue: SimpleQueue[Entry] = SimpleQueue()
        self._known: set[str] = set()  # directories whose own entries are durable
        self._started = False
        self._starting = Lock()

    def enter(self, entry: Entry) -> None:
        """Commit C{entry} with the next group; from any thread."""
        self._queue.put(entry)
        with self._starting:
            if not self._started:
                self._started = True
                Thread(target=self._run, name=f"commit {self._root}", daemon=True).start()

    def _run(self) -> None:
        placed: list[Entry] = []
        while True:
            written = self._waiting(block=not placed)
            try:
                placed = self.commit(written, placed)
            except Exception as e:
                # A thread that died here would hang every later crash.
                self._log.failure("a group could not be committed")
                self._settle((entry, OSError(str(e))) for entry in [*written, *placed])
                placed = []

    def _waiting(self, *, block: bool) -> list[Entry]:
        entries = [self._queue.get()] if block else []
        while True:
            try:
                entries.append(self._queue.get_nowait())
            except Empty:
                return entries

    def commit(self, written: Sequence[Entry], placed: Sequence[Entry]) -> list[Entry]:
        """
        One sync: C{placed} is kept by it, C{written} is durable in staging and put in place.

        @return: what is placed by now, for the next sync.
        """
        directories = {entry: self._directories(entry.place) for entry in placed}
        needed = set().union(*directories.values())
        failed = self._sync([staged for entry in written for staged, _ in entry.moves], needed)
        self._remember(needed - failed.keys())
        self._settle((entry, _first(failed, directories[entry])) for entry in placed)
        next_placed, unplaced = [], []
        for entry in written:
            try:
                error = _first(failed, [staged for staged, _ in entry.moves])
                if error is None and not entry.attempt.abandoned:
                    self._put_in_place(entry)
                    next_placed.append(entry)
                    continue
            except OSError as e:
                error = e
            unplaced.append((entry, error or OSError("abandoned")))
        self._settle(unplaced)
        return next_placed

    def _settle(self, decided: Iterable[tuple[Entry, OSError | None]]) -> None:
        group = []
        for entry, error in decided:
            mine = entry.attempt.decide(kept=error is None)
            if entry.attempt.abandoned or (mine and error is not None):
                entry.undo()
            if mine:
                group.append((entry.attempt, error))
        if group:
            self._settled(group)

    def _put_in_place(self, entry: Entry) -> None:
        try:
            entry.put_in_place()
        except FileNotFoundError:
            self._make(entry.place.names)
            self._make(entry.place.slot)
            entry.put_in_place()

    def _make(self, directory: str) -> None:
        try:
            self._make_directory(directory)
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
        # A directory's own entry is durable when its parent was synced.
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
