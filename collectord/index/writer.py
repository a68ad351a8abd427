"""
Keeps the file of the index: makes it, writes what happens, fills gaps from the journal, and removes what is too old.

All of it blocks, and runs on one thread. What is lost of the file comes again from the journal, except for counts of
reports that were not kept.
"""

import os
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from itertools import islice

from attrs import define, frozen

from collectord.index.columns import milliseconds
from collectord.index.database import is_damaged, open_to_write, transaction
from collectord.index.rows import CrashRows
from collectord.index.seen import count_kept, remove_old_counts, write_tally
from collectord.index.tally import Tally
from collectord.model import CrashEvent

_FILE = "crashes.sqlite"
_CATCH_UP = 300
"""Events of the journal that are written at once while a gap is filled."""
_TRIM = 500
"""Rows that are removed at once."""
_TRIM_EVERY_S = 60.0
_MARGIN_S = 10.0
"""So long before the last write a gap begins: what happened then may not have been written."""
_ROOM = 0.9
"""What part of C{max_bytes} is filled from the journal, or left after old crashes had to be removed."""
_FULL = 1.0


@frozen(kw_only=True)
class IndexLimits:
    """
    How much the index keeps.

    @ivar keep_s: seconds for which crashes and counts are kept.
    @ivar max_bytes: of its file. Above it the oldest crashes are removed from it.
    """

    keep_s: float
    max_bytes: int


@define
class IndexFile:
    """
    The file of the index, to be written to.

    @ivar directory: it is made if it is missing, and so are those above it.
    @ivar stores: the roots of our own stores.
    @ivar events_since: reads what has happened since a time from the journal: the newest days first. It may raise
        OSError at any step.
    @ivar was_made: whether the file was missing or damaged, and had to be made anew; whoever has told that unsets it.
    """

    directory: str
    stores: Collection[str]
    limits: IndexLimits
    events_since: Callable[[float], Iterator[CrashEvent]]
    was_made: str = ""
    _database: sqlite3.Connection | None = None
    _rows: CrashRows | None = None
    _missing: Iterator[CrashEvent] | None = None
    _trim_at: float = 0.0
    _unused_at: float = 0.0

    def write(
        self, events: Sequence[CrashEvent], tallies: Sequence[Tally], lost_since: float | None, now: float
    ) -> None:
        """
        Write what has happened.

        @param lost_since: since when events were given up, if any were; they are read from the journal later.
        @param now: in seconds since the epoch.

        @raise OSError: it is not written, and may be written again.
        @raise sqlite3.Error: as OSError.
        """
        try:
            database = self._opened(now)
            rows = self._rows_of(database)
            with transaction(database):
                rows.write(events, now)
                for tally in tallies:
                    write_tally(database, tally, now)
                if lost_since is not None:
                    _lack(database, lost_since, is_counted=True)
                _set(database, "noted_until", now)
            if lost_since is not None:
                self._missing = self.events_since(lost_since)
        except sqlite3.Error as e:
            self._make_anew(e)

    def tidy(self, now: float) -> bool:
        """
        Do a little of what else there is to do: fill a gap, or remove what is too old.

        @return: whether there is more of it.

        @raise OSError: it could not be done.
        @raise sqlite3.Error: as OSError.
        """
        try:
            database = self._opened(now)
            return self._fill_gap(database, now) or self._trim(database, now)
        except sqlite3.Error as e:
            self._make_anew(e)
            return True

    def close(self) -> None:
        """Close the file. It may be written to again."""
        self._missing = self._rows = None
        if self._database is not None:
            self._database.close()
            self._database = None

    # The file

    def _opened(self, now: float) -> sqlite3.Connection:
        if self._database is None:
            path = index_path(self.directory)
            os.makedirs(self.directory, 0o700, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._database = open_to_write(path)
            noted = _get(self._database, "missing_since", _get(self._database, "noted_until", 0.0) - _MARGIN_S)
            since = max(noted, now - self.limits.keep_s)
            with transaction(self._database):
                _lack(self._database, since, is_counted=False)
            self._missing = self.events_since(since)
        return self._database

    def _rows_of(self, database: sqlite3.Connection) -> CrashRows:
        if self._rows is None:
            self._rows = CrashRows(database, self.stores)
        return self._rows

    def _make_anew(self, error: sqlite3.Error) -> None:
        """
        Remove a file that is damaged, so that another is made by the next write.

        @raise sqlite3.Error: C{error}, in any case.
        """
        self.close()
        if is_damaged(error):
            for end in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    os.unlink(index_path(self.directory) + end)
            self.was_made = str(error)
        raise error

    # The rest

    def _fill_gap(self, database: sqlite3.Connection, now: float) -> bool:
        if self._missing is None:
            return False
        events = list(islice(self._missing, _CATCH_UP))
        with transaction(database):
            recent = [event for event in events if event.at > now - self.limits.keep_s]
            unheard = self._rows_of(database).write(recent, now)
            if not _get(database, "is_counted", 0.0):
                count_kept(database, unheard)
            if len(events) < _CATCH_UP or self._is_over(database, _ROOM):
                database.execute("DELETE FROM meta WHERE name IN ('missing_since', 'is_counted')")
                self._missing = None
        return True

    def _trim(self, database: sqlite3.Connection, now: float) -> bool:
        if now < self._trim_at:
            return False
        with transaction(database):
            remove_old_counts(database, now, self.limits.keep_s)
            oldest = "SELECT at, id FROM crashes WHERE at < ? ORDER BY at LIMIT ?"
            is_over = self._is_over(database, _FULL)
            before = now if is_over else now - self.limits.keep_s
            too_old = database.execute(
                f"DELETE FROM crashes WHERE (at, id) IN ({oldest})", (milliseconds(before), _TRIM)
            )
            removed = too_old.rowcount
        if removed < _TRIM:
            self._trim_at = now + _TRIM_EVERY_S
        return removed == _TRIM

    def _is_over(self, database: sqlite3.Connection, part: float) -> bool:
        pages, free, size = (
            database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        return bool((pages - free) * size > self.limits.max_bytes * part)


def index_path(directory: str) -> str:
    """Return where the file of an index is."""
    return os.path.join(directory, _FILE)


def _lack(database: sqlite3.Connection, since: float, *, is_counted: bool) -> None:
    """
    Note that not all is known that has happened since a time.

    @param is_counted: whether the reports that were seen since then are counted, nevertheless.
    """
    is_counted = is_counted or bool(_get(database, "is_counted", 0.0))
    _set(database, "is_counted", float(is_counted))
    _set(database, "missing_since", min(since, _get(database, "missing_since", since)))


def _get(database: sqlite3.Connection, name: str, default: float) -> float:
    found = database.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return default if found is None else float(found[0])


def _set(database: sqlite3.Connection, name: str, value: float) -> None:
    database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))
