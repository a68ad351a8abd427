"""
Writes what happens to crashes into the index: one row for each crash.

All of it blocks, and runs on the thread that writes.
"""

import sqlite3
from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, time
from itertools import islice

from collectord.crashid import day_of
from collectord.index.columns import (
    CHOSEN,
    COLUMNS,
    JOINED,
    TRAITS,
    CrashRow,
    id_bytes,
    id_of,
    milliseconds,
    names_in,
    row_of,
)
from collectord.index.database import transaction
from collectord.model import CrashEvent

_RECENT = 20_000
"""Crashes whose rows are found without a search."""
_POSTPONED = 20_000
"""Crashes that are searched for together; with more, it is done sooner."""
_SETTLE_S = 30.0
"""Seconds until what happens to crashes that were kept long ago is written."""
_LATE_S = 10.0
"""Seconds after which an event is given up if its crash was still not found, unless a gap is being filled."""
_HELD = 50_000
"""Crashes that may be found before the end of a gap; beyond it the oldest events are given up."""
POSTPONED_S = _SETTLE_S + _LATE_S
"""The most seconds for which an event is postponed, and is nowhere but in memory. One that waits for the end of a gap
comes again with that gap."""
_CACHED = 20_000

_INSERT = f"INSERT OR REPLACE INTO crashes VALUES ({', '.join('?' * len(COLUMNS))})"
_FIND = f"SELECT {CHOSEN} FROM {JOINED} WHERE crashes.at = ? AND crashes.id = ?"
_SEARCH = f"SELECT {CHOSEN} FROM {JOINED} WHERE crashes.at >= ? AND crashes.id IN (SELECT id FROM sought)"
_KNOWN = "SELECT id FROM crashes WHERE at >= ? AND id IN (SELECT id FROM sought)"
_NUMBER = f"SELECT number FROM traits WHERE {' AND '.join(f'{name} = ?' for name in TRAITS)}"
_NEW_NUMBER = f"INSERT INTO traits ({', '.join(TRAITS)}) VALUES ({', '.join('?' * len(TRAITS))})"
_KEPT_AS = tuple("crash_place" if name == "place" else name for name in TRAITS[:-1])
"""The names that the traits have in an event, all but that of the store."""
_STORE = TRAITS.index("store")


class CrashRows:
    """
    Writes the rows of one file. The transactions are the caller's.

    @param stores: the roots of our own stores. A crash that was moved to one of them is still here.
    """

    def __init__(self, database: sqlite3.Connection, stores: Collection[str]) -> None:
        self._database = database
        self._stores = stores
        self._recent: OrderedDict[bytes, int] = OrderedDict()  # When each was kept.
        self._postponed: dict[bytes, list[CrashEvent]] = {}
        self._held: dict[bytes, list[CrashEvent]] = {}  # of crashes that were not found, and may be told of later
        self._settle_at = 0.0
        self._newest = 0
        self._numbers: dict[tuple[str, ...], int] = {}
        self._seen_version = -1
        database.execute("CREATE TEMP TABLE IF NOT EXISTS sought (id BLOB PRIMARY KEY) WITHOUT ROWID")

    def write(self, events: Iterable[CrashEvent], now: float, *, is_filling: bool = False) -> Sequence[CrashEvent]:
        """
        Write what has happened to crashes. What is known already may be written again.

        Events of one crash may come in another order than they happened in, since several processes report them: a
        crash may have been moved before it is known that it was kept. What happens to one that was kept long ago is
        written half a minute later, together with more of that sort.

        @param now: in seconds since the epoch.
        @param is_filling: whether it is still being read which crashes were kept before.

        @return: those that say that a crash was kept of which nothing was known.
        """
        self._look_for_others()
        unheard = []
        new: list[CrashRow] = []
        for crash_id, of_crash in _by_id(events).items():
            at = self._recent.get(crash_id)
            kept = next((event for event in of_crash if event.kind == "kept"), None)
            if at is None and kept is not None:
                at = milliseconds(kept.at)
            if at is None:
                self._postponed.setdefault(crash_id, []).extend(of_crash)
            elif (found := self._find(at, crash_id)) is not None:
                self._change(found, of_crash)
            elif kept is not None:
                row = CrashRow(at, crash_id, ())
                before = (*self._held.pop(crash_id, ()), *self._postponed.pop(crash_id, ()))
                self._apply_all(row, [*of_crash, *before])
                new.append(row)
                unheard.append(kept)
        self._insert(new)
        if len(self._postponed) > _POSTPONED or now >= self._settle_at:
            self._settle_at = now + _SETTLE_S
            self.settle()
            self._give_up(now, is_filling)
        return unheard

    def known(self, crash_ids: Collection[str]) -> Collection[str]:
        """Return those of some crashes that are in the index. It is read through for that."""
        ids = [id_bytes(crash_id) for crash_id in crash_ids]
        if not ids:
            return ()
        with transaction(self._database):
            self._seek(ids)
            found = self._database.execute(_KNOWN, (min(map(_day_begins, ids)),)).fetchall()
        return [id_of(crash_id) for (crash_id,) in found]

    def _seek(self, ids: Iterable[bytes]) -> None:
        self._database.execute("DELETE FROM sought")
        self._database.executemany("INSERT INTO sought VALUES (?)", [(crash_id,) for crash_id in ids])

    def _look_for_others(self) -> None:
        """Forget what is remembered of the tables if another process has changed them."""
        (version,) = self._database.execute("PRAGMA data_version").fetchone()
        if version != self._seen_version:
            self._seen_version = version
            self._newest = self._database.execute("SELECT max(at) FROM crashes").fetchone()[0] or 0
            self._numbers.clear()
            self._recent.clear()

    def _find(self, at: int, crash_id: bytes) -> tuple[object, ...] | None:
        """Return the columns of a row if there is one; those newer than all need no look."""
        if at > self._newest:
            return None
        found: tuple[object, ...] | None = self._database.execute(_FIND, (at, crash_id)).fetchone()
        return found

    def _insert(self, rows: Sequence[CrashRow]) -> None:
        self._database.executemany(_INSERT, map(self._values, rows))
        for row in rows:
            self._recent[row.id] = row.at
            self._newest = max(self._newest, row.at)
        while len(self._recent) > _RECENT:
            self._recent.popitem(last=False)

    def _change(self, found: tuple[object, ...], events: Sequence[CrashEvent]) -> None:
        row = row_of(found)
        at = row.at
        self._apply_all(row, events)
        if row.at != at:
            self._database.execute("DELETE FROM crashes WHERE at = ? AND id = ?", (at, row.id))
            self._recent[row.id] = row.at
            self._newest = max(self._newest, row.at)
        self._database.execute(_INSERT, self._values(row))

    def settle(self) -> None:
        """Write what was postponed of the crashes that are found now."""
        if not self._postponed:
            return
        self._look_for_others()
        self._seek(self._postponed)
        for found in self._database.execute(_SEARCH, (min(map(_day_begins, self._postponed)),)).fetchall():
            self._change(found, self._postponed.pop(row_of(found).id, ()))

    def _give_up(self, now: float, is_filling: bool) -> None:
        late = [crash_id for crash_id, events in self._postponed.items() if events[-1].at <= now - _LATE_S]
        for crash_id in late:
            self._held.setdefault(crash_id, []).extend(self._postponed.pop(crash_id))
        for crash_id in list(islice(self._held, max(0, len(self._held) - (_HELD if is_filling else 0)))):
            del self._held[crash_id]

    def _values(self, row: CrashRow) -> tuple[object, ...]:
        return (
            row.at,
            row.id,
            self._number_of(row.traits),
            row.uptime_s,
            row.size,
            row.state,
            row.is_here,
            row.moved_to,
            row.keys,
            row.published_to,
            row.why,
            row.changed,
            row.annotations,
        )

    def _number_of(self, traits: tuple[str, ...]) -> int:
        number = self._numbers.get(traits)
        if number is None:
            found = self._database.execute(_NUMBER, traits).fetchone()
            number = found[0] if found else self._database.execute(_NEW_NUMBER, traits).lastrowid
            assert number is not None
            if len(self._numbers) >= _CACHED:
                self._numbers.clear()
            self._numbers[traits] = number
        return number

    def forget_unused_traits(self) -> None:
        """Remove what no crash has any more."""
        self._database.execute("DELETE FROM traits WHERE number NOT IN (SELECT traits FROM crashes)")
        self._numbers.clear()

    def _apply_all(self, row: CrashRow, events: Iterable[CrashEvent]) -> None:
        for event in events:
            if row.state != "erased":
                _apply(row, event, self._stores)


def _by_id(events: Iterable[CrashEvent]) -> dict[bytes, list[CrashEvent]]:
    by_text: dict[str, list[CrashEvent]] = {}
    for event in events:
        if event.kind != "duplicate":
            of_crash = by_text.get(event.crash_id)
            if of_crash is None:
                by_text[event.crash_id] = [event]
            else:
                of_crash.append(event)
    by_id: dict[bytes, list[CrashEvent]] = {}
    for crash_id, of_crash in by_text.items():
        try:
            by_id.setdefault(id_bytes(crash_id), []).extend(of_crash)
        except ValueError:  # A line of a journal may be about anything.
            continue
    return by_id


def _day_begins(crash_id: bytes) -> int:
    """Return when the day of a crash begins. It was not kept before that, but it may have been received elsewhere."""
    try:
        return milliseconds(datetime.combine(day_of(id_of(crash_id)), time(), UTC).timestamp())
    except ValueError:
        return 0


def _apply(row: CrashRow, event: CrashEvent, stores: Collection[str]) -> None:
    at = milliseconds(event.at)
    if at > row.changed:
        row.changed = at
    store = row.traits[_STORE] if row.traits else ""
    if event.kind == "kept":
        about = event.about
        row.at = at
        row.traits = (*[str(about.get(name, "")) for name in _KEPT_AS], store or event.where)
        row.size, row.uptime_s = _number(about.get("size")), _number(about.get("uptime_s"))
        row.annotations = str(about.get("annotations", ""))
    elif event.kind == "moved":
        if event.where in stores:  # also out of a quarantine
            _put_into(row, event.where)
            if row.state in ("kept", "quarantined"):
                row.state, row.is_here, row.why = "kept", 1, ""
        elif event.where not in names_in(row.moved_to):
            row.state = "moved"
            row.moved_to += f"{event.where}\n"
            row.keys += f"{str(event.about.get('place', '')).replace(chr(10), ' ')}\n"
    elif event.kind == "published":
        if event.where not in names_in(row.published_to):
            row.published_to += f"{event.where}\n"
    elif event.kind == "quarantined":
        row.state, row.is_here, row.why = "quarantined", 1, str(event.about.get("place", ""))
        _put_into(row, event.where)
    elif event.kind == "removed" or event.kind == "expired":
        if store in ("", event.where):
            row.is_here = 0
            if row.state == "kept" or (row.state == "quarantined" and event.kind == "expired"):
                row.state = event.kind
    elif event.kind == "erased":
        _erase(row)


def _put_into(row: CrashRow, store: str) -> None:
    row.traits = (*(row.traits[:_STORE] or ("",) * _STORE), store)


def _erase(row: CrashRow) -> None:
    """Forget all but that there was a crash, and when."""
    row.state, row.is_here, row.uptime_s, row.size = "erased", 0, None, None
    row.moved_to = row.keys = row.published_to = row.why = row.annotations = ""
    row.traits = ("",) * len(TRAITS)


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None
