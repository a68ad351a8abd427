import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, formatEvent

from collectord import metrics
from collectord.concurrency.threadpool import ThreadPool
from collectord.daemon.status import HISTORY_STEP_S, StatusReporter
from collectord.errors import LookUpFailed
from collectord.model import CrashEvent
from collectord.observe.aggregate import AggregatedRegistry
from collectord.observe.crashpage import JournalEntry
from collectord.observe.recent import RecentCrashes
from collectord.observe.status import (
    CertificateStatus,
    Loss,
    SinkStatus,
    WorkerStatus,
)
from collectord.observe.storestatus import StoreStatus
from collectord.storage.filesystem.layout import place_at
from collectord.throttle.combine import Always
from collectord.throttle.results import Result
from collectord.throttle.rules import Rule
from tests.support.fakereactor import FakeReactor
from tests.unit.intake.parts import result_of

pytestmark = pytest.mark.usefixtures("threads_at_once")

CRASH_ID = "8f63752c-57c6-4e5d-b2cf-cabde2160622"
RULES = [Rule("first", "*", Always(), Result.CONTINUE), Rule("second", "*", Always(), Result.ACCEPT)]


def keep(root: Path, **annotations: object) -> None:
    place = place_at(str(root), CRASH_ID, "2016-06-22T15:19:49.123456+00:00")
    Path(place.name_dir).mkdir(parents=True)
    Path(place.dump("upload_file_minidump")).write_bytes(b"MDMP")
    metadata = {"dump_checksums": {"upload_file_minidump": "abc"}, "user_agent": "me"}
    raw_crash = {"uuid": CRASH_ID, "submitted_timestamp": "2016-06-22T15:19:49.123456+00:00", "metadata": metadata}
    Path(place.raw_crash).write_text(json.dumps(raw_crash | annotations))


def is_new(root: Path) -> None:
    place = place_at(str(root), CRASH_ID, "2016-06-22T15:19:49.123456+00:00")
    Path(place.date_dir).mkdir(parents=True)
    Path(place.link).symlink_to(place.link_target)


def reporter(
    tmp_path: Path,
    clock: FakeReactor,
    *,
    events: Sequence[JournalEntry] = (),
    recent: RecentCrashes | None = None,
    moves: bool = True,
    sinks: Sequence[SinkStatus] = (),
    stores: Sequence[StoreStatus] = (),
) -> StatusReporter:
    return StatusReporter(
        AggregatedRegistry(metrics.REGISTRY),
        recent or RecentCrashes(),
        roots=[str(tmp_path / "one"), str(tmp_path / "two")],
        moves=lambda store: moves,
        destinations=lambda: [str(tmp_path / "there")],
        rules=lambda: RULES,
        stores=lambda: stores,
        sinks=lambda: sinks,
        workers=list[WorkerStatus],
        movers=lambda: None,
        certificates=list[CertificateStatus],
        events=lambda crash_id: events,
        keep_events_s=86400,
        submit_url="",
        now=clock.seconds,
        reactor=clock,
    )


@pytest.fixture
def clock() -> FakeReactor:
    return FakeReactor()


def crash(found: StatusReporter) -> Any:
    return result_of(found.crash(CRASH_ID))


def test_rates_and_their_history(tmp_path: Path, clock: FakeReactor) -> None:
    reported = reporter(tmp_path, clock)
    reported.startService()
    assert reported.overview().history == []
    for _ in range(3):
        metrics.RECEIVED.inc(4)
        metrics.ANSWERS.labels("200", "kept").inc(3)
        metrics.ANSWERS.labels("200", "duplicate").inc(7)
        metrics.ANSWERS.labels("413", "too_large").inc()
        metrics.RECEIVE_BYTES.observe(1000)
        clock.advance(HISTORY_STEP_S)
    overview = reported.overview()
    assert [(rates.received, rates.kept, rates.refused, rates.bytes_in) for rates in overview.history] == [
        (2.0, 1.5, 0.5, 500.0)
    ] * 3
    assert (overview.rates.received, overview.rates.kept) == (2.0, 1.5)
    assert [rates.at for rates in overview.history] == [2.0, 4.0, 6.0]
    counts = {(answer.status, answer.reason): answer.count for answer in overview.answers}
    assert counts["413", "too_large"] >= 3
    reported.stopService()
    assert clock.getDelayedCalls() == []


def test_an_error_in_the_midst_ends_nothing(
    tmp_path: Path, clock: FakeReactor, monkeypatch: pytest.MonkeyPatch, logged_failures: list[LogEvent]
) -> None:
    """As that of a plugin that is asked for its cautions."""
    reported = reporter(tmp_path, clock)
    with monkeypatch.context() as patched:
        patched.setattr(reported, "overview", lambda: 1 / 0)
        reported.startService()
    clock.advance(HISTORY_STEP_S)
    assert len(reported.overview().history) == 1
    reported.stopService()
    assert [formatEvent(event) for event in logged_failures] == ["the state of the daemon could not be noted"]
    logged_failures.clear()


def test_crashes_that_are_being_lost(tmp_path: Path, clock: FakeReactor) -> None:
    reported = reporter(tmp_path, clock)
    reported.startService()
    assert reported.overview().loss is None
    metrics.LOSING.set(1)
    clock.advance(HISTORY_STEP_S)
    metrics.ANSWERS.labels("503", "nowhere_to_save").inc(3)
    assert reported.overview().loss == Loss(since=HISTORY_STEP_S, refused=3)
    metrics.LOSING.set(0)
    clock.advance(HISTORY_STEP_S)
    assert reported.overview().loss is None
    reported.stopService()


def test_rules_in_their_order_with_their_counts(tmp_path: Path, clock: FakeReactor) -> None:
    metrics.THROTTLED.labels("second", "ACCEPT").inc()
    metrics.THROTTLED.labels("NO_SUCH_NOW", "REJECT").inc()
    first, second, *others = reporter(tmp_path, clock).overview().rules
    assert (first.name, first.condition, first.results) == ("first", "every report", {})
    assert second.results["ACCEPT"] >= 1
    assert "NO_SUCH_NOW" in [rule.name for rule in others]


def test_the_last_crashes(tmp_path: Path, clock: FakeReactor) -> None:
    recent = RecentCrashes()
    recent.note(CrashEvent(at=1.0, crash_id=CRASH_ID, kind="kept", where="/a"))
    assert [recent.crash_id for recent in reporter(tmp_path, clock, recent=recent).overview().recent] == [CRASH_ID]


def test_the_metric_of_a_destination_is_how_it_is_for_all_processes(tmp_path: Path, clock: FakeReactor) -> None:
    def sink(name: str, problem: str, is_tried: bool) -> SinkStatus:
        return SinkStatus(
            name=name, kind="destination", problem=problem, given=0, failures=0, resumes_in_s=0.0, is_tried=is_tried
        )

    sinks = [sink("well", "", True), sink("away", "it is away", True), sink("not since", "it was away", False)]
    reported = reporter(tmp_path, clock, sinks=[*sinks, sink("not yet", "", False)])
    metrics.SINK_HEALTHY.labels("removed by a reload").set(0)
    reported.startService()
    (shown,) = metrics.SINK_HEALTHY.collect()
    assert {sample.labels["outlet"]: sample.value for sample in shown.samples} == {
        "well": 1,
        "away": 0,
        "not since": 0,
    }
    reported.stopService()


def test_metrics(tmp_path: Path, clock: FakeReactor) -> None:
    body, content_type = reporter(tmp_path, clock).metrics()
    assert content_type.startswith("text/plain")
    assert b"# TYPE collectord_received_total counter" in body
    assert b"_created" not in body


def test_a_crash(tmp_path: Path, clock: FakeReactor) -> None:
    keep(tmp_path / "two", ProductName="<b>", legacy_processing=0)
    is_new(tmp_path / "two")
    page = crash(reporter(tmp_path, clock, events=[JournalEntry(at=1.0, what="kept", where="/a")]))
    assert page.annotations == {"ProductName": "<b>"}
    assert page.facts["metadata.user_agent"] == "me"
    assert "metadata.dump_checksums" not in page.facts
    assert [(dump.name, dump.size, dump.expected) for dump in page.dumps] == [("upload_file_minidump", 4, "abc")]
    assert [(place.store, place.state) for place in page.places] == [(str(tmp_path / "two"), "waits to be moved")]
    assert [event.what for event in page.events] == ["kept"]


def test_a_new_crash_stays_where_nothing_moves_it(tmp_path: Path, clock: FakeReactor) -> None:
    keep(tmp_path / "one")
    is_new(tmp_path / "one")
    page = crash(reporter(tmp_path, clock, moves=False))
    assert [place.state for place in page.places] == ["stays"]


def test_a_crash_in_several_places(tmp_path: Path, clock: FakeReactor) -> None:
    keep(tmp_path / "one", ProductName="one")
    keep(tmp_path / "there", ProductName="there")
    quarantine = tmp_path / "two" / "quarantine" / CRASH_ID
    quarantine.mkdir(parents=True)
    (quarantine / "reason.txt").write_text("no JSON\n")
    page = crash(reporter(tmp_path, clock))
    assert page.annotations == {"ProductName": "one"}
    assert [place.state for place in page.places] == ["stays", "in the quarantine: no JSON", "was moved there"]


def test_a_raw_crash_that_is_broken(tmp_path: Path, clock: FakeReactor) -> None:
    keep(tmp_path / "one")
    place = place_at(str(tmp_path / "one"), CRASH_ID, "2016-06-22T15:19:49+00:00")
    Path(place.raw_crash).write_text("[]")
    page = crash(reporter(tmp_path, clock))
    assert page.facts == {"raw crash": "can't be read: the raw crash is no JSON object"}


def test_an_unknown_crash(tmp_path: Path, clock: FakeReactor) -> None:
    assert crash(reporter(tmp_path, clock)) is None
    gone = crash(reporter(tmp_path, clock, events=[JournalEntry(at=1.0, what="removed", where="/a")]))
    assert (gone.places, gone.dumps, len(gone.events)) == ([], [], 1)


def a_store(root: Path, problem: str, free_bytes: int | None) -> StoreStatus:
    return StoreStatus(
        name=str(root),
        problem=problem,
        free_bytes=free_bytes,
        min_free_bytes=0,
        backlog=None,
        oldest_age_s=0,
        quarantined=None,
    )


def test_a_store_that_can_t_be_asked_may_have_it(tmp_path: Path, clock: FakeReactor) -> None:
    stores = [a_store(tmp_path / "one", "full", 5), a_store(tmp_path / "two", "it hangs", None)]
    with pytest.raises(LookUpFailed, match=f"^{tmp_path}/two: it hangs$"):
        crash(reporter(tmp_path, clock, stores=stores))
    keep(tmp_path / "one")
    assert crash(reporter(tmp_path, clock, stores=stores)).annotations == {}


def test_a_store_that_begins_to_hang(tmp_path: Path, clock: FakeReactor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ThreadPool, "__call__", lambda pool, work: Deferred())
    reported = reporter(tmp_path, clock)
    for asked in (reported.crash(CRASH_ID), reported.dump(CRASH_ID, "log")):
        failed: list[Any] = []
        Deferred.fromCoroutine(asked).addErrback(failed.append)
        clock.advance(10.1)
        assert failed[0].check(LookUpFailed)


MOVED = [
    JournalEntry(at=1.0, what="kept", where="/one", rule="all", product="Fenix", version="1", size=5),
    JournalEntry(at=2.0, what="moved", where="s3://a", place="s3://a/v1/raw_crash/20160622/id"),
    JournalEntry(at=3.0, what="published", where="redis queue"),
    JournalEntry(at=4.0, what="removed", where="/one"),
]


def test_what_was_moved_is_known_by_the_journal(tmp_path: Path, clock: FakeReactor) -> None:
    page = crash(reporter(tmp_path, clock, events=MOVED))
    assert page.annotations is None
    assert page.facts == {"ProductName": "Fenix", "Version": "1", "payload_size": "5", "throttle_rule": "all"}
    assert [(place.store, place.state) for place in page.places] == [
        ("s3://a/v1/raw_crash/20160622/id", "was moved there")
    ]


def test_what_was_moved_to_a_directory_is_there_once(tmp_path: Path, clock: FakeReactor) -> None:
    there = tmp_path / "there"
    keep(there, ProductName="Fenix")
    page = crash(reporter(tmp_path, clock, events=[JournalEntry(at=2.0, what="moved", where=str(there))]))
    assert [(place.store, place.state) for place in page.places] == [(str(there), "was moved there")]
    assert page.annotations == {"ProductName": "Fenix"}


def test_what_was_moved_to_another_store_and_on_is_not_said_to_be_there(tmp_path: Path, clock: FakeReactor) -> None:
    events = [JournalEntry(at=2.0, what="moved", where=str(tmp_path / "one")), *MOVED[1:]]
    assert len(crash(reporter(tmp_path, clock, events=events)).places) == 1
