"""
The journal, on real files and a thread that the tests wait for; and the files of the journals by themselves.
"""

import errno
import fcntl
import gzip
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from collectord.metrics import REGISTRY
from collectord.model import CrashEvent, Step
from collectord.observe.journal.files import JournalFiles, compress, rewrite
from collectord.observe.journal.lines import HEAL, compressed_path, journal_path
from collectord.observe.journal.reader import Journal
from collectord.observe.journal.writer import JournalWriter
from tests.support.mounts import can_mount, tmpfs
from tests.unit.storage.stores import close_held, hanging, watched

CRASH_ID = "8f63752c-57c6-4e5d-b2cf-cabde2160622"
TOMORROW_S_ID = "8f63752c-57c6-4e5d-b2cf-cabde2160623"
NOW = datetime(2016, 6, 22, 15, 19, 49, 123000, UTC)
DAY = "20160622"
SOON = 10.0

pytestmark = pytest.mark.timeout(60)


def crash_event(number: int = 0, kind: Step = "kept", crash_id: str = CRASH_ID) -> CrashEvent:
    return CrashEvent(at=NOW.timestamp() + number, crash_id=crash_id, kind=kind, where=str(number))


def failures() -> float:
    return REGISTRY.get_sample_value("collectord_ledger_failures_total") or 0.0


@define
class Rig:
    """A journal whose time and threads are turned by hand."""

    directory: Path
    keep_days: int = 90
    clock: Clock = field(factory=Clock)
    calls: SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...]]] = field(factory=SimpleQueue)
    away: str = ""
    journal: JournalWriter = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.journal = JournalWriter(
            self.directory, self.keep_days, self.clock, self._call, self.now, self._refuse_other
        )

    def _refuse_other(self) -> None:
        if self.away:
            raise OSError(errno.ESTALE, self.away)

    def _call(self, function: Callable[..., Any], *args: Any) -> None:
        self.calls.put((function, args))

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.clock.seconds())

    def turn(self, wait: float = SOON) -> bool:
        """Whether a thread had something to tell."""
        try:
            function, args = self.calls.get(timeout=wait)
        except Empty:
            return False
        function(*args)
        return True

    def settle(self) -> None:
        """Until the thread has nothing to do."""
        while self.journal._busy:
            assert self.turn()

    def advance(self, seconds: float) -> None:
        """In steps, and whatever is due is done."""
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end - 1e-9:
            self.clock.advance(min(0.25, end - self.clock.seconds()))
            self.settle()

    def start(self) -> None:
        self.journal.startService()
        self.settle()

    def stop(self) -> None:
        stopped: Deferred[None] = self.journal.stopService()
        while not stopped.called:
            assert self.turn()

    def lines(self, day: str = DAY) -> list[str]:
        """What and where, or about what, of each."""
        return [f"{line.kind} {line.where or line.subject}" for line in self.whole(day)]

    def whole(self, day: str = DAY) -> list[Any]:
        journal = Journal(self.directory, day)
        found = list(journal)
        assert journal.damaged == 0
        return found

    def of_crashes(self, day: str = DAY) -> list[str]:
        return [line for line in self.lines(day) if not line.startswith(("start", "stop", "unclean"))]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "ledger")


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[str]]:
    """The texts of what is worth more than a note; an unexpected failure fails the test."""
    texts: list[str] = []
    with capturedLogs() as events:
        yield texts
    assert [event for event in events if "log_failure" in event] == []


def errors(events: Any) -> list[str]:
    return [event["log_format"].format(**event) for event in events if event["log_level"].name == "error"]


def test_what_happens_is_written_a_quarter_of_a_second_later(rig: Rig) -> None:
    rig.start()
    rig.journal.note(crash_event(1))
    rig.journal.note(crash_event(2, "moved"))
    assert rig.of_crashes() == []
    rig.advance(0.25)
    assert rig.of_crashes() == ["kept 1", "moved 2"]


def test_nothing_is_written_where_nothing_happens(rig: Rig) -> None:
    rig.start()
    rig.advance(0.25)
    with watched(rig.directory, ["write", "open", "fsync"], lambda seen, name, do: do()) as disk:
        rig.advance(60)
    assert disk.seen == 0


def test_what_happened_before_the_start_is_written(rig: Rig) -> None:
    rig.journal.note(crash_event(1))
    rig.start()
    assert rig.of_crashes() == ["kept 1"]


def test_a_thousand_lines_are_written_at_once(rig: Rig) -> None:
    rig.start()
    for n in range(1000):
        rig.journal.note(crash_event(n))
    rig.settle()
    assert len(rig.of_crashes()) == 1000
    for n in range(5):
        rig.journal.note(crash_event(n))
    rig.advance(0.25)
    assert len(rig.of_crashes()) == 1005


def test_many_that_come_while_it_writes(rig: Rig) -> None:
    rig.start()
    for n in range(2500):
        rig.journal.note(crash_event(n))
    rig.settle()
    rig.advance(0.25)
    assert rig.of_crashes() == [f"kept {n}" for n in range(2500)]


def test_one_write_for_each_day_of_ids(rig: Rig) -> None:
    rig.start()
    for n in range(100):
        rig.journal.note(crash_event(n, crash_id=CRASH_ID if n % 2 else TOMORROW_S_ID))
    with watched(rig.directory, ["write"], lambda seen, name, do: do()) as disk:
        rig.advance(0.25)
    assert disk.seen == 2
    assert rig.of_crashes("20160623") == [f"kept {n}" for n in range(0, 100, 2)]
    assert rig.of_crashes() == [f"kept {n}" for n in range(1, 100, 2)]


def test_permissions(rig: Rig) -> None:
    old = os.umask(0)
    try:
        rig.start()
    finally:
        os.umask(old)
    assert stat.S_IMODE(rig.directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in rig.directory.iterdir()} == {0o600}


def test_nothing_is_made_above_the_directory(rig: Rig, tmp_path: Path) -> None:
    """A file system that is not mounted is not written to; once it is there, nothing is missing."""
    rig = Rig(tmp_path / "mount" / "ledger")
    with capturedLogs() as events:
        rig.start()
        rig.journal.note(crash_event(1))
        rig.advance(30)
    assert not (tmp_path / "mount").exists()
    assert len(errors(events)) == 1
    (tmp_path / "mount").mkdir()
    rig.advance(1.25)
    assert rig.of_crashes() == ["kept 1"]


def test_a_store_that_is_just_being_made_is_no_trouble(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "crashes" / "ledger")
    before = failures()
    with capturedLogs() as events:
        rig.start()
        rig.journal.note(crash_event(1))
        rig.advance(1)
        (tmp_path / "crashes").mkdir()
        rig.advance(0.25)
    assert rig.of_crashes() == ["kept 1"]
    assert (errors(events), failures()) == ([], before)


def test_nothing_is_made_or_written_where_the_store_is_not_there(tmp_path: Path) -> None:
    """The empty mount point of its file system is."""
    rig = Rig(tmp_path / "ledger", away="another store")
    with capturedLogs() as events:
        rig.start()
        rig.journal.note(crash_event(1))
        rig.advance(4)
        assert list(tmp_path.iterdir()) == []
        rig.away = ""
        rig.advance(1.25)
        assert rig.of_crashes() == ["kept 1"]
        rig.away = "another store"
        rig.journal.note(crash_event(2))
        rig.advance(2)
        assert rig.of_crashes() == ["kept 1"]
        rig.away = ""
        rig.advance(1.25)
    assert rig.of_crashes() == ["kept 1", "kept 2"]
    assert errors(events) == ["the journal can't be written: another store"] * 2


# Syncs.


def test_a_sync_each_five_seconds_and_not_for_each_line(rig: Rig) -> None:
    rig.start()
    synced: list[float] = []

    def happen(seen: int, name: str, do: Callable[[], Any]) -> Any:
        synced.append(rig.clock.seconds())
        return do()

    with watched(rig.directory, ["fsync"], happen):
        for n in range(200):
            rig.journal.note(crash_event(n))
            rig.advance(0.25)
    assert 9 <= len(set(synced)) <= 11


def test_its_lock_file_says_up_to_when_lines_are_durable(rig: Rig) -> None:
    rig.start()
    rig.journal.note(crash_event())
    rig.advance(60)
    (running,) = rig.directory.glob("*.running")
    assert running.stat().st_mtime == pytest.approx(NOW.timestamp() + 5.25)
    assert running.name.startswith(f"{os.uname().nodename}-{os.getpid()}-")


# Starts and stops.


def test_a_start_and_a_clean_stop(rig: Rig) -> None:
    rig.start()
    rig.journal.note(crash_event(1))
    rig.stop()
    kind = [line.kind for line in rig.whole()]
    assert kind == ["start", "kept", "stop"]
    assert rig.whole()[0].subject == rig.whole()[-1].subject
    assert list(rig.directory.glob("*.running")) == []
    assert Rig(rig.directory).whole()[-1].kind == "stop"


def test_a_stop_before_anything_was_written(rig: Rig) -> None:
    rig.journal.startService()
    rig.journal.note(crash_event(1))
    rig.stop()
    assert [line.kind for line in rig.whole()] == ["start", "kept", "stop"]


def test_a_stop_writes_all_that_waits(rig: Rig) -> None:
    rig.start()
    for n in range(3500):
        rig.journal.note(crash_event(n))
    rig.stop()
    assert rig.of_crashes() == [f"kept {n}" for n in range(3500)]


def test_an_unclean_stop_is_told_by_the_next_start(rig: Rig) -> None:
    rig.start()
    rig.journal.note(crash_event())
    rig.advance(6)
    (running,) = rig.directory.glob("*.running")
    close_held(running)
    after = Rig(rig.directory)
    after.clock.advance(20)
    after.start()
    (line,) = [line for line in after.whole() if line.kind == "unclean"]
    assert line.subject == running.stem
    assert "2016-06-22T15:19:54" < line.where < "2016-06-22T15:19:56"
    assert line.time > line.where
    assert not running.exists()
    after.stop()
    again = Rig(rig.directory)
    again.start()
    assert [line.kind for line in again.whole()].count("unclean") == 1


def test_an_unclean_stop_over_midnight_is_told_in_both_journals(rig: Rig) -> None:
    rig.start()
    (running,) = rig.directory.glob("*.running")
    close_held(running)
    after = Rig(rig.directory)
    after.clock.advance(10 * 3600)
    after.start()
    for day in (DAY, "20160623"):
        assert [line.kind for line in after.whole(day)].count("unclean") == 1


def test_several_processes_share_a_directory(rig: Rig) -> None:
    other = Rig(rig.directory)
    rig.start()
    other.start()
    for n in range(10):
        rig.journal.note(crash_event(n))
        other.journal.note(crash_event(100 + n))
        rig.advance(0.25)
        other.advance(0.25)
    rig.stop()
    other.stop()
    kind = [line.kind for line in rig.whole()]
    assert (kind.count("start"), kind.count("stop"), kind.count("unclean"), kind.count("kept")) == (2, 2, 0, 20)


# Trouble.


def test_a_disk_that_fails(rig: Rig) -> None:
    rig.start()
    before = failures()
    with capturedLogs() as events:
        with full(rig.directory):
            rig.journal.note(crash_event(1))
            rig.advance(0.25)
            rig.journal.note(crash_event(2))
            rig.advance(10)
        assert rig.of_crashes() == []
        rig.advance(1.25)
    assert rig.of_crashes() == ["kept 1", "kept 2"]
    assert 8 <= failures() - before <= 12  # each second
    assert errors(events) == ["the journal can't be written: full"]
    assert any("written again" in event["log_format"] for event in events)


def test_it_has_not_recovered_before_the_failed_step_is_done(rig: Rig) -> None:
    """Nothing waits to be written, and the store of the directory is gone: that is told once, until it is back."""
    rig.start()
    with capturedLogs() as events:
        rig.away = "another store"
        rig.advance(30)
        assert [event["log_format"].split(" {")[0] for event in events] == ["the journal can't be written:"]
        rig.away = ""
        rig.advance(1.25)
    assert [event["log_format"] for event in events][1:] == ["the journal is written again"]


def full(directory: Path) -> AbstractContextManager[object]:
    return watched(directory, ["write"], lambda seen, name, do: raising(OSError(28, "full"))())


def raising(error: Exception) -> Callable[..., Any]:
    def fail(*args: object, **kwargs: object) -> None:
        raise error

    return fail


def test_a_line_that_was_written_in_part_is_written_again(rig: Rig) -> None:
    rig.start()
    real = os.write
    with pytest.MonkeyPatch.context() as patch:
        wrote = iter([10])

        def write(fd: int, data: Any) -> int:
            for size in wrote:
                return real(fd, bytes(data)[:size])
            raise OSError(28, "full")

        patch.setattr(os, "write", write)
        rig.journal.note(crash_event(1))
        rig.advance(0.25)
    rig.advance(1.25)
    journal = Journal(rig.directory, DAY)
    assert [line.where for line in journal if line.kind == "kept"] == ["1"]
    assert journal.damaged == 1


@pytest.mark.slow
def test_a_disk_that_hangs_holds_nobody_up_and_memory_is_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collectord.observe.journal.writer._LIMIT", 10_000)
    rig.start()
    before = failures()
    with capturedLogs() as events, hanging(rig.directory, "write") as gate:
        rig.journal.note(crash_event(0))
        rig.clock.advance(0.25)
        for n in range(1, 13_001):
            rig.journal.note(crash_event(n))
        rig.clock.advance(100)
        assert errors(events) != []
        gate.open()
        rig.settle()
        rig.advance(2)
    assert len(errors(events)) == 1
    assert failures() > before
    lines = rig.of_crashes()
    (lost,) = [line for line in lines if line.startswith("lost")]
    kept = [line for line in lines if line.startswith("kept")]
    assert len(kept) + int(lost.split()[1]) == 13_001
    assert kept[0] == "kept 0"
    assert kept[-1] == "kept 13000"
    assert 9_000 <= len(kept) <= 10_001


def test_a_disk_that_hangs_for_long_is_told(rig: Rig) -> None:
    rig.start()
    with capturedLogs() as events, hanging(rig.directory, "write") as gate:
        rig.journal.note(crash_event(0))
        rig.clock.advance(0.25)
        rig.clock.advance(61)
        gate.open()
        rig.settle()
    assert errors(events) == ["the journal can't be written: the disk has not answered for 60 s"]


@pytest.mark.slow
def test_lost_lines_are_counted_in_the_journals_of_their_days(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collectord.observe.journal.writer._LIMIT", 10_000)
    rig.start()
    with full(rig.directory), capturedLogs():
        for n in range(11_500):
            rig.journal.note(crash_event(n, crash_id=TOMORROW_S_ID if n < 1100 else CRASH_ID))
        rig.advance(5)
    rig.advance(1.25)
    counts = [int(line.split()[1]) for day in ("20160623", DAY) for line in rig.of_crashes(day) if "lost" in line]
    kept = sum(line.startswith("kept") for day in ("20160623", DAY) for line in rig.of_crashes(day))
    assert len(counts) == 2
    assert sum(counts) + kept == 11_500


def test_a_stop_with_a_disk_that_hangs_takes_five_seconds(rig: Rig) -> None:
    rig.start()
    with capturedLogs() as events, hanging(rig.directory, "write") as gate:
        rig.journal.note(crash_event(0))
        rig.clock.advance(0.25)
        rig.journal.note(crash_event(1))
        stopped: Deferred[None] = rig.journal.stopService()
        rig.clock.advance(4.9)
        assert not stopped.called
        rig.clock.advance(0.2)
        assert stopped.called
        gate.open()
    assert errors(events)[-1] == "lines of the journal that could not be written before the stop: 1"


def test_a_stop_with_a_full_disk(rig: Rig) -> None:
    rig.start()
    with capturedLogs() as events, full(rig.directory):
        rig.journal.note(crash_event(1))
        rig.stop()
    assert errors(events)[-1] == "lines of the journal that could not be written before the stop: 1"


@pytest.mark.slow
@pytest.mark.fault
@pytest.mark.skipif(bool(can_mount()), reason=can_mount() or "-")
def test_a_full_disk_that_gets_space(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "mount", size=409_600) as mount:
        rig = Rig(mount / "ledger")
        rig.start()
        (mount / "filler").write_bytes(bytes(350_000))
        with capturedLogs() as events:
            for n in range(3000):
                rig.journal.note(crash_event(n))
            rig.advance(3)
            assert len(errors(events)) == 1
            (mount / "filler").unlink()
            rig.advance(2)
            rig.stop()
            assert len(errors(events)) == 1
        journal = Journal(rig.directory, DAY)
        kept = [line.where for line in journal if line.kind == "kept"]
        assert sorted(set(kept), key=int) == [str(n) for n in range(3000)]
        assert journal.damaged <= 3
        assert [line.kind for line in journal][-1] == "stop"


@pytest.mark.fault
@pytest.mark.skipif(bool(can_mount()), reason=can_mount() or "-")
def test_no_inodes(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "mount", size=1_000_000, inodes=3) as mount:
        (mount / "filler").write_bytes(b"")
        rig = Rig(mount / "ledger")
        rig.journal.note(crash_event(1))
        rig.start()
        (mount / "filler").unlink()
        rig.advance(2)
        assert rig.lines() == []
    assert rig.lines() == []


# Files that grow old.


def aged(path: Path, days: float, content: bytes = b"") -> Path:
    """A file to which nothing was added for so long."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_bytes(content)
    at = NOW.timestamp() - days * 86400
    os.utime(path, (at, at))
    return path


LINE = b"2016-06-20T15:19:49.123Z\tkept\t8f63752c-57c6-4e5d-b2cf-cabde2160620\t%s\n"


def test_quiet_journals_are_compressed_at_the_start_and_each_day(rig: Rig) -> None:
    old = aged(journal_path(rig.directory, "20160619"), 2.5, LINE % b"1")
    young = aged(journal_path(rig.directory, "20160620"), 1.5, LINE % b"2")
    rig.start()
    assert not old.exists()
    assert gzip.decompress(compressed_path(old).read_bytes()) == LINE % b"1"
    assert stat.S_IMODE(compressed_path(old).stat().st_mode) == 0o600
    assert NOW.timestamp() - compressed_path(old).stat().st_mtime == pytest.approx(2.5 * 86400)
    assert young.exists()
    rig.clock.advance(86400 - 1)
    rig.settle()
    rig.advance(2)
    assert not young.exists()
    assert compressed_path(young).exists()
    assert list(rig.directory.glob("*.tmp")) == []


def test_old_files_are_removed_and_others_are_not(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "ledger", keep_days=10)
    old = aged(compressed_path(journal_path(rig.directory, "20160610")), 10.5)
    never_compressed = aged(journal_path(rig.directory, "20160609"), 11)
    left = aged(rig.directory / "20160609.journal.gz.tmp", 11)
    young = aged(compressed_path(journal_path(rig.directory, "20160613")), 9.5)
    foreign = aged(rig.directory / "notes.txt", 1000)
    late = aged(journal_path(rig.directory, "20100101"), 1, LINE % b"1")  # a crash of that day, moved yesterday
    rig.start()
    assert [path.exists() for path in (old, never_compressed, left, young, foreign, late)] == [False] * 3 + [True] * 3


def test_what_is_added_later_is_compressed_after_what_was_compressed_before(tmp_path: Path) -> None:
    journal = aged(journal_path(tmp_path, DAY), 3, LINE % b"1")
    compress(journal)
    aged(journal, 3, LINE % b"2" + LINE[:30])
    compress(journal)
    aged(journal, 3, LINE % b"3")
    compress(journal)
    compressed = gzip.decompress(compressed_path(journal).read_bytes())
    assert compressed == LINE % b"1" + LINE % b"2" + LINE[:30] + HEAL + LINE % b"3"
    found = Journal(tmp_path, DAY)
    assert ([line.where for line in found], found.damaged) == (["1", "2", "3"], 1)


@pytest.mark.parametrize("operation", ["open", "fsync", "replace", "fchown"])
def test_packing_that_fails_leaves_everything_as_it_was(
    tmp_path: Path, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = aged(journal_path(tmp_path, DAY), 3, LINE % b"2")
    compressed_path(journal).write_bytes(gzip.compress(LINE % b"1"))
    if operation == "replace":
        monkeypatch.setattr(Path, "replace", raising(OSError(5, "injected")))
    elif operation == "open":
        monkeypatch.setattr(gzip, "GzipFile", raising(OSError(5, "injected")))
    elif operation == "fchown":
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        monkeypatch.setattr(os, "fchown", raising(OSError(1, "injected")))
    else:
        monkeypatch.setattr(os, "fsync", raising(OSError(5, "injected")))
    with pytest.raises(OSError, match="injected"):
        compress(journal)
    monkeypatch.undo()
    assert [line.where for line in Journal(tmp_path, DAY)] == ["1", "2"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{DAY}.journal", f"{DAY}.journal.gz"]


def test_a_kill_between_packing_and_removing_harms_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = aged(journal_path(tmp_path, DAY), 3, LINE % b"1")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", raising(OSError(5, "injected")))
        with pytest.raises(OSError, match="injected"):
            compress(journal)
    compress(journal)
    assert {line.where for line in Journal(tmp_path, DAY)} == {"1"}
    assert not journal.exists()


@pytest.mark.slow
def test_nobody_adds_to_a_file_that_is_compressed_meanwhile(tmp_path: Path) -> None:
    """Writers and a packer, all at once: no line is lost."""
    journal = journal_path(tmp_path, DAY)
    done = Event()

    def add(who: int) -> None:
        files = JournalFiles(tmp_path)
        for n in range(300):
            files.write([crash_event(who * 1000 + n)], {}, NOW)

    def pack_all() -> None:
        while not done.is_set():
            compress(journal)

    writers = [Thread(target=add, args=(who,)) for who in range(3)]
    packers = [Thread(target=pack_all) for _ in range(2)]
    for thread in (*writers, *packers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in packers:
        thread.join()
    found = Journal(tmp_path, DAY)
    assert sorted(int(line.where) for line in found) == [who * 1000 + n for who in range(3) for n in range(300)]
    assert found.damaged == 0


def test_a_line_that_another_process_is_writing_is_not_taken_for_cut_off(tmp_path: Path) -> None:
    journal = journal_path(tmp_path, DAY)
    adding = Thread(target=lambda: JournalFiles(tmp_path).write([crash_event(1)], {}, NOW))
    with journal.open("wb", buffering=0) as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        other.write((LINE % b"other")[:20])
        adding.start()
        adding.join(0.05)
        assert adding.is_alive()
        other.write((LINE % b"other")[20:])
    adding.join(SOON)
    found = Journal(tmp_path, DAY)
    assert ([line.where for line in found], found.damaged) == (["other", "1"], 0)


def test_rewriting_waits_for_writers_and_they_for_it(tmp_path: Path) -> None:
    files = JournalFiles(tmp_path)
    files.write([crash_event(n) for n in range(3)], {}, NOW)
    compressed_path(journal_path(tmp_path, DAY)).write_bytes(gzip.compress(LINE % b"packed"))
    reached, go = Event(), Event()

    def without_the_second() -> Iterator[Any]:
        for line in Journal(tmp_path, DAY):
            if line.where != "1":
                yield line
        reached.set()
        assert go.wait(SOON)

    rewriting = Thread(target=lambda: rewrite(tmp_path, DAY, without_the_second()))
    rewriting.start()
    assert reached.wait(SOON)
    adding = Thread(target=lambda: files.write([crash_event(3)], {}, NOW))
    adding.start()
    time.sleep(0.05)
    assert adding.is_alive()
    go.set()
    rewriting.join()
    adding.join()
    assert [line.where for line in Journal(tmp_path, DAY)] == ["packed", "0", "2", "3"]
    assert not compressed_path(journal_path(tmp_path, DAY)).exists()


def test_what_root_rewrites_belongs_to_whom_the_directory_belongs(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    directory = tmp_path / "ledger"
    directory.mkdir()
    os.chown(directory, 1234, 1235)
    rewrite(directory, DAY, [])
    assert (journal_path(directory, DAY).stat().st_uid, journal_path(directory, DAY).stat().st_gid) == (1234, 1235)


def test_a_lock_that_is_held_is_no_unclean_stop(tmp_path: Path) -> None:
    alive, dead = tmp_path / "host-1-aa.running", tmp_path / "host-2-bb.running"
    dead.touch()
    with alive.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        JournalFiles(tmp_path).begin(NOW)
    lines = [line for day in tmp_path.glob("*.journal") for line in Journal(tmp_path, day.stem)]
    reported = [line.subject for line in lines if line.where]
    assert set(reported) == {"host-2-bb"}
    assert alive.exists()
    assert not dead.exists()
