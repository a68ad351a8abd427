"""
The service of retention: passes with pauses between, what it tells, and how it ends.
"""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest
from attrs import define, field
from twisted.logger import LogEvent, formatEvent

from collectord.concurrency.threadpool import CallFromThread, ThreadPool
from collectord.daemon import retention
from collectord.daemon.retention import INTERVAL_S, RetainedStore, RetentionService, limits_of, make_retention
from collectord.interfaces import ICrashStorage
from collectord.metrics import REGISTRY
from collectord.model import CrashEvent
from collectord.settings.schema import Crashmover, Settings
from collectord.settings.stores import Storage
from collectord.storage.chain.backend import Backend
from collectord.storage.filesystem.expiry import StoreExpiry
from collectord.storage.filesystem.keeplimits import KeepLimits
from collectord.storage.filesystem.layout import place_in
from collectord.storage.filesystem.slowclock import SlowClock
from collectord.testing.memory import MemoryCrashStorage
from tests.support.cases import for_each
from tests.support.fakereactor import FakeReactor, let_threads_hang
from tests.unit.intake.parts import LogRecorder, recorded_log
from tests.unit.storage.stores import CRASH_ID, make_crash, make_rig
from tests.unit.storage.stores import Rig as StoreRig

pytestmark = pytest.mark.usefixtures("threads_at_once")

CAME = datetime(2016, 6, 22, 15, 19, 49, tzinfo=UTC)


@define
class Rig:
    """Retention over one store with one crash, which was moved."""

    store: StoreRig
    limits: KeepLimits
    now: datetime
    clock: FakeReactor = field(factory=FakeReactor)
    events: list[CrashEvent] = field(factory=list)
    refuse_other: Callable[[], None] = lambda: None
    retention: RetentionService = field(init=False)
    expiry: StoreExpiry = field(init=False)

    def __attrs_post_init__(self) -> None:
        memory = MemoryCrashStorage()
        backend = Backend(str(self.store.root), cast(ICrashStorage, memory), memory, 1.0)
        backend.refuse_other = lambda: self.refuse_other()
        self.expiry = StoreExpiry(self.store.staging, self.limits, lambda: True)
        clock = SlowClock(self.store.staging, lambda: self.now, self.clock.seconds)
        thread = ThreadPool("retention", 1, cast(CallFromThread, None))
        stores = [RetainedStore(backend, self.expiry, clock, thread)]
        self.retention = RetentionService(stores, self.events.append, lambda: self.now, self.clock)

    def value(self, metric: str, **labels: str) -> float | None:
        return REGISTRY.get_sample_value(f"collectord_{metric}", {"store": str(self.store.root), **labels})

    def is_kept(self) -> bool:
        return os.path.exists(place_in(str(self.store.root), CRASH_ID, "").raw_crash)

    def advance(self, time: timedelta) -> None:
        self.now += time
        self.clock.advance(time.total_seconds())


@pytest.fixture(autouse=True)
def long_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy cuts no pass into several slices, between which the clock has to be advanced."""
    monkeypatch.setattr("collectord.daemon.retention._SLICE_S", 60.0)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return make(tmp_path, KeepLimits(days=30))


def make(tmp_path: Path, limits: KeepLimits) -> Rig:
    store = make_rig(tmp_path / "crashes")
    store.save(store.transaction(make_crash(submitted_timestamp=CAME.isoformat())))
    place = place_in(str(store.root), CRASH_ID, "")
    os.utime(place.raw_crash, (CAME.timestamp(), CAME.timestamp()))
    for link in place.links():
        os.unlink(link)
    return Rig(store, limits, CAME)


def test_a_crash_expires_and_it_is_told(rig: Rig) -> None:
    rig.retention.startService()
    assert rig.is_kept()
    rig.advance(timedelta(days=30))
    assert rig.is_kept()
    rig.advance(timedelta(days=1))
    assert not rig.is_kept()
    [event] = rig.events
    assert (event.crash_id, event.kind, event.where) == (CRASH_ID, "expired", str(rig.store.root))
    assert event.about == {"place": "keep_days"}
    assert event.at == rig.now.timestamp()
    assert rig.value("expired_total", setting="keep_days") == 1
    assert rig.value("expired_total", setting="keep_bytes") == 0
    rig.retention.stopService()
    assert rig.clock.getDelayedCalls() == []


def test_a_clock_that_jumps_erases_nothing_at_once_and_it_is_told(rig: Rig) -> None:
    with recorded_log() as log:
        rig.retention.startService()
        rig.now += timedelta(days=1000)
        rig.clock.advance(INTERVAL_S)
        assert rig.is_kept()
        assert any("days ahead of the time" in line for line in lines(log))
    assert rig.value("retention_lag_seconds") == pytest.approx(1000 * 86400, rel=0.01)
    rig.now = CAME + timedelta(hours=1)
    rig.clock.advance(INTERVAL_S)
    assert rig.value("retention_lag_seconds") == 0
    rig.retention.stopService()


def lines(log: LogRecorder) -> list[str]:
    return [str(formatEvent(event)) for event in log.events]


def test_what_is_kept_is_measured(tmp_path: Path) -> None:
    rig = make(tmp_path, KeepLimits(max_bytes=1 << 40))
    rig.retention.startService()
    assert rig.value("store_kept_bytes") == rig.expiry.kept_bytes
    assert rig.value("retention_lag_seconds") is None
    rig.retention.stopService()


def test_it_rests_longer_while_crashes_come_in_but_not_for_ever(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collectord.daemon.retention._slice", lambda backend, steps: retention._Slice([], True, 0.02))
    (store,) = rig.retention._stores
    saving = 0.0
    store.backend.waited = lambda: saving

    def pause() -> float:
        """Of the next slice."""
        (pausing,) = rig.clock.getDelayedCalls()
        seconds = pausing.getTime() - rig.clock.seconds()
        rig.clock.advance(seconds)
        return round(seconds, 6)

    rig.retention.startService()
    assert {pause() for _ in range(10)} == {0.06}
    saving = 0.01
    assert [pause() for _ in range(10)][-1] == 0.24
    saving = 0.3  # they wait for the disk
    assert [pause(), pause()][-1] == 0.5
    saving = 0.01
    rig.clock.advance(INTERVAL_S)
    assert [pause(), pause()][-1] == 0.06
    rig.retention.stopService()


def test_a_store_that_is_another_is_left_alone(rig: Rig) -> None:
    def refuse() -> None:
        raise OSError("another store")

    rig.refuse_other = refuse
    rig.now = CAME + timedelta(days=100)
    with recorded_log() as log:
        rig.retention.startService()
        rig.clock.advance(INTERVAL_S)
    assert len([line for line in lines(log) if "another store" in line]) == 1
    assert rig.is_kept()
    rig.refuse_other = lambda: None
    rig.clock.advance(20 * INTERVAL_S)
    rig.retention.stopService()


def test_what_could_not_be_removed_is_told_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError(30, "Read-only file system")

    rig = make(tmp_path, KeepLimits(days=30, max_bytes=1))
    rig.now = CAME + timedelta(days=100)
    (rig.store.root / "retention.time").write_text(rig.now.isoformat())
    before = rig.value("retention_failures_total") or 0.0
    with monkeypatch.context() as patched, recorded_log() as log:
        patched.setattr("collectord.storage.filesystem.expiry.take_out", refuse)
        rig.retention.startService()
        rig.clock.advance(INTERVAL_S)
    assert (rig.value("retention_failures_total") or 0.0) - before == 2
    assert [line for line in lines(log) if "Read-only" in line] == [
        f"{rig.store.root}: retention will try again: [Errno 30] Read-only file system"
    ]
    assert rig.value("store_kept_bytes") == rig.expiry.kept_bytes != 0
    assert rig.is_kept()
    rig.clock.advance(INTERVAL_S)
    assert not rig.is_kept()
    rig.retention.stopService()


def test_a_defect_does_not_end_it(rig: Rig, logged_failures: list[LogEvent], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(rig.expiry, "steps", lambda *args: 1 / 0)
        rig.now = CAME + timedelta(days=31)
        (rig.store.root / "retention.time").write_text(rig.now.isoformat())
        rig.retention.startService()
    assert logged_failures.pop()["log_failure"].check(ZeroDivisionError)
    rig.clock.advance(INTERVAL_S)
    assert not rig.is_kept()
    rig.retention.stopService()


def test_a_stop_does_not_wait_for_a_disk_that_hangs(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    let_threads_hang(monkeypatch)
    rig.retention.startService()
    stopped = rig.retention.stopService()
    rig.clock.advance(4.9)
    assert not stopped.called
    rig.clock.advance(0.2)
    assert stopped.called


def test_it_runs_only_where_there_are_limits(tmp_path: Path) -> None:
    settings = Settings(storage=[Storage(root=tmp_path / "crashes")])
    assert make_retention(lambda: settings, [None], print, FakeReactor()) is None  # type: ignore[list-item]


def test_the_limits_are_those_of_the_settings() -> None:
    store = Storage(root=Path("/x"), keep_days=1, keep_deferred_days=2, keep_bytes=3 << 20, expire_waiting=True)
    assert limits_of(store) == KeepLimits(days=1, deferred_days=2, max_bytes=3 << 20, waiting=True)
    assert not limits_of(Storage(root=Path("/x")))


@for_each(
    ("mover", "primary", "others"),
    [
        pytest.param({}, False, True, id="home"),
        pytest.param({"enabled": False}, False, False, id="off"),
        pytest.param({"destination": [{"type": "x"}]}, True, True, id="destinations"),
        pytest.param({"enabled": False, "destination": [{"type": "x"}]}, True, True, id="destinations, off"),
    ],
)
def test_where_crashes_wait(mover: dict[str, object], primary: bool, others: bool) -> None:
    """What a crashmover would move that is only off for a while waits, too."""
    settings = Crashmover(**mover)  # type: ignore[arg-type]
    assert settings.moves_from(primary=True) == primary
    assert settings.moves_from(primary=False) == others
