"""
What is done to crashes by hand, written into the index from another process than the daemon's, which may be running.
"""

import os
import sqlite3
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import closing

from collectord.index import meta
from collectord.index.database import open_to_write, transaction
from collectord.index.rows import CrashRows
from collectord.index.search import crash_by_id
from collectord.index.writer import index_path
from collectord.model import CrashEvent


def erase_from_index(directory: str, erased: Sequence[CrashEvent], now: float) -> None:
    """
    Let the index forget all but that there were these crashes, and when. Without an index there is nothing to do. What
    is known of a fingerprint goes, too, if no other report had it.

    @param directory: of the index.
    @param erased: for each crash an event that says that it was erased.
    @param now: in seconds since the epoch.

    @raise OSError: the index still has them.
    @raise sqlite3.Error: as OSError.
    """
    if not os.path.exists(index_path(directory)):
        return
    with closing(open_to_write(index_path(directory))) as database:
        database.execute("PRAGMA secure_delete = 1")  # What is removed is overwritten.
        rows = CrashRows(database, ())
        with transaction(database):
            known = [crash_by_id(database, event.crash_id) for event in erased]
            rows.write(erased, now)
            rows.forget_unused_traits()
            for fingerprint, crashes in Counter(crash.fingerprint for crash in known if crash is not None).items():
                if fingerprint and not _has_others(database, fingerprint, crashes):
                    _forget_fingerprint(database, fingerprint)
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # The log still has what was there before.


def add_to_index(directory: str, stores: Collection[str], events: Sequence[CrashEvent], now: float) -> None:
    """
    Write what has happened to crashes. Without an index there is nothing to do.

    @param directory: of the index.
    @param stores: the roots of our own stores.
    @param now: in seconds since the epoch.

    @raise OSError: the index does not say so.
    @raise sqlite3.Error: as OSError.
    """
    if not os.path.exists(index_path(directory)):
        return
    with closing(open_to_write(index_path(directory))) as database, transaction(database):
        CrashRows(database, stores).write(events, now)


def _has_others(database: sqlite3.Connection, fingerprint: str, crashes: int) -> bool:
    """Tell whether more reports had a fingerprint than so many crashes that are erased."""
    (kept,) = database.execute("SELECT count(*) FROM traits WHERE fingerprint = ?", (fingerprint,)).fetchone()
    (seen,) = database.execute("SELECT sum(seen) FROM hours WHERE fingerprint = ?", (fingerprint,)).fetchone()
    return bool(kept) or (seen or 0) > crashes


def _forget_fingerprint(database: sqlite3.Connection, fingerprint: str) -> None:
    for table in ("fingerprints", "hours", "minutes"):
        database.execute(f"DELETE FROM {table} WHERE fingerprint = ?", (fingerprint,))


def empty_index(directory: str) -> bool:
    """
    Let the crashes be read again that are in an index, which may be in use. The counts of reports stay.

    @return: False: that is being done already.
    @raise sqlite3.Error: it can't be used, or is damaged.
    """
    with closing(open_to_write(index_path(directory))) as database:
        (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(found)
        with transaction(database):
            if meta.get(database, "missing_since") == 0:
                return False
            database.execute("DELETE FROM crashes")
            database.execute("DELETE FROM traits")
            meta.lack(database, 0.0, is_counted=True, is_told=False)
        return True
