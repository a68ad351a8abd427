"""
The rows of the index: what is known of a crash after events that may come in any order.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import permutations

import pytest

from collectord.index.database import open_to_write
from collectord.index.rows import CrashRows
from collectord.index.search import crash_by_id, last_crashes
from collectord.index.values import IndexedCrash
from collectord.model import CrashEvent, Step
from tests.support.cases import for_each

ID = "8f63752c-57c6-4e5d-b2cf-cabde2160622"
OTHER_ID = "7163aaaa-57c6-4e5d-b2cf-cabde2160622"
T0 = 1466553600.0
"""The day of the ids begins."""
STORES = ("/a", "/b")
ABOUT: dict[str, str | int] = {
    "product": "App",
    "version": "1.0",
    "size": 565,
    "rule": "accept_all",
    "fingerprint": "1:00112233445566ff",
    "crash_place": "x86 0xc0000005 app.exe",
    "exception": "ACCESS_VIOLATION_READ",
    "cpu": "x86",
    "os": "Windows 10.0.19045",
    "uptime_s": 7,
}


def event(kind: Step, at: float, where: str = "/a", crash_id: str = ID, **about: str | int) -> CrashEvent:
    return CrashEvent(at=T0 + at, crash_id=crash_id, kind=kind, where=where, about=about)


KEPT = CrashEvent(at=T0 + 10.0, crash_id=ID, kind="kept", where="/a", about=ABOUT)
MOVED = event("moved", 11.0, "s3", place="v1/dump/1")


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    with closing(open_to_write(":memory:")) as opened:
        yield opened


def known(database: sqlite3.Connection, crash_id: str = ID) -> IndexedCrash:
    found = crash_by_id(database, crash_id)
    assert found is not None
    return found


def test_a_kept_crash_has_all_that_its_event_says(database: sqlite3.Connection) -> None:
    CrashRows(database, STORES).write([KEPT], T0 + 20.0)
    assert known(database) == IndexedCrash(
        crash_id=ID,
        at=T0 + 10.0,
        product="App",
        version="1.0",
        fingerprint="1:00112233445566ff",
        place="x86 0xc0000005 app.exe",
        exception="ACCESS_VIOLATION_READ",
        cpu="x86",
        os="Windows 10.0.19045",
        uptime_s=7,
        size=565,
        rule="accept_all",
        store="/a",
        changed=T0 + 10.0,
    )


@for_each("order", list(permutations(range(4))))
@for_each("at_once", [True, False])
def test_a_moved_crash_is_that_whatever_comes_first(order: tuple[int, ...], at_once: bool) -> None:
    events = [KEPT, MOVED, event("published", 12.0, "redis"), event("removed", 13.0)]
    ordered = [events[number] for number in order]
    with closing(open_to_write(":memory:")) as database:
        rows = CrashRows(database, STORES)
        for group in [ordered] if at_once else [[each] for each in ordered]:
            rows.write(group, T0 + 20.0)
        crash = known(database)
    assert (crash.state, crash.is_here, crash.at, crash.changed) == ("moved", False, T0 + 10.0, T0 + 13.0)
    assert (crash.moved_to, crash.keys, crash.published_to) == (("s3",), ("v1/dump/1",), ("redis",))
    assert (crash.product, crash.store) == ("App", "/a")


def test_events_that_come_again_change_nothing(database: sqlite3.Connection) -> None:
    events = [KEPT, MOVED, event("moved", 11.5, "gcs"), event("removed", 13.0)]
    CrashRows(database, STORES).write(events, T0 + 20.0)
    before = known(database)
    CrashRows(database, STORES).write(events, T0 + 20.0)
    assert known(database) == before
    assert before.moved_to == ("s3", "gcs")


def test_a_crash_that_was_moved_to_another_store_of_ours_is_here(database: sqlite3.Connection) -> None:
    CrashRows(database, STORES).write([KEPT, event("moved", 11.0, "/b"), event("removed", 12.0, "/a")], T0 + 20.0)
    crash = known(database)
    assert (crash.state, crash.is_here, crash.store) == ("kept", True, "/b")


@pytest.mark.parametrize("kind", ["removed", "quarantined"])
def test_what_became_of_a_crash_that_was_not_moved(database: sqlite3.Connection, kind: Step) -> None:
    CrashRows(database, STORES).write([KEPT, event(kind, 11.0)], T0 + 20.0)
    assert (known(database).state, known(database).is_here) == (kind, kind == "quarantined")


def test_why_a_crash_is_in_the_quarantine(database: sqlite3.Connection) -> None:
    put = CrashEvent(at=T0 + 11.0, crash_id=ID, kind="quarantined", where="/a", about={"place": "no JSON"})
    rows = CrashRows(database, STORES)
    rows.write([KEPT, put], T0 + 20.0)
    assert known(database).why == "no JSON"
    rows.write([event("erased", 12.0)], T0 + 21.0)
    assert known(database).why == ""


def test_what_happens_to_a_crash_that_was_kept_long_ago_is_written_half_a_minute_later(
    database: sqlite3.Connection,
) -> None:
    CrashRows(database, STORES).write([KEPT], T0 + 20.0)
    rows = CrashRows(database, STORES)
    rows.write([], T0 + 1000.0)
    rows.write([MOVED], T0 + 1010.0)
    assert known(database).state == "kept"
    rows.write([], T0 + 1030.0)
    assert known(database).state == "moved"


def test_what_happens_to_a_crash_that_turned_out_to_be_newer_than_all_is_written(database: sqlite3.Connection) -> None:
    rows = CrashRows(database, STORES)
    rows.write([KEPT], T0 + 20.0)
    rows.write([event("kept", 15.0)], T0 + 20.0)
    rows.write([MOVED], T0 + 20.0)
    assert (known(database).at, known(database).state) == (T0 + 15.0, "moved")


def test_of_an_erased_crash_only_its_id_is_left(database: sqlite3.Connection) -> None:
    rows = CrashRows(database, STORES)
    rows.write([KEPT, MOVED, event("erased", 30.0, "s3")], T0 + 20.0)
    rows.write([KEPT, event("published", 12.0, "redis")], T0 + 21.0)
    rows.forget_unused_traits()
    assert known(database) == IndexedCrash(crash_id=ID, at=T0 + 10.0, state="erased", is_here=False, changed=T0 + 30.0)
    dump = "\n".join(database.iterdump())
    assert "App" not in dump
    assert "v1/dump" not in dump


def test_a_crash_that_is_written_again_is_not_new(database: sqlite3.Connection) -> None:
    assert CrashRows(database, STORES).write([KEPT], T0 + 20.0) == [KEPT]
    assert CrashRows(database, STORES).write([KEPT], T0 + 20.0) == []


def test_a_crash_that_expired(database: sqlite3.Connection) -> None:
    CrashRows(database, STORES).write([KEPT, event("expired", 30.0, "/a", place="keep_days")], T0 + 20.0)
    assert (known(database).state, known(database).is_here, known(database).keys) == ("expired", False, ())


def test_a_duplicate_is_no_crash(database: sqlite3.Connection) -> None:
    CrashRows(database, STORES).write([event("duplicate", 11.0, "")], T0 + 20.0)
    assert last_crashes(database, 10) == []


def test_the_last_crashes_are_the_newest_ones(database: sqlite3.Connection) -> None:
    CrashRows(database, STORES).write([event("kept", 10.0), event("kept", 9.0, crash_id=OTHER_ID)], T0 + 20.0)
    assert [crash.crash_id for crash in last_crashes(database, 2)] == [ID, OTHER_ID]
    assert [crash.crash_id for crash in last_crashes(database, 1)] == [ID]
