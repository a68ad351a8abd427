"""
Writes into the index how many reports were seen of each fingerprint, product and version.

All of it blocks, and runs on the thread that writes. Counts are of hours for a month, and for an hour also of five
minutes, so that "the last hour" is one.
"""

import sqlite3
from typing import Final

from collectord.index.tally import Tally

HOUR_S: Final = 3600
MINUTES_S: Final = 300
"""Seconds of one row of the table C{minutes}."""
_SAMPLED_S: Final = 3600.0
"""A rule that has left out nothing for so long begins anew when it leaves out something."""

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
    exception_code = excluded.exception_code,
    cpu = excluded.cpu,
    os = excluded.os,
    last_seen = max(last_seen, excluded.last_seen),
    last_kept = coalesce(excluded.last_kept, last_kept),
    last_kept_id = iif(excluded.last_kept_id = '', last_kept_id, excluded.last_kept_id),
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
    hour, minutes = int(now // HOUR_S), int(now // MINUTES_S)
    counts = [("", "", "", 0, 0), *counts]  # so an hour without reports has a row
    database.executemany(_COUNT_HOUR, [(hour, *count) for count in counts])
    database.executemany(_COUNT_MINUTES, [(minutes, *count) for count in counts])
    database.executemany(_FACTS, facts)


def remove_old_counts(database: sqlite3.Connection, now: float, keep_s: float) -> None:
    """Remove what is not asked for any more: counts of minutes of more than an hour ago, and all of C{keep_s} ago."""
    database.execute("DELETE FROM minutes WHERE minute < ?", ((now - HOUR_S) // MINUTES_S,))
    database.execute("DELETE FROM hours WHERE hour < ?", ((now - keep_s) // HOUR_S,))
    database.execute("DELETE FROM fingerprints WHERE last_seen < ?", (now - keep_s,))
