"""
Erasing crashes from the index, one or all, from another process than the daemon's, which may be running.
"""

import os
import sqlite3
from collections.abc import Sequence

from collectord.index import meta
from collectord.index.database import open_to_write, transaction
from collectord.index.rows import CrashRows
from collectord.index.writer import index_path
from collectord.model import CrashEvent


def erase_from_index(directory: str, erased: Sequence[CrashEvent], now: float) -> None:
    """
    Let the index forget all but that there were these crashes, and when. Without an index there is nothing to do.

    @param directory: of the index.
    @param erased: for each crash an event that says that it was erased.
    @param now: in seconds since the epoch.

    @raise OSError: the index still has them.
    @raise sqlite3.Error: as OSError.
    """
    path = index_path(directory)
    if not os.path.exists(path):
        return
    database = open_to_write(path)
    try:
        database.execute("PRAGMA secure_delete = 1")  # What is removed is overwritten.
        rows = CrashRows(database, ())
        with transaction(database):
            rows.write(erased, now)
            rows.forget_unused_traits()
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # The log still has what was there before.
    finally:
        database.close()


def empty_index(directory: str) -> bool:
    """
    Let the crashes be read again that are in an index, which may be in use. The counts of reports stay.

    @return: False: that is being done already.
    @raise sqlite3.Error: it can't be used, or is damaged.
    """
    database = open_to_write(index_path(directory))
    try:
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
    finally:
        database.close()
