"""
What the index knows of itself: numbers by their names, and since when it lacks something.

C{noted_until} is when it was written last, and C{ended} is there if nothing has happened after that. C{missing_since}
is there as long as not all is known that has happened since then; then C{is_counted} tells whether the reports that
were seen meanwhile are counted nevertheless, and C{is_told} whether the journal has all that is missing.
"""

import sqlite3
from typing import Final

NEVER: Final = -1.0
"""No time, in the place of one."""


def get(database: sqlite3.Connection, name: str, default: float = NEVER) -> float:
    """Return a number."""
    found = database.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return default if found is None else float(found[0])


def put(database: sqlite3.Connection, name: str, value: float) -> None:
    """Set a number."""
    database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))


def drop(database: sqlite3.Connection, *names: str) -> None:
    """Remove numbers."""
    database.executemany("DELETE FROM meta WHERE name = ?", [(name,) for name in names])


def lack(database: sqlite3.Connection, since: float, *, is_counted: bool, is_told: bool) -> None:
    """
    Note that not all is known that has happened since a time.

    @param is_counted: whether the reports that were seen since then are counted, nevertheless.
    @param is_told: whether the journal has all of it.
    """
    missing = get(database, "missing_since")
    if missing != NEVER:
        since = min(since, missing)
        is_told = is_told and get(database, "is_told") > 0
    put(database, "is_counted", float(is_counted or get(database, "is_counted") > 0))
    put(database, "is_told", float(is_told))
    put(database, "missing_since", since)


def lack_nothing(database: sqlite3.Connection) -> None:
    """Undo L{lack}."""
    drop(database, "missing_since", "is_counted", "is_told")
