"""
The file of the index: its tables, and how it is opened.

All of it blocks. One thread writes and others read: sqlite lets them do so at the same time, since the file has a
write-ahead log.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

from collectord.errors import IndexUnavailable

VERSION = 3
"""The version of the tables. A file with another one is made anew."""

_WAIT_S = 5.0
_CHECKPOINT_PAGES = 4000
_STEPS = 10_000

_TABLES = """
CREATE TABLE crashes (
    at INTEGER NOT NULL,
    id BLOB NOT NULL,
    traits INTEGER NOT NULL,
    uptime_s INTEGER,
    size INTEGER,
    state TEXT NOT NULL,
    is_here INTEGER NOT NULL,
    moved_to TEXT NOT NULL,
    keys TEXT NOT NULL,
    published_to TEXT NOT NULL,
    why TEXT NOT NULL,
    changed INTEGER NOT NULL,
    annotations TEXT NOT NULL,
    PRIMARY KEY (at, id)
) WITHOUT ROWID;

CREATE TABLE traits (
    number INTEGER PRIMARY KEY,
    product TEXT NOT NULL,
    version TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    place TEXT NOT NULL,
    exception TEXT NOT NULL,
    cpu TEXT NOT NULL,
    os TEXT NOT NULL,
    rule TEXT NOT NULL,
    minidump TEXT NOT NULL,
    store TEXT NOT NULL
);
CREATE INDEX traits_by_fingerprint ON traits (fingerprint, product, version);

CREATE TABLE hours (
    hour INTEGER NOT NULL,
    fingerprint TEXT NOT NULL,
    product TEXT NOT NULL,
    version TEXT NOT NULL,
    seen INTEGER NOT NULL,
    kept INTEGER NOT NULL,
    PRIMARY KEY (hour, fingerprint, product, version)
) WITHOUT ROWID;
CREATE INDEX hours_by_fingerprint ON hours (fingerprint, hour);

CREATE TABLE minutes (
    minute INTEGER NOT NULL,
    fingerprint TEXT NOT NULL,
    product TEXT NOT NULL,
    version TEXT NOT NULL,
    seen INTEGER NOT NULL,
    kept INTEGER NOT NULL,
    PRIMARY KEY (minute, fingerprint, product, version)
) WITHOUT ROWID;
CREATE INDEX minutes_by_fingerprint ON minutes (fingerprint, minute);

CREATE TABLE fingerprints (
    fingerprint TEXT PRIMARY KEY,
    place TEXT NOT NULL,
    exception TEXT NOT NULL,
    exception_code TEXT NOT NULL,
    cpu TEXT NOT NULL,
    os TEXT NOT NULL,
    first_seen REAL NOT NULL,
    last_seen REAL NOT NULL,
    last_kept REAL,
    last_kept_id TEXT NOT NULL,
    sampled_by TEXT NOT NULL,
    sampled_since REAL,
    sampled_last REAL
) WITHOUT ROWID;
CREATE INDEX fingerprints_by_place ON fingerprints (place);

CREATE TABLE meta (name TEXT PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID;
"""
"""
Rows of C{crashes} are added at the end, and no index needs a page at a random place for each: that would cost ten times
as much. So whoever looks for one crash reads rows of a time, and what many crashes have in common is in C{traits}.

Times of crashes are in milliseconds. An id is its 16 bytes. Names of several destinations, keys or publishers are in
one text, with an end of line after each; C{annotations} has C{name=value} so, after an end of line of its own.
"""


def open_to_write(path: str) -> sqlite3.Connection:
    """
    Open the file of the index, and make it and its tables if they are not there.

    @raise sqlite3.DatabaseError: it can't be used, or is damaged, or is of another version.
    """
    database = _connect(path)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if not version:
            database.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {VERSION}; COMMIT;")
        elif version != VERSION:
            raise sqlite3.DatabaseError(f"it has the version {version}, and not {VERSION}")
    except BaseException:
        database.close()
        raise
    return database


def open_to_read(path: str) -> sqlite3.Connection:
    """
    Open the file of the index to ask it.

    @raise sqlite3.DatabaseError: it can't be used, or there is none.
    """
    database = _connect(f"file:{quote(path)}?mode=rw", uri=True)
    try:
        database.execute("PRAGMA query_only = 1")
    except BaseException:
        database.close()
        raise
    return database


def _connect(path: str, *, uri: bool = False) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False, uri=uri)


def is_damaged(error: sqlite3.Error) -> bool:
    """Tell whether C{error} says that the file has to be made anew, and not that its disk is full or does not work."""
    return type(error) is sqlite3.DatabaseError


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Write all that is written meanwhile, or nothing of it."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


@contextmanager
def asking(database: sqlite3.Connection, steps: int) -> Iterator[None]:
    """
    Let questions that are asked meanwhile take no more than so many steps of sqlite's virtual machine.

    @raise IndexUnavailable: it would take more, or can't be read.
    """
    left = [steps // _STEPS]

    def out_of_time() -> bool:
        left[0] -= 1
        return left[0] < 0

    database.set_progress_handler(out_of_time, _STEPS)
    try:
        yield
    except sqlite3.Error as e:
        raise IndexUnavailable("it takes too long" if left[0] < 0 else str(e)) from e
    finally:
        database.set_progress_handler(None, 0)
