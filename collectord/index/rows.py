"""
Writes what happens to crashes into the index: one row for each crash.

All of it blocks, and runs on the thread that writes.
"""

import sqlite3
from collections.abc import Collection, Iterable, Iterator

from attrs import astuple, define, fields

from collectord.index.values import CrashState, IndexedCrash
from collectord.model import CrashEvent


@define
class _Row:
    """A row of the table C{crashes}."""

    at: float
    id: str
    product: str = ""
    version: str = ""
    fingerprint: str = ""
    place: str = ""
    exception: str = ""
    cpu: str = ""
    os: str = ""
    uptime_s: int | None = None
    size: int | None = None
    rule: str = ""
    store: str = ""
    state: CrashState = "kept"
    is_here: int = 1
    moved_to: str = ""
    keys: str = ""
    published_to: str = ""
    changed: float = 0.0
    annotations: str = ""


_NAMES = [field.name for field in fields(_Row)]
COLUMNS = ", ".join(_NAMES)
"""The columns of the table C{crashes}, for L{crash_of}."""

_INSERT = f"INSERT OR IGNORE INTO crashes VALUES ({', '.join('?' * len(_NAMES))})"
_SELECT = f"SELECT {COLUMNS} FROM crashes WHERE id = ?"
_DELETE = "DELETE FROM crashes WHERE id = ?"
_WORDS = ("product", "version", "fingerprint", "place", "exception", "cpu", "os", "rule", "annotations")


def write_events(database: sqlite3.Connection, events: Iterable[CrashEvent], stores: Collection[str]) -> None:
    """
    Write what has happened to crashes. What is known already may be written again.

    Events of one crash may come in another order than they happened in, since several processes report them: a crash
    may have been moved before it is known that it was kept.

    @param stores: the roots of our own stores. A crash that was moved to one of them is still here.
    """
    by_id: dict[str, list[CrashEvent]] = {}
    for event in events:
        if event.kind != "duplicate":
            by_id.setdefault(event.crash_id, []).append(event)
    new: list[_Row] = []
    for crash_id, of_crash in by_id.items():
        known = database.execute(_SELECT, (crash_id,)).fetchone()
        row = _Row(of_crash[0].at, crash_id) if known is None else _Row(*known)
        for event in of_crash:
            _apply(row, event, stores)
        if known is not None:
            if astuple(row) == known:
                continue
            database.execute(_DELETE, (crash_id,))
        new.append(row)
    database.executemany(_INSERT, (tuple(getattr(row, name) for name in _NAMES) for row in new))


def _apply(row: _Row, event: CrashEvent, stores: Collection[str]) -> None:
    if event.kind == "kept":
        _keep(row, event)
        return
    row.changed = max(row.changed, event.at)
    if event.kind == "moved":
        if event.where in stores:
            row.store = event.where
        elif event.where not in _names(row.moved_to):
            row.state = "moved"
            row.moved_to += f"{event.where}\n"
            row.keys += f"{_line(event.about.get('place'))}\n"
    elif event.kind == "published":
        if event.where not in _names(row.published_to):
            row.published_to += f"{event.where}\n"
    elif event.kind == "quarantined":
        row.state, row.store, row.is_here = "quarantined", event.where, 1
    elif event.kind == "removed" and row.store in ("", event.where):
        row.is_here = 0
        if row.state == "kept":
            row.state = "removed"


def _keep(row: _Row, event: CrashEvent) -> None:
    about = event.about
    row.at = event.at
    for name in _WORDS:
        setattr(row, name, str(about.get(name) or ""))
    row.size = _number(about.get("size"))
    row.uptime_s = _number(about.get("uptime_s"))
    row.store = row.store or event.where
    row.changed = max(row.changed, event.at)


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _line(value: object) -> str:
    return str(value or "").replace("\n", " ")


def _names(lines: str) -> list[str]:
    return lines.split("\n")[:-1]


def crash_of(columns: tuple[object, ...]) -> IndexedCrash:
    """
    Return the crash of one row.

    @param columns: those of L{COLUMNS}.
    """
    values = dict(zip(_NAMES, columns, strict=True))
    values["crash_id"] = values.pop("id")
    values["is_here"] = bool(values["is_here"])
    for name in ("moved_to", "keys", "published_to"):
        values[name] = tuple(_names(str(values[name])))
    del values["annotations"]
    return IndexedCrash(**values)  # type: ignore[arg-type]


def crashes_of(rows: Iterable[tuple[object, ...]]) -> Iterator[IndexedCrash]:
    """Return the crashes of several rows."""
    return map(crash_of, rows)
