"""
Keeps the file of the index: makes it, writes what happens, fills gaps, and removes what is too old.

All of it blocks, and runs on one thread. What is lost of the file comes again from the journal and the stores, except
for counts of reports that were not kept.
"""

import os
import sqlite3
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import NoReturn

from attrs import define, frozen

from collectord.index import meta
from collectord.index.columns import milliseconds
from collectord.index.database import is_damaged, open_to_write, transaction
from collectord.index.gap import Gap, IndexSources
from collectord.index.rows import POSTPONED_S, CrashRows
from collectord.index.seen import count_kept, remove_old_counts, write_tally
from collectord.index.tally import Tally
from collectord.model import CrashEvent

_FILE = "crashes.sqlite"
_TRIM = 500
"""Rows that are removed at once."""
_TRIM_EVERY_S = 60.0
_MARGIN_S = POSTPONED_S + 20.0
"""So long before the last write a gap begins: what happened then may not have been written."""
_ROOM = 0.9
"""The part of C{max_bytes} up to which a gap is filled."""
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
    @ivar sources: where what is missing is read.
    @ivar was_made: why the file had to be made anew while it was used; whoever has told that unsets it.
    @ivar gap: what is being read again now.
    @ivar filled: what was read again; whoever has told that unsets it.
    """

    directory: str
    stores: Collection[str]
    limits: IndexLimits
    sources: IndexSources
    was_made: str = ""
    gap: Gap | None = None
    filled: Gap | None = None
    _database: sqlite3.Connection | None = None
    _inode: int = 0
    _is_doubtful: bool = False
    _lacked_since: float = meta.NEVER
    _rows: CrashRows | None = None
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
                rows.write(events, now, is_filling=meta.get(database, "missing_since") != meta.NEVER)
                for tally in tallies:
                    write_tally(database, tally, now)
                if lost_since is not None:
                    meta.lack(database, lost_since, is_counted=True, is_told=False)
                    self.gap = None
                meta.put(database, "noted_until", now)
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
            self._refuse_damaged(database)
            return self._fill_gap(database, now) or self._trim(database, now)
        except sqlite3.Error as e:
            self._make_anew(e)

    def doubt(self) -> None:
        """Let the next L{tidy} look whether the file is damaged. This may be called on another thread."""
        self._is_doubtful = True

    def close(self) -> None:
        """Close the file: all that has happened so far is written, here and in the journal. It may be used again."""
        if self._database is not None:
            with suppress(sqlite3.Error), transaction(self._database):
                self._rows_of(self._database).settle()
                meta.put(self._database, "ended", 1.0)
        self._close()

    def _close(self) -> None:
        self.gap = self._rows = None
        if self._database is not None:
            self._database.close()
            self._database = None

    # The file

    def _opened(self, now: float) -> sqlite3.Connection:
        path = index_path(self.directory)
        if self._database is not None and _inode_of(path) != self._inode:
            self._close()
            self.was_made = "the file was removed"
        if self._database is None:
            os.makedirs(self.directory, 0o700, exist_ok=True)
            with suppress(FileExistsError):  # to close a file that sqlite has open would drop its locks
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            self._inode = _inode_of(path)
            self._database = open_to_write(path)
            since = max(0.0, meta.get(self._database, "noted_until") - _MARGIN_S)
            with transaction(self._database):
                meta.lack(self._database, since, is_counted=False, is_told=meta.get(self._database, "ended") > 0)
                meta.drop(self._database, "ended")
        return self._database

    def _rows_of(self, database: sqlite3.Connection) -> CrashRows:
        if self._rows is None:
            self._rows = CrashRows(database, self.stores)
        return self._rows

    def _make_anew(self, error: sqlite3.Error) -> NoReturn:
        """
        Remove a file that is damaged, so that another is made by the next write.

        @raise sqlite3.Error: C{error}, in any case.
        """
        self._close()
        if is_damaged(error):
            remove_index(self.directory)
            self.was_made = str(error)
        raise error

    def _refuse_damaged(self, database: sqlite3.Connection) -> None:
        if self._is_doubtful:
            self._is_doubtful = False
            (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise sqlite3.DatabaseError(found)

    # The rest

    def _fill_gap(self, database: sqlite3.Connection, now: float) -> bool:
        since = meta.get(database, "missing_since")
        if since == meta.NEVER:
            return False
        if self.gap is None or since != self._lacked_since:  # another process may have emptied the index
            self._lacked_since = since
            oldest, with_stores = now - self.limits.keep_s, meta.get(database, "is_told") <= 0
            self.gap = Gap(
                self.sources,
                max(since, oldest),
                now,
                with_stores=with_stores,
                is_of_all=since < oldest,
                known=self._rows_of(database).known,
            )
        gap = self.gap
        try:
            events = gap.step()
        except OSError:
            self.gap = None
            raise
        with transaction(database):
            recent = [event for event in events or () if event.at > now - self.limits.keep_s]
            rows = self._rows_of(database)
            unheard = rows.write(recent, now, is_filling=True)
            if meta.get(database, "is_counted") <= 0:
                count_kept(database, unheard)
            if events is None or self._is_over(database, _ROOM):
                rows.settle()
                meta.lack_nothing(database)
                self.gap, self.filled = None, gap
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


def remove_index(directory: str) -> None:
    """
    Remove the file of an index. Whoever has it open makes it anew.

    @raise OSError: it is still there.
    """
    for end in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            os.unlink(index_path(directory) + end)


def _inode_of(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return 0
