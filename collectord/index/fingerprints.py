"""
Asks the index for all that is known of one fingerprint, and for the neighbours of a crash.

All of it blocks.
"""

import sqlite3
from collections.abc import Mapping, Sequence

from collectord.index.columns import CHOSEN, JOINED, crashes_of
from collectord.index.intake import SLOTS, Span
from collectord.index.seen import HOUR_S
from collectord.index.top import fingerprint_seen, reports_in_hour
from collectord.index.values import CrashNeighbours, FingerprintPage, FingerprintSeen, IndexedCrash, SeenKept, TrendSlot

_CRASHES = 10
_OTHERS = 10
_STEPS: Mapping[Span, tuple[int, int]] = {**SLOTS, "24h": (24, HOUR_S)}
"""As L{SLOTS}: of each fingerprint only hours are counted. So the trend of ten minutes is none."""


def fingerprint_page(database: sqlite3.Connection, now: float, fingerprint: str, span: Span) -> FingerprintPage | None:
    """
    Return all that is known of a fingerprint; None: nothing is.

    @param now: in seconds since the epoch.
    """
    seen = fingerprint_seen(database, now, fingerprint)
    if seen is None:
        return None
    (kept,) = database.execute("SELECT sum(kept) FROM hours WHERE fingerprint = ?", (fingerprint,)).fetchone()
    return FingerprintPage(
        fingerprint=seen,
        of_all_hour=reports_in_hour(database, now),
        trend=_trend(database, now, fingerprint, span),
        step_s=_STEPS[span][1],
        others=_others(database, now, seen),
        kept=kept or 0,
        crashes=_newest(database, fingerprint, "", _CRASHES),
    )


def neighbours(
    database: sqlite3.Connection, now: float, crash_id: str, fingerprint: str, limit: int
) -> CrashNeighbours | None:
    """
    Return what is known of other crashes with the fingerprint of one; None: nothing is.

    @param now: in seconds since the epoch.
    """
    seen = fingerprint_seen(database, now, fingerprint)
    if seen is None:
        return None
    (others,) = database.execute(
        "SELECT count(*) FROM fingerprints WHERE place = ? AND fingerprint <> ?", (seen.place, fingerprint)
    ).fetchone()
    return CrashNeighbours(
        fingerprint=seen,
        newest=_newest(database, fingerprint, crash_id, limit),
        others=others,
        first_in=_first_in(database, seen),
    )


def _first_in(database: sqlite3.Connection, seen: FingerprintSeen) -> tuple[str, str] | None:
    """
    Return the only version in which a fingerprint was seen in its first hour.

    None: there are several, which can't be told apart, or so long ago is not counted any more.
    """
    found: list[tuple[str, str]] = database.execute(
        "SELECT product, version FROM hours WHERE fingerprint = ? AND hour = ?",
        (seen.fingerprint, seen.first_seen // HOUR_S),
    ).fetchall()
    return found[0] if len(found) == 1 else None


def _newest(database: sqlite3.Connection, fingerprint: str, without: str, limit: int) -> Sequence[IndexedCrash]:
    found = database.execute(
        f"SELECT {CHOSEN} FROM {JOINED} WHERE crashes.traits IN (SELECT number FROM traits WHERE fingerprint = ?)"
        " ORDER BY crashes.at DESC LIMIT ?",
        (fingerprint, limit + 1),
    )
    return [crash for crash in crashes_of(found) if crash.crash_id != without][:limit]


def _others(database: sqlite3.Connection, now: float, seen: FingerprintSeen) -> Sequence[FingerprintSeen]:
    names = database.execute(
        "SELECT fingerprint FROM fingerprints WHERE place = ? AND fingerprint <> ? ORDER BY last_seen DESC LIMIT ?",
        (seen.place, seen.fingerprint, _OTHERS),
    ).fetchall()
    found = [fingerprint_seen(database, now, name) for (name,) in names]
    return sorted((each for each in found if each is not None), key=lambda each: -each.day.seen)


def _trend(database: sqlite3.Connection, now: float, fingerprint: str, span: Span) -> Sequence[TrendSlot]:
    """Return a count for each slot. Slots in which nothing at all was counted are gaps."""
    count, step = _STEPS[span]
    first = int(now // step) - count + 1
    counted = _by_slot(database, step, first, "1", "")
    of_this = _by_slot(database, step, first, "fingerprint = :fingerprint", fingerprint)
    return [
        TrendSlot(at=slot * step, counts=of_this.get(slot, SeenKept()) if slot in counted else None)
        for slot in range(first, first + count)
    ]


def _by_slot(
    database: sqlite3.Connection, step: int, first: int, which: str, fingerprint: str
) -> Mapping[int, SeenKept]:
    rows = database.execute(
        f"SELECT hour * {HOUR_S} / :step AS slot, sum(seen), sum(kept) FROM hours"
        f" WHERE hour >= :first * :step / {HOUR_S} AND {which} GROUP BY slot",
        {"step": step, "first": first, "fingerprint": fingerprint},
    )
    return {slot: SeenKept(seen, kept) for slot, seen, kept in rows}
