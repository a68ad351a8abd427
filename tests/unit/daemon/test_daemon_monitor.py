import errno
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest
from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, capturedLogs, formatEvent

from collectord.concurrency.threadpool import CallFromThread, ThreadRunner, at_once
from collectord.daemon.monitor import INTERVAL_S, StoreMonitor
from collectord.errors import StorageError
from collectord.interfaces import ICrashStorage
from collectord.metrics import REGISTRY
from collectord.storage.chain.backend import CHECK_S, Backend
from collectord.storage.filesystem.backlog import Waiting, count_waiting
from collectord.testing.memory import MemoryCrashStorage
from tests.support.fakereactor import FakeReactor


@define
class Checked:
    name: str
    error: StorageError | None = None
    hangs: bool = False
    free: int = 7

    async def check(self) -> Mapping[str, int]:
        if self.hangs:
            await Deferred()
        if self.error is not None:
            raise self.error
        return {"free_bytes": self.free}


@define
class Rig:
    one: Checked
    two: Checked
    clock: FakeReactor = field(factory=FakeReactor)
    publishers: list[str] = field(factory=lambda: ["a queue"])
    watch: StoreMonitor = field(init=False)

    def __attrs_post_init__(self) -> None:
        staging = MemoryCrashStorage()
        backends = [Backend(store.name, cast(ICrashStorage, store), staging, 1.0) for store in (self.one, self.two)]
        self.watch = StoreMonitor(
            backends,
            [1, 2],
            lambda name: name == self.one.name,
            lambda: self.publishers,
            self.clock.seconds,
            self.clock,
        )


@pytest.fixture
def rig(tmp_path: Path, threads_at_once: None) -> Rig:
    for store in ("one", "two"):
        slot = tmp_path / store / "19700101" / "date" / "00" / "00_05"
        slot.mkdir(parents=True)
        (slot / "a").symlink_to("b")
        (tmp_path / store / "quarantine" / "c").mkdir(parents=True)
        (tmp_path / store / "unpublished" / "a queue" / "19700101T0000" / "id.json").mkdir(parents=True)
    return Rig(Checked(str(tmp_path / "one")), Checked(str(tmp_path / "two")))


def gauge(name: str, store: Checked) -> float | None:
    return REGISTRY.get_sample_value(f"collectord_{name}", {"store": store.name})


def test_seen(rig: Rig) -> None:
    rig.clock.advance(105)
    rig.watch.startService()
    one, two = rig.watch.stores()
    assert (one.problem, one.free_bytes, one.min_free_bytes, one.quarantined) == ("", 7, 1, 1)
    assert (one.backlog, one.oldest_age_s) == (1, 100.0)
    assert two.backlog is None  # nothing of it is ever moved
    assert gauge("store_free_bytes", rig.one) == 7
    assert gauge("backlog_crashes", rig.one) == 1
    assert gauge("backlog_oldest_age_seconds", rig.one) == 100
    assert gauge("unpublished_ids", rig.one) == 1
    assert gauge("quarantine_crashes", rig.two) == 1
    rig.watch.stopService()
    assert rig.clock.getDelayedCalls() == []


def test_ids_for_a_publisher_that_is_not_in_the_settings_are_told(rig: Rig) -> None:
    rig.publishers[:] = ["another queue"]
    with capturedLogs() as logged:
        rig.watch.startService()
        rig.clock.advance(300)
    one, _ = rig.watch.stores()
    assert list(one.cautions) == [
        "1 id waits for a publisher 'a queue' that the settings do not have: give it that name again, or let others "
        'publish them: collectord republish --left-over "a queue"'
    ]
    warnings = [formatEvent(event) for event in logged if event["log_level"] is LogLevel.warn]
    assert warnings == [f"{rig.one.name}: {one.cautions[0]}"]  # once
    rig.publishers[:] = ["a queue"]
    rig.clock.advance(300)
    assert list(rig.watch.stores()[0].cautions) == []


def test_what_can_still_be_read_of_a_full_store_is_told(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collectord.daemon.monitor.free_bytes", lambda root: 3)
    rig.watch.startService()
    rig.one.error = StorageError("no space")
    (Path(rig.one.name) / "quarantine" / "d").mkdir()
    rig.clock.advance(INTERVAL_S)
    one, two = rig.watch.stores()
    assert (one.problem, one.free_bytes, one.backlog, one.quarantined) == ("no space", 3, 1, 2)
    assert (gauge("store_well", rig.one), gauge("store_well", rig.two)) == (0, 1)
    assert gauge("store_free_bytes", rig.one) == 3
    assert gauge("backlog_crashes", rig.one) == 1
    assert gauge("backlog_oldest_age_seconds", rig.one) == 5
    assert gauge("quarantine_crashes", rig.one) == 2
    assert (two.problem, gauge("store_free_bytes", rig.two)) == ("", 7)
    rig.one.error = None
    rig.clock.advance(INTERVAL_S)
    assert (rig.watch.stores()[0].problem, gauge("store_well", rig.one)) == ("", 1)
    rig.watch.stopService()


def test_what_can_not_be_read_is_told_no_more(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(root: str) -> int:
        raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr("collectord.daemon.monitor.free_bytes", gone)
    rig.watch.startService()
    rig.one.error = StorageError("I/O error")
    rig.clock.advance(INTERVAL_S)
    one = rig.watch.stores()[0]
    assert (one.problem, one.free_bytes, one.backlog, one.quarantined) == ("I/O error", None, None, None)
    assert one.file_system
    assert one.last_known is not None
    assert (one.last_known.at, one.last_known.free_bytes) == (0.0, 7)
    assert gauge("store_well", rig.one) == 0
    for name in ("store_free_bytes", "backlog_crashes", "backlog_oldest_age_seconds", "quarantine_crashes"):
        assert gauge(name, rig.one) is None
    rig.one.error = None
    rig.clock.advance(INTERVAL_S)
    assert rig.watch.stores()[0].backlog == 1
    rig.watch.stopService()


def test_what_was_counted_last_is_known_when_a_store_goes_away(rig: Rig, tmp_path: Path) -> None:
    rig.watch.startService()
    slot = tmp_path / "one" / "19700101" / "date" / "00" / "00_05"
    for number in range(4):
        (slot / f"b{number}").symlink_to("b")
    rig.clock.advance(INTERVAL_S)
    assert rig.watch.stores()[0].backlog == 5
    assert [store.is_moved for store in rig.watch.stores()] == [True, False]
    rig.one.error = StorageError("it is away")
    rig.one.error.__cause__ = OSError(errno.ESTALE, "it is not")
    rig.clock.advance(INTERVAL_S)
    last = rig.watch.stores()[0].last_known
    assert last is not None
    assert (last.at, last.backlog, last.quarantined) == (INTERVAL_S, 5, 1)
    rig.watch.stopService()


def test_nothing_of_another_file_system_is_told(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collectord.daemon.monitor.free_bytes", lambda root: 3)
    rig.watch.startService()
    rig.one.error = StorageError("this is not the store that was here before")
    rig.one.error.__cause__ = OSError(errno.ESTALE, "it is not")
    rig.clock.advance(INTERVAL_S)
    one = rig.watch.stores()[0]
    assert (one.free_bytes, one.backlog, one.quarantined) == (None, None, None)
    assert gauge("store_free_bytes", rig.one) is None
    rig.watch.stopService()


def test_the_age_grows_between_counts(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[float] = []

    def count_slowly(root: str) -> Waiting:
        rig.clock.rightNow += 1  # seconds, so that the next count comes 20 seconds later
        counts.append(rig.clock.seconds())
        return count_waiting(root)

    monkeypatch.setattr("collectord.daemon.monitor.count_waiting", count_slowly)
    rig.clock.advance(105)
    rig.watch.startService()
    rig.clock.advance(INTERVAL_S)
    assert counts == [106]
    assert gauge("backlog_oldest_age_seconds", rig.one) == 111
    rig.watch.stopService()


def test_a_count_that_hangs_hides_no_trouble(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collectord.daemon.monitor.free_bytes", lambda root: 3)

    def pool(name: str, count: int, call_from_thread: CallFromThread) -> ThreadRunner:
        return (lambda work: Deferred()) if name == f"count {rig.one.name}" else at_once

    monkeypatch.setattr("collectord.daemon.monitor.ThreadPool", pool)
    rig = Rig(rig.one, rig.two)
    rig.watch.startService()
    rig.one.error = StorageError("no space")
    rig.clock.advance(INTERVAL_S)
    one = rig.watch.stores()[0]
    assert (one.problem, one.free_bytes, one.quarantined) == ("no space", 3, None)
    rig.watch.stopService()


def test_one_that_hangs_holds_up_no_other(rig: Rig) -> None:
    rig.one.hangs = True
    rig.watch.startService()
    rig.two.free = 3
    rig.clock.advance(CHECK_S)
    rig.clock.advance(INTERVAL_S)
    one, two = rig.watch.stores()
    assert "nothing for 5 s" in one.problem
    assert two.free_bytes == 3
    rig.watch.stopService()
