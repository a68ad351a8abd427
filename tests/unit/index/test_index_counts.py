"""
How often fingerprints and products were seen: counted in a process, written, and asked for.
"""

import json
import sqlite3
from collections.abc import Iterator
from typing import Literal

import pytest

from collectord.index.database import open_to_write
from collectord.index.fingerprints import fingerprint_page, neighbours
from collectord.index.seen import remove_old_counts, write_tally
from collectord.index.tally import ReportTally
from collectord.index.top import fingerprint_seen, products_seen, top_fingerprints
from collectord.index.values import SeenKept, TopOrder
from collectord.model import CrashFacts
from collectord.telling import SeenReport

HOUR = 3600.0
NOW = 1_000_000 * HOUR + 1800.0
"""Half past."""


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    opened = open_to_write(":memory:")
    yield opened
    opened.close()


def see(
    database: sqlite3.Connection,
    name: str,
    times: int,
    at: float = NOW,
    became: Literal["kept", "left_out", "lost"] = "kept",
    version: str = "1.0",
    place: str = "",
) -> None:
    """Write that a fingerprint was seen."""
    tally = ReportTally()
    facts = CrashFacts(fingerprint=name, place=place or f"at {name}", exception_name="SIGSEGV") if name else None
    for _ in range(times):
        tally.note(
            SeenReport(
                at=at,
                product="App",
                version=version,
                facts=facts,
                became=became,
                rule="flood",
                crash_id=f"{name}@{at}" if became == "kept" else "",
            )
        )
    write_tally(database, json.loads(json.dumps(tally.take())), at)


def test_what_was_not_kept_was_seen_too(database: sqlite3.Connection) -> None:
    see(database, "a", 3)
    see(database, "a", 2, became="left_out")
    see(database, "a", 1, became="lost")
    found = fingerprint_seen(database, NOW, "a")
    assert found is not None
    assert (found.hour, found.day, found.hourly[-1]) == (SeenKept(6, 3),) * 3
    assert (found.place, found.exception, found.sampled_by, found.sampled_since) == ("at a", "SIGSEGV", "flood", NOW)
    assert (found.first_seen, found.last_kept, found.last_kept_id) == (NOW, NOW, f"a@{NOW}")


def test_the_last_hour_has_sixty_minutes(database: sqlite3.Connection) -> None:
    see(database, "a", 1, NOW - 50 * 60)
    see(database, "a", 2, NOW - 70 * 60)
    found = fingerprint_seen(database, NOW, "a")
    assert found is not None
    assert (found.hour, found.day) == (SeenKept(1, 1), SeenKept(3, 3))
    assert [counts.seen for counts in found.hourly[-3:]] == [0, 3, 0]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("hour", ["new", "rising", "much"]),
        ("day", ["much", "new", "rising"]),
        ("rising", ["new", "rising"]),
        ("new", ["new"]),
    ],
)
def test_orders(database: sqlite3.Connection, order: TopOrder, expected: list[str]) -> None:
    for hours in (30, 5):
        see(database, "much", 100, NOW - hours * HOUR)
        see(database, "rising", 1, NOW - hours * HOUR)
    see(database, "much", 19)
    see(database, "rising", 40)
    see(database, "new", 50)
    see(database, "", 500)
    found = top_fingerprints(database, NOW, order, 10)
    assert [each.fingerprint for each in found.fingerprints] == expected
    assert found.total == 3
    assert [each.is_new(NOW) for each in found.fingerprints] == [name == "new" for name in expected]


def test_a_rule_that_paused_for_an_hour_begins_anew(database: sqlite3.Connection) -> None:
    for at in (NOW - 3 * HOUR, NOW - 1000.0, NOW):
        see(database, "a", 1, at, "left_out")
    found = fingerprint_seen(database, NOW, "a")
    assert found is not None
    assert found.sampled_since == NOW - 1000.0
    later = fingerprint_seen(database, NOW + 2 * HOUR, "a")
    assert later is not None
    assert (later.sampled_by, later.sampled_since) == ("", None)


def test_products_and_the_others(database: sqlite3.Connection) -> None:
    for number in range(4):
        see(database, "a", 10 - number, version=f"{number}.0")
    see(database, "", 3, version="0.0")
    found = products_seen(database, NOW, 2)
    assert [(each.version, each.day.seen) for each in found.products] == [("0.0", 13), ("1.0", 9)]
    assert (found.others, found.others_day, found.others_hourly[-1]) == (2, SeenKept(15, 15), SeenKept(15, 15))


def test_a_page_has_gaps_where_nothing_was_counted(database: sqlite3.Connection) -> None:
    see(database, "a", 2, NOW - 2 * HOUR)
    see(database, "b", 2, NOW - HOUR, place="at a")
    see(database, "a", 1)
    page = fingerprint_page(database, NOW, "a", "24h")
    assert page is not None
    assert [slot.counts for slot in page.trend[-4:]] == [None, SeenKept(2, 2), SeenKept(0, 0), SeenKept(1, 1)]
    assert (len(page.trend), page.trend[-1].at) == (24, NOW - 1800.0)
    assert [other.fingerprint for other in page.others] == ["b"]
    month = fingerprint_page(database, NOW, "a", "30d")
    assert month is not None
    assert (len(month.trend), month.trend[-1].counts) == (120, SeenKept(3, 3))
    assert fingerprint_page(database, NOW, "unknown", "24h") is None


def test_neighbours_of_a_crash_that_is_not_indexed(database: sqlite3.Connection) -> None:
    see(database, "a", 2)
    see(database, "b", 1, place="at a")
    found = neighbours(database, NOW, "some id", "a", 5)
    assert found is not None
    assert (found.fingerprint.day, found.newest, found.others) == (SeenKept(2, 2), [], 1)


def test_the_version_in_which_it_was_seen_first(database: sqlite3.Connection) -> None:
    see(database, "a", 1, NOW - HOUR, version="0.9")
    see(database, "a", 5, NOW, version="1.0")
    see(database, "b", 1, NOW, version="1.0")
    see(database, "b", 1, NOW, version="1.1")
    first = {name: neighbours(database, NOW, "some id", name, 5) for name in ("a", "b")}
    assert {name: found and found.first_in for name, found in first.items()} == {"a": ("App", "0.9"), "b": None}


def test_old_counts_are_removed(database: sqlite3.Connection) -> None:
    see(database, "old", 1, NOW - 40 * HOUR)
    see(database, "a", 1, NOW - 2 * HOUR)
    remove_old_counts(database, NOW, 30 * HOUR)
    assert fingerprint_seen(database, NOW, "old") is None
    left = {table: database.execute(f"SELECT sum(seen) FROM {table}").fetchone()[0] for table in ("hours", "minutes")}
    assert left == {"hours": 1, "minutes": None}


def test_a_process_tells_so_many_fingerprints_apart_and_no_more() -> None:
    tally = ReportTally()
    for number in range(10_050):
        facts = CrashFacts(fingerprint=f"{number}", place="")
        tally.note(
            SeenReport(at=NOW, product="App", version="1", facts=facts, became="left_out", rule="flood", crash_id="")
        )
    counts, facts_of = tally.take()
    assert len(counts) == 10_001
    assert len(facts_of) == 10_000
    assert sum(count[3] for count in counts) == 10_050
    assert tally.take() == ([], [])
