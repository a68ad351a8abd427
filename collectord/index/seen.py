"""
Writes into the index how many reports were seen of each fingerprint, product and version.

All of it blocks, and runs on the thread that writes. Counts are of hours for a month, and for an hour also of five
minutes, so that "the last hour" is one.
"""

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

from collectord.index.tally import Tally
from collectord.model import CrashEvent

HOUR_S: Final = 3600
MINUTES_S: Final = 300
"""Seconds of one row of the table C{minutes}."""
_SAMPLED_S: Final = 3600.0
"""A rule that has left out nothing for so long begins anew when it leaves out something."""

_KEY = ("fingerprint", "product", "version")
_FACTS_OF = ("fingerprint", "crash_place", "exception", "cpu", "os")

_COUNT = """
INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT ({slot}, fingerprint, product, version)
DO UPDATE SET seen = seen + excluded.seen, kept = kept + excluded.kept
"""
_COUNT_HOUR = _COUNT.format(table="hours", slot="hour")
_COUNT_MINUTES = _COUNT.format(table="minutes", slot="minute")
_FACTS = f"""
INSERT INTO fingerprints
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7, nullif(?8, 0), ?9, ?11, nullif(?10, 0), nullif(?10, 0))
ON CONFLICT (fingerprint) DO UPDATE SET
    place = excluded.place,
    exception = excluded.exception,
    exception_code = iif(excluded.exception_code = '', exception_code, excluded.exception_code),
    cpu = excluded.cpu,
    os = excluded.os,
    last_seen = max(last_seen, excluded.last_seen),
    first_seen = min(first_seen, excluded.first_seen),
    last_kept = max(coalesce(excluded.last_kept, last_kept), coalesce(last_kept, excluded.last_kept)),
    last_kept_id = iif(
        coalesce(excluded.last_kept, 0) >= coalesce(last_kept, 0) AND excluded.last_kept_id <> '',
        excluded.last_kept_id,
        last_kept_id
    ),
    sampled_by = iif(excluded.sampled_by = '', sampled_by, excluded.sampled_by),
    sampled_since = iif(
        excluded.sampled_by <> ''
            AND (sampled_by <> excluded.sampled_by OR excluded.sampled_last - sampled_last > {_SAMPLED_S}),
        excluded.sampled_since,
        coalesce(sampled_since, excluded.sampled_since)
    ),
    sampled_last = coalesce(excluded.sampled_last, sampled_last)
"""


def write_tally(database: sqlite3.Connection, tally: Tally, now: float) -> None:
    """
    Add what was counted.

    @param now: in seconds since the epoch; what was counted counts as having been seen then.
    """
    counts, facts = tally
    of_hour = [("", "", "", 0, 0), *counts]  # so an hour without reports has a row
    _count(database, [(now, *count) for count in of_hour])
    database.executemany(_FACTS, facts)


def count_kept(database: sqlite3.Connection, events: Sequence[CrashEvent]) -> None:
    """Count crashes that were kept and of which no process has told otherwise that it saw their reports."""
    of_events = [(event.at, *(str(event.about.get(name) or "") for name in _KEY), 1, 1) for event in events]
    _count(database, of_events)
    database.executemany(_FACTS, [_facts_of(event) for event in events if event.about.get("fingerprint")])


def _facts_of(event: CrashEvent) -> Sequence[object]:
    fingerprint, place, exception, cpu, os = (str(event.about.get(name) or "") for name in _FACTS_OF)
    return fingerprint, place, exception, "", cpu, os, event.at, event.at, event.crash_id, 0.0, ""


def _count(database: sqlite3.Connection, counts: Sequence[tuple[Any, ...]]) -> None:
    """Add counts, each with the time at which it was seen in front."""
    database.executemany(_COUNT_HOUR, [(int(at // HOUR_S), *count) for at, *count in counts])
    database.executemany(_COUNT_MINUTES, [(int(at // MINUTES_S), *count) for at, *count in counts])


def remove_old_counts(database: sqlite3.Connection, now: float, keep_s: float) -> None:
    """Remove what is not asked for any more: counts of minutes of more than an hour ago, and all of C{keep_s} ago."""
    database.execute("DELETE FROM minutes WHERE minute < ?", ((now - HOUR_S) // MINUTES_S,))
    database.execute("DELETE FROM hours WHERE hour < ?", ((now - keep_s) // HOUR_S,))
    database.execute("DELETE FROM fingerprints WHERE last_seen < ?", (now - keep_s,))
