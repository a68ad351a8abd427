"""
The index that the settings ask for: what it reads from the journal, and what it counts.
"""

import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
from attrs import evolve
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from collectord.daemon.indexing import counted_in, events_from, index_directory, intake_counts, stored_in
from collectord.index.intake import IntakeCounts
from collectord.model import CrashEvent, CrashFacts
from collectord.observe.journal.files import JournalFiles, compress
from collectord.settings.schema import IndexSection, Ledger, Settings, StateDirectory
from collectord.settings.stores import Storage
from collectord.telling import about_stored, facts_told
from tests.support.cases import for_each
from tests.unit.cli.command import keep, raw_crash_of

ID = "8f63752c-57c6-4e5d-b2cf-cabde2160622"
NOW = datetime(2016, 6, 22, 15, 19, 49, 123000, UTC)
FACTS = CrashFacts(
    fingerprint="1:00112233445566ff",
    place="amd64 0xc0000005 app\tb.dll+0x1f",
    cpu="amd64",
    exception_code="0xc0000005",
    exception_name="ACCESS_VIOLATION_READ",
    os="Windows 10.0.19045",
    uptime_s=0,
)
KEPT = CrashEvent(
    at=NOW.timestamp(),
    crash_id=ID,
    kind="kept",
    where="/a",
    about={"product": "App", "version": "1.0", "size": 565, "rule": "accept_all", **facts_told(FACTS)},
)
MOVED = CrashEvent(at=NOW.timestamp() + 1, crash_id=ID, kind="moved", where="s3", about={"place": "v1/raw"})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(ledger=Ledger(directory=tmp_path), state=StateDirectory(directory=tmp_path))


@pytest.mark.parametrize("compressed", [False, True])
def test_events_come_back_from_the_journal(settings: Settings, tmp_path: Path, compressed: bool) -> None:
    files = JournalFiles(tmp_path)
    files.begin(NOW)
    files.write([KEPT, MOVED], {}, NOW)
    if compressed:
        compress(tmp_path / "20160622.journal")
    assert list(events_from(settings)(NOW.timestamp() - 5)) == [KEPT, MOVED]
    assert list(events_from(settings)(NOW.timestamp() + 0.5)) == [MOVED]
    files.end(NOW)


@for_each(
    ("details", "minidump"),
    [
        ("", None),
        ("took=4", "none"),
        ("took=4 dumps=log:10:text/plain", "none"),
        ("took=4 dumps=a:7510:minidump", None),
        ("took=4 dumps=log:10: more=1", None),
    ],
)
def test_whether_it_came_without_a_minidump_comes_back(details: str, minidump: str | None) -> None:
    with tempfile.TemporaryDirectory() as directory:
        settings = Settings(ledger=Ledger(directory=Path(directory)))
        files = JournalFiles(Path(directory))
        for about in ({"details": details}, {"details": details, **facts_told(FACTS)}):
            files.write([evolve(KEPT, about=about)], {}, NOW)
        unknown, known = events_from(settings)(0)
    assert (unknown.about.get("minidump"), known.about.get("minidump")) == (minidump, None)


def test_journals_that_did_not_change_since_are_not_read(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "20160622.journal").write_bytes(b"2016-06-22T15:19:49.123Z\tkept\tid\n")
    assert list(events_from(settings)(9e9)) == []
    assert len(list(events_from(settings)(0))) == 1


def test_without_a_journal_nothing_comes_back(tmp_path: Path) -> None:
    assert list(events_from(Settings(ledger=Ledger(enabled=False)))(0)) == []
    assert list(events_from(Settings(ledger=Ledger(directory=tmp_path / "none")))(0)) == []


def test_crashes_in_stores_tell_what_was_told_when_they_were_kept(tmp_path: Path) -> None:
    root = tmp_path / "root"
    settings = Settings(
        storage=[Storage(root=root), Storage(root=tmp_path / "none")], index=IndexSection(annotations=["Channel"])
    )
    known = {
        "fingerprint": FACTS.fingerprint,
        "crash_place": FACTS.place,
        "cpu": FACTS.cpu,
        "exception_code": FACTS.exception_code,
        "exception_name": FACTS.exception_name,
        "os": FACTS.os,
        "uptime_s": 0,
    }
    raw_crash = raw_crash_of(ID, ProductName="App", rule="accept_all", Channel="beta")
    metadata = cast(dict[str, object], raw_crash["metadata"])
    metadata |= {"payload_size": 565, **known}
    keep(root, raw_crash)
    keep(root, raw_crash_of("8f63752c-57c6-4e5d-b2cf-cabde2160620"))  # of a day before
    (found,) = filter(None, stored_in(settings)(NOW.timestamp()))
    at = datetime.fromisoformat("2016-06-22T15:19:49.123456+00:00").timestamp()
    about = {**KEPT.about, "annotations": "\nChannel=beta\n"}
    assert found.crash_id == ID
    assert found.read() == [evolve(KEPT, at=at, where=str(root), about=about)]


def test_a_crash_that_is_moved_home_meanwhile_is_found(tmp_path: Path) -> None:
    roots = [tmp_path / "primary", tmp_path / "fallback"]
    crash_ids = [ID.replace("8f", each, 1) for each in ("00", "ff")]
    for crash_id in crash_ids:
        keep(roots[1], raw_crash_of(crash_id))
    found = set()
    for crash in stored_in(Settings(storage=[Storage(root=root) for root in roots]))(NOW.timestamp()):
        if crash is not None:
            found.add(crash.crash_id)
        if (roots[1] / "20160622").exists():  # all of them are moved now
            shutil.copytree(roots[1], roots[0])
            shutil.rmtree(roots[1])
    assert found == set(crash_ids)


def test_a_raw_crash_that_says_odd_things_is_told_nevertheless() -> None:
    assert about_stored({}, []) == {"product": "", "version": "", "size": 0, "rule": ""}
    odd = {
        "ProductName": ["x"],
        "metadata": {"fingerprint": {}, "crash_place": 7, "payload_size": "big", "uptime_s": -1},
    }
    assert about_stored(odd, ["None"]) == {
        "product": "['x']",
        "version": "",
        "size": 0,
        "rule": "",
        "fingerprint": "",
        "crash_place": "7",
        "exception": "",
        "cpu": "",
        "os": "",
    }


def test_two_daemons_with_one_state_directory_have_an_index_each(tmp_path: Path) -> None:
    state = StateDirectory(directory=tmp_path)
    roots = [Path("/a"), Path("/b")]
    found = {index_directory(Settings(state=state, storage=[Storage(root=root)])) for root in roots}
    assert len(found) == 2
    assert {Path(directory).parent for directory in found} == {tmp_path / "index"}


def test_what_came_in_is_counted_by_what_became_of_it() -> None:
    registry = CollectorRegistry()
    answers = Counter("collectord_answers", "", ["status", "reason"], registry=registry)
    for count, (status, reason) in enumerate(
        [
            ("200", "kept"),
            ("200", "duplicate"),
            ("200", "rejected"),
            ("200", "unsupported"),
            ("200", "fake_accept"),
            ("400", "malformed_bad_gzip"),
            ("413", "too_large"),
            ("503", "nowhere_to_save"),
        ],
        1,
    ):
        answers.labels(status, reason).inc(count)
    Counter("collectord_received", "", registry=registry).inc(50)
    Counter("collectord_moved", "", ["store"], registry=registry).labels("/a").inc(4)
    Histogram("collectord_receive_bytes", "", registry=registry).observe(1000)
    assert intake_counts(registry.collect()) == IntakeCounts(
        received=50, kept=1, left_out=12, refused=13, lost=8, moved=4, bytes_in=1000
    )


def test_what_is_remembered_for_a_day() -> None:
    registry = CollectorRegistry()
    took = Histogram("collectord_move_seconds", "-", ["outlet"], buckets=(0.1, 1), registry=registry)
    Counter("collectord_throttle_results", "-", ["rule", "result"], registry=registry).labels("a", "ACCEPT").inc(3)
    Counter("collectord_outlet_failures", "-", ["outlet"], registry=registry).labels("s3").inc()
    Counter("collectord_other", "-", registry=registry).inc()
    Gauge("collectord_backlog_crashes", "-", ["store"], registry=registry).labels("/a").set(7)
    took.labels("s3").observe(0.5)
    Histogram("collectord_save_bytes", "-", ["store"], buckets=(1,), registry=registry).labels("/a").observe(500)
    counted = counted_in(list(registry.collect())).rest
    assert counted.gauges == {("waits", "/a"): 7.0}
    assert counted.counters == {
        ("rule", "a", "ACCEPT"): 3.0,
        ("failed", "s3"): 1.0,
        ("stored", "/a"): 500.0,
        ("given", "s3"): 1.0,
        ("took", "s3", "0.1"): 0.0,
        ("took", "s3", "1.0"): 1.0,
        ("took", "s3", "+Inf"): 1.0,
    }
