"""
What a source promises: new crashes oldest first, each whole or said to be broken; removal takes a crash's own files.
"""

import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from collectord.errors import CrashGone, CrashRejectedByStore, StorageError, TimedOut, UnreadableCrash
from collectord.interfaces import ICrashSource
from collectord.model import MINIDUMP, Crash, InMemory, NewCrash
from collectord.storage.content import StoredFile
from collectord.storage.filesystem import source as source_module
from collectord.storage.filesystem.quarantine import put_aside
from collectord.storage.filesystem.source import FilesystemCrashSource
from collectord.storage.filesystem.staging import Modes, StagingDirectory
from collectord.storage.filesystem.sweep import sweep
from collectord.storage.filesystem.transaction import CrashTransaction
from tests.support.disk import stored_crashes
from tests.unit.intake.parts import result_of
from tests.unit.storage.stores import (
    CRASH_ID,
    DUMPS,
    NAMES,
    NEIGHBOUR,
    SLOT,
    Rig,
    at_once,
    bytes_of,
    die,
    error_of,
    everything,
    failing,
    in_reactor,
    is_kept,
    make_crash,
    make_rig,
    make_store,
    value_of,
)

SAME_SECOND = datetime(2016, 6, 22, 15, 19, 50, tzinfo=UTC)
NEXT_DAY = datetime(2016, 6, 23, 15, 0, tzinfo=UTC)
LATER = datetime(2016, 7, 1, tzinfo=UTC)


async def ready() -> None:
    """The store is."""


def source_of(
    root: Path,
    now: datetime | Callable[[], datetime] = SAME_SECOND,
    in_thread: Any = at_once,
    made_by: type[StagingDirectory] = StagingDirectory,
) -> FilesystemCrashSource:
    staging = made_by(str(root), Modes())
    if root.is_dir():
        os.makedirs(staging.path)
    time = now if callable(now) else lambda: now
    return FilesystemCrashSource(str(root), in_thread, Clock(), time, 60.0, ready, staging)


async def batches(source: FilesystemCrashSource) -> list[Sequence[NewCrash]]:
    return [batch async for batch in source.new_crashes()]


def new_in(root: Path, now: datetime = SAME_SECOND) -> list[NewCrash]:
    return [new for batch in result_of(batches(source_of(root, now))) for new in batch]


def the_new(root: Path) -> NewCrash:
    [new] = new_in(root)
    return new


def loaded(source: FilesystemCrashSource, new: NewCrash) -> Crash:
    crash = result_of(source.load(new))
    assert crash is not None
    return crash


def keep(rig: Rig, crash_id: str, time: str = "15:19:49", **options: Any) -> None:
    day = f"20{crash_id[-6:-4]}-{crash_id[-4:-2]}-{crash_id[-2:]}"
    rig.save(rig.transaction(make_crash(crash_id, submitted_timestamp=f"{day}T{time}.5+00:00", **options)))


def test_interface(root: Path) -> None:
    verifyObject(ICrashSource, source_of(root))


def test_nothing_is_there(root: Path) -> None:
    assert new_in(root) == []
    root.mkdir()
    assert new_in(root) == []


def test_oldest_first(rig: Rig) -> None:
    in_order = [
        ("00000001-57c6-4e5d-b2cf-cabde2160621", "23:59:59"),
        ("ffffffff-57c6-4e5d-b2cf-cabde2160622", "09:59:59"),
        ("00000003-57c6-4e5d-b2cf-cabde2160622", "10:00:00"),
        ("00000004-57c6-4e5d-b2cf-cabde2160622", "10:00:01"),
        ("00000005-57c6-4e5d-b2cf-cabde2160622", "10:01:00"),
    ]
    for crash_id, time in reversed(in_order):
        keep(rig, crash_id, time)
    assert [new.crash_id for new in new_in(rig.root)] == [crash_id for crash_id, _ in in_order]


def test_no_slot_is_listed_before_it_is_asked_for(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    for second in range(10):
        keep(rig, f"0000000{second}-57c6-4e5d-b2cf-cabde2160622", f"10:00:0{second}")
    listed: list[str] = []
    listdir = os.listdir

    def note(path: str) -> list[str]:
        listed.append(path)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", note)
    first = result_of(anext(aiter(source_of(rig.root).new_crashes())))
    assert [new.crash_id[:8] for new in first] == ["00000000"]
    assert len([path for path in listed if path.rpartition("/")[2].startswith("00_")]) == 1


@pytest.mark.parametrize("name", ["readme", f"{CRASH_ID}.json", "lost+found", "8f63752c-57c6-4e5d-b2cf-cabde2160622x"])
def test_other_things_are_left_alone(rig: Rig, name: str) -> None:
    keep(rig, CRASH_ID)
    for directory in (rig.root, rig.root / "20160622/date", rig.root / "20160622/date/15", rig.root / SLOT):
        (directory / name).write_text("?")
    assert [new.crash_id for new in new_in(rig.root, LATER)] == [CRASH_ID]
    assert (rig.root / SLOT / name).exists()


def test_load(rig: Rig) -> None:
    kept = make_crash()
    rig.save(rig.transaction(kept))
    crash = loaded(source_of(rig.root), the_new(rig.root))
    assert (crash.crash_id, crash.raw_crash) == (CRASH_ID, kept.raw_crash)
    assert [(d.name, d.size, d.sha256) for d in crash.dumps] == [(d.name, d.size, d.sha256) for d in kept.dumps]
    assert all(isinstance(dump.content, InMemory) for dump in crash.dumps)
    assert {dump.name: result_of(bytes_of(dump.content)) for dump in crash.dumps} == DUMPS


def test_only_so_much_of_one_crash_is_in_memory(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (len(content) for content in DUMPS.values())
    rig.save(rig.transaction(make_crash()))
    for room, held in ((first + second, 2), (first + second - 1, 1), (0, 0)):
        monkeypatch.setattr(source_module, "_IN_MEMORY", room)
        crash = loaded(source_of(rig.root), the_new(rig.root))
        assert [isinstance(dump.content, InMemory) for dump in crash.dumps].count(True) == held
        assert {dump.name: result_of(bytes_of(dump.content)) for dump in crash.dumps} == DUMPS


def test_load_without_dumps(rig: Rig) -> None:
    rig.save(rig.transaction(make_crash(dumps={})))
    crash = loaded(source_of(rig.root), the_new(rig.root))
    assert crash.dumps == []


def test_load_what_socorro_wrote(rig: Rig) -> None:
    keep(rig, CRASH_ID)
    keep(rig, NEIGHBOUR)
    path = rig.root / NAMES / f"{CRASH_ID}.json"
    path.write_text(json.dumps({"uuid": CRASH_ID}))
    [new] = [new for new in new_in(rig.root) if new.crash_id == CRASH_ID]
    crash = loaded(source_of(rig.root), new)
    assert {dump.name: result_of(bytes_of(dump.content)) for dump in crash.dumps} == DUMPS


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("file", "harm", "reason"),
    [
        (".json", _cut, "no JSON"),
        (".json", lambda path: path.write_text("[]"), "no JSON object"),
        (".json", lambda path: path.write_text("[" * 100_000), "no JSON"),
        (".json", lambda path: path.write_bytes(b"\xff\xfe\xfd"), "no JSON"),
        (".json", lambda path: path.write_text(""), "no JSON"),
        (".dump", _cut, "checksum"),
        (".dump", lambda path: path.write_bytes(path.read_bytes()[:-1] + b"X"), "checksum"),
        (".dump", os.unlink, "missing"),
        (".extra_2.dump", os.unlink, "missing"),
    ],
)
def test_load_what_is_broken(rig: Rig, file: str, harm: Callable[[Path], None], reason: str) -> None:
    keep(rig, CRASH_ID)
    harm(rig.root / NAMES / f"{CRASH_ID}{file}")
    with pytest.raises(UnreadableCrash, match=reason):
        result_of(source_of(rig.root).load(the_new(rig.root)))


def test_load_what_can_t_be_read_now(rig: Rig) -> None:
    keep(rig, CRASH_ID)
    dump = rig.root / NAMES / f"{CRASH_ID}.dump"
    dump.unlink()
    dump.symlink_to(dump)
    with pytest.raises(StorageError, match=str(dump)):
        result_of(source_of(rig.root).load(the_new(rig.root)))


def test_a_raw_crash_of_which_a_disk_gives_some_and_then_an_error_is_not_broken(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or it would go to the quarantine, and not be tried again."""
    keep(rig, CRASH_ID)
    read, errors = os.read, [OSError(5, "injected")]

    def read_some(descriptor: int, size: int) -> bytes:
        if errors and os.lseek(descriptor, 0, os.SEEK_CUR):
            raise errors.pop()
        return read(descriptor, min(size, 100))

    monkeypatch.setattr(os, "read", read_some)
    source, new = source_of(rig.root), the_new(rig.root)
    with pytest.raises(StorageError, match="injected"):
        result_of(source.load(new))
    result_of(source.release(new))
    assert loaded(source, new).raw_crash["uuid"] == CRASH_ID


@pytest.mark.parametrize("now", [SAME_SECOND, LATER])
def test_what_is_being_put_in_place_is_left_alone(rig: Rig, now: datetime) -> None:
    keep(rig, CRASH_ID)
    (rig.root / NAMES / f"{CRASH_ID}.json").rename(Path(rig.staging.path) / f"{CRASH_ID}.json")
    before = everything(rig.root)
    assert result_of(source_of(rig.root, now).load(the_new(rig.root))) is None
    assert everything(rig.root) == before


@pytest.mark.parametrize("step", range(1, 6))
@pytest.mark.parametrize("operation", ["link", "unlink"])
def test_a_removal_that_fails_in_the_middle_is_finished_by_the_next_pass(rig: Rig, operation: str, step: int) -> None:
    keep(rig, CRASH_ID)
    keep(rig, NEIGHBOUR)
    [new] = [new for new in new_in(rig.root) if new.crash_id == CRASH_ID]
    source = source_of(rig.root)
    crash = loaded(source, new)
    failures: list[Failure] = []
    with failing(rig.root, operation, step, OSError(5, "injected")):
        Deferred.fromCoroutine(source.remove(new, crash, keep=False)).addErrback(failures.append)
    for again in [new for new in new_in(rig.root) if new.crash_id == CRASH_ID]:
        if (crash_again := result_of(source.load(again))) is not None:
            result_of(source.remove(again, crash_again, keep=False))
    left = [path for path in everything(rig.root) if CRASH_ID in path]
    # What is left in the staging area when even the last step failed is swept.
    assert all(path.startswith("staging/") for path in left)
    assert is_kept(rig.root, NEIGHBOUR)


@pytest.mark.parametrize("step", range(1, 6))
def test_a_removal_that_was_killed_is_finished_by_the_sweep(rig: Rig, step: int) -> None:
    keep(rig, CRASH_ID)
    keep(rig, NEIGHBOUR)
    [new] = [new for new in new_in(rig.root) if new.crash_id == CRASH_ID]
    source = source_of(rig.root)
    crash = loaded(source, new)
    with failing(rig.root, "unlink", step, OSError(5, "injected")), suppress(Exception):
        Deferred.fromCoroutine(source.remove(new, crash, keep=False)).addErrback(lambda _: None)
    swept = sweep(rig.staging)  # of a process that is gone: it has no lock
    assert swept.crashes == ([CRASH_ID] if 1 < step < 5 else [])
    for again in [new for new in new_in(rig.root) if new.crash_id == CRASH_ID]:
        another = source_of(rig.root)
        result_of(another.remove(again, loaded(another, again), keep=False))
    assert [path for path in everything(rig.root) if CRASH_ID in path] == []
    assert is_kept(rig.root, NEIGHBOUR)


@pytest.mark.parametrize("gone", [[".json"], [".json", ".dump"], [".json", ".dump", ".extra_2.dump"]])
def test_what_nothing_here_has_removed_is_left_alone_and_told(
    rig: Rig, gone: list[str], reported: Callable[[], list[str]]
) -> None:
    """So does a backup look that is just being copied here."""
    keep(rig, CRASH_ID)
    for file in gone:
        (rig.root / NAMES / f"{CRASH_ID}{file}").unlink()
    source = source_of(rig.root)
    before = everything(rig.root)
    for _ in range(3):
        for [new] in result_of(batches(source)):
            os.utime(rig.root / SLOT / CRASH_ID, (0, 0), follow_symlinks=False)
            assert result_of(source.load(new)) is None
    assert everything(rig.root) == before
    [line] = [line for line in reported() if "without a raw crash" in line]
    assert CRASH_ID in line
    assert "without a raw crash: 1," in line
    assert value_of("dangling_links", rig.root) == 1


def test_what_another_process_has_moved_meanwhile_is_not_told(rig: Rig, reported: Callable[[], list[str]]) -> None:
    keep(rig, CRASH_ID)
    source, another = source_of(rig.root), source_of(rig.root)
    for [new] in result_of(batches(source)):
        result_of(another.remove(new, loaded(another, new), keep=False))
        assert result_of(source.load(new)) is None
    assert result_of(batches(source)) == []
    assert [line for line in reported() if "without a raw crash" in line] == []


@pytest.mark.parametrize("late", [".json", ".dump", ".extra_2.dump"])
def test_a_crash_that_comes_from_a_backup_file_by_file_is_whole_in_the_end(rig: Rig, late: str) -> None:
    keep(rig, CRASH_ID)
    path = rig.root / NAMES / f"{CRASH_ID}{late}"
    content = path.read_bytes()
    path.unlink()
    source = source_of(rig.root, datetime.now(UTC))
    for part in (0, len(content) // 2, len(content)):
        new = the_new(rig.root)
        if part < len(content):
            assert result_of(source.load(new)) is None
        path.write_bytes(content[:part])
        path.chmod(0o600)
    assert loaded(source, the_new(rig.root)).raw_crash["uuid"] == CRASH_ID
    assert is_kept(rig.root)


def test_what_stays_broken_is_said_to_be_so(rig: Rig) -> None:
    keep(rig, CRASH_ID)
    (rig.root / NAMES / f"{CRASH_ID}.dump").unlink()
    now = datetime.now(UTC)
    assert result_of(source_of(rig.root, now).load(the_new(rig.root))) is None
    with pytest.raises(UnreadableCrash, match="missing"):
        result_of(source_of(rig.root, now + timedelta(seconds=11)).load(the_new(rig.root)))


def test_directories_that_were_just_made_are_left_for_what_comes_into_them(rig: Rig) -> None:
    now = datetime.now(UTC)
    times = [now, now + timedelta(minutes=6)]
    source = source_of(rig.root, lambda: times[0])
    for directory in (rig.root / SLOT, rig.root / NAMES):
        directory.mkdir(parents=True)
    result_of(batches(source))
    assert (rig.root / SLOT).is_dir()
    assert (rig.root / NAMES).is_dir()
    del times[0]
    result_of(batches(source))
    assert not (rig.root / "20160622").exists()


@pytest.mark.parametrize("times", [1, 2])
def test_remove_its_own_files_only(rig: Rig, times: int) -> None:
    keep(rig, CRASH_ID)
    keep(rig, NEIGHBOUR)
    [new] = [new for new in new_in(rig.root) if new.crash_id == CRASH_ID]
    source = source_of(rig.root)
    crash = loaded(source, new)
    for _ in range(times):
        result_of(source.remove(new, crash, keep=False))
    assert [path for path in everything(rig.root) if CRASH_ID in path] == []
    assert is_kept(rig.root, NEIGHBOUR)
    assert [new.crash_id for new in new_in(rig.root)] == [NEIGHBOUR]


def test_keep(rig: Rig) -> None:
    keep(rig, CRASH_ID)
    new = the_new(rig.root)
    source = source_of(rig.root)
    result_of(source.remove(new, loaded(source, new), keep=True))
    assert new_in(rig.root) == []
    assert stored_crashes(rig.root)[CRASH_ID].dumps == DUMPS


def test_the_raw_crash_goes_first_and_the_link_last(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(rig, CRASH_ID)
    new = the_new(rig.root)
    source = source_of(rig.root)
    crash = loaded(source, new)
    removed: list[str] = []
    unlink = os.unlink

    def note(path: str) -> None:
        removed.append(path.rpartition(CRASH_ID)[2])
        unlink(path)

    monkeypatch.setattr(os, "unlink", note)
    result_of(source.remove(new, crash, keep=False))
    assert (removed[0], removed[-3:]) == (".json", ["", ".json", ".moving"])  # the last two are in the staging area
    assert sorted(removed[1:-3]) == [".dump", ".extra_2.dump"]


@pytest.mark.parametrize("times", [1, 2])
def test_quarantine(rig: Rig, times: int) -> None:
    keep(rig, CRASH_ID)
    keep(rig, NEIGHBOUR)
    [new] = [new for new in new_in(rig.root) if new.crash_id == CRASH_ID]
    for _ in range(times):
        result_of(source_of(rig.root).quarantine(new, "it is broken"))
    directory = rig.root / "quarantine" / CRASH_ID
    assert (directory / "reason.txt").read_text() == "2016-06-22T15:19:50+00:00 it is broken\n"
    assert (directory / f"{CRASH_ID}.dump").read_bytes() == DUMPS[MINIDUMP]
    assert sorted(os.listdir(directory)) == [
        f"{CRASH_ID}.dump",
        f"{CRASH_ID}.extra_2.dump",
        f"{CRASH_ID}.json",
        "reason.txt",
    ]
    assert directory.stat().st_mode & 0o077 == 0
    assert [new.crash_id for new in new_in(rig.root)] == [NEIGHBOUR]
    assert is_kept(rig.root, NEIGHBOUR)


def test_what_another_process_has_removed_is_not_put_aside(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network file system may still show its files."""

    def stale(source: str, target: str) -> None:
        os.unlink(source)
        raise FileNotFoundError(2, "No such file or directory", source)

    keep(rig, CRASH_ID)
    [new] = new_in(rig.root)
    monkeypatch.setattr(os, "rename", stale)
    with pytest.raises(CrashGone):
        result_of(source_of(rig.root).quarantine(new, "a dump is missing"))
    assert os.listdir(rig.root / "quarantine") == []


def test_old_empty_slots_are_removed_and_young_ones_are_not(rig: Rig) -> None:
    keep(rig, CRASH_ID)
    (rig.root / SLOT / CRASH_ID).unlink()
    new_in(rig.root, SAME_SECOND)
    assert (rig.root / SLOT).is_dir()
    new_in(rig.root, NEXT_DAY)
    assert not (rig.root / "20160622/date/15").exists()
    assert (rig.root / NAMES).is_dir()


def test_old_days_leave_nothing(rig: Rig) -> None:
    keep(rig, CRASH_ID)
    new = the_new(rig.root)
    source = source_of(rig.root)
    result_of(source.remove(new, loaded(source, new), keep=False))
    new_in(rig.root, LATER)
    assert not (rig.root / "20160622").exists()


def test_old_days_keep_what_is_kept(rig: Rig) -> None:
    keep(rig, CRASH_ID)
    new = the_new(rig.root)
    source = source_of(rig.root)
    result_of(source.remove(new, loaded(source, new), keep=True))
    new_in(rig.root, LATER)
    assert stored_crashes(rig.root)[CRASH_ID].dumps == DUMPS


def test_a_crash_of_an_old_day_is_kept_after_its_directories_were_removed(rig: Rig) -> None:
    keep(rig, CRASH_ID)
    new = the_new(rig.root)
    source = source_of(rig.root)
    result_of(source.remove(new, loaded(source, new), keep=False))
    new_in(rig.root, LATER)
    keep(rig, CRASH_ID)
    assert is_kept(rig.root)


def test_a_mount_that_hangs(root: Path) -> None:
    clock = Clock()
    staging = StagingDirectory(str(root), Modes())
    source = FilesystemCrashSource(str(root), lambda work: Deferred(), clock, lambda: LATER, 60.0, ready, staging)
    failures: list[Failure] = []
    Deferred.fromCoroutine(source.load(NewCrash(CRASH_ID, f"{root}/{SLOT}"))).addErrback(failures.append)
    clock.advance(59)
    assert failures == []
    clock.advance(2)
    assert failures[0].check(TimedOut)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, 6))
@pytest.mark.parametrize("operation", ["rename", "unlink", "fsync"])
def test_a_quarantine_that_is_cut_off_loses_nothing(rig: Rig, operation: str, number: int) -> None:
    keep(rig, CRASH_ID, dumps={"upload_file_minidump": b"1", "zz_after_json": b"2", "a": b"3"})
    [new] = new_in(rig.root)
    with failing(rig.root, operation, number, OSError(28, "injected")):
        Deferred.fromCoroutine(source_of(rig.root).quarantine(new, "broken")).addErrback(lambda _: None)
    for again in new_in(rig.root):
        os.utime(rig.root / SLOT / CRASH_ID, (0, 0), follow_symlinks=False)
        Deferred.fromCoroutine(source_of(rig.root).load(again)).addErrback(lambda _: None)
        result_of(source_of(rig.root).quarantine(again, "broken"))
    files = {path.name: path.read_bytes() for path in (rig.root / "quarantine" / CRASH_ID).iterdir()}
    assert files[f"{CRASH_ID}.dump"] + files[f"{CRASH_ID}.zz_after_json.dump"] + files[f"{CRASH_ID}.a.dump"] == b"123"
    assert f"{CRASH_ID}.json" in files


def test_a_slot_that_can_t_be_listed_holds_up_no_other(rig: Rig) -> None:
    keep(rig, CRASH_ID)
    keep(rig, NEIGHBOUR, "15:19:51")
    slot = rig.root / SLOT
    for link in slot.iterdir():
        link.unlink()
    slot.rmdir()
    slot.symlink_to(slot)  # ELOOP
    found: list[str] = []
    source = source_of(rig.root)

    async def walk() -> None:
        async for batch in source.new_crashes():
            found.extend(new.crash_id for new in batch)

    failures: list[Failure] = []
    Deferred.fromCoroutine(walk()).addErrback(failures.append)
    assert found == [NEIGHBOUR]
    assert failures[0].check(StorageError)


def test_a_dump_that_is_a_pipe(rig: Rig) -> None:
    keep(rig, CRASH_ID)
    dump = rig.root / NAMES / f"{CRASH_ID}.dump"
    dump.unlink()
    os.mkfifo(dump)
    with pytest.raises(UnreadableCrash, match="no regular file"):
        result_of(source_of(rig.root).load(the_new(rig.root)))


def _reversed(dump: Path) -> None:
    """It is as long as it was, and by its times it did not change, as after a disk's error or a write by C{mmap}."""
    times = dump.stat()
    dump.write_bytes(dump.read_bytes()[::-1])
    os.utime(dump, ns=(times.st_atime_ns, times.st_mtime_ns))


def _longer(dump: Path) -> None:
    dump.write_bytes(dump.read_bytes() + b"more")


def _pipe(dump: Path) -> None:
    dump.unlink()
    os.mkfifo(dump)


@pytest.mark.parametrize("harm", [_reversed, _cut, _longer, _pipe])
def test_a_dump_that_changes_before_it_is_copied(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: Callable[[Path], None]
) -> None:
    """What is read from a file once more is compared with its checksum as it is written elsewhere."""
    monkeypatch.setattr(source_module, "_IN_MEMORY", 0)
    keep(rig, CRASH_ID)
    crash = loaded(source_of(rig.root), the_new(rig.root))
    harm(rig.root / NAMES / f"{CRASH_ID}.dump")
    there = make_rig(tmp_path / "there")
    transaction = there.transaction(crash)
    there.save(transaction)
    (error,) = there.errors(transaction)
    assert "it was received with" in str(error)
    assert everything(tmp_path / "there") == []
    die(there.staging)


class Elsewhere(StagingDirectory):
    """Another store is at the root by now."""

    def refuse_other(self) -> None:
        raise OSError(116, "this is another store")


def test_nothing_is_touched_where_another_store_is(rig: Rig) -> None:
    keep(rig, CRASH_ID)
    new = the_new(rig.root)
    crash = loaded(source_of(rig.root), new)
    source = source_of(rig.root, made_by=Elsewhere)
    for work in (
        lambda: batches(source),
        lambda: source.load(new),
        lambda: source.remove(new, crash, keep=False),
        lambda: source.quarantine(new, "broken"),
    ):
        failures: list[Failure] = []
        Deferred.fromCoroutine(work()).addErrback(failures.append)
        assert failures[0].check(StorageError)
        assert str(failures[0].value) == f"{rig.root}: this is another store"
    assert is_kept(rig.root)


@in_reactor
async def test_a_dump_that_changes_before_it_is_copied_is_no_fault_of_the_place(root: Path, tmp_path: Path) -> None:
    content = StoredFile(str(tmp_path / "dump"), 5, at_once)
    (tmp_path / "dump").write_bytes(b"other")
    store = make_store(root)
    await store.check()
    error = await error_of(store.save(make_crash(dumps={MINIDUMP: b"first"}, places={MINIDUMP: content})))
    assert isinstance(error, CrashRejectedByStore)
    assert everything(root) == []
    await store.close()


def put_aside_by(rig: Rig, staging: StagingDirectory, new: NewCrash, now: datetime) -> bool:
    """Whether a source, whose process has that staging directory, has put a crash aside."""
    source = FilesystemCrashSource(str(rig.root), at_once, Clock(), lambda: now, 60.0, ready, staging)
    done: list[bool] = []
    Deferred.fromCoroutine(source.quarantine(new, "broken")).addCallbacks(
        lambda _: done.append(True), lambda _: done.append(False)
    )
    return done[0]


def break_and_send_again(rig: Rig) -> tuple[NewCrash, CrashTransaction]:
    """A crash whose dump is empty by now, and the whole one, from a sender who throws it away once it is confirmed."""
    keep(rig, CRASH_ID)
    new = the_new(rig.root)
    (rig.root / NAMES / f"{CRASH_ID}.dump").write_bytes(b"")
    return new, rig.transaction(make_crash(fresh=False))


def test_what_came_since_is_not_put_aside(rig: Rig) -> None:
    new, again = break_and_send_again(rig)
    rig.save(again)
    assert rig.errors(again) == [None]
    assert not put_aside_by(rig, rig.staging, new, datetime.now(UTC))
    assert stored_crashes(rig.root)[CRASH_ID].dumps == DUMPS


@pytest.mark.parametrize("same", [True, False], ids=["same process", "another"])
def test_nothing_takes_the_place_of_what_is_being_put_aside(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, same: bool
) -> None:
    new, again = break_and_send_again(rig)
    staging = rig.staging
    if not same:
        staging = StagingDirectory(str(rig.root), Modes())
        staging.make()

    def after_another_try(*args: Any) -> None:
        rig.save(again)
        put_aside(*args)

    monkeypatch.setattr("collectord.storage.filesystem.source.put_aside", after_another_try)
    assert put_aside_by(rig, staging, new, LATER)
    assert rig.errors(again) != [None]
    assert sorted(os.listdir(rig.root / "quarantine" / CRASH_ID)) == sorted(
        ["reason.txt", *(f"{CRASH_ID}{end}" for end in (".json", ".dump", ".extra_2.dump"))]
    )
    once_more = rig.transaction(make_crash(fresh=False))
    rig.save(once_more)
    assert rig.errors(once_more) == [None]
    assert stored_crashes(rig.root)[CRASH_ID].dumps == DUMPS
    if not same:
        staging.remove()


def test_a_crash_that_is_just_written_anew_is_not_put_aside(rig: Rig) -> None:
    new, again = break_and_send_again(rig)
    during: list[bool] = []
    rig.sync.meanwhile = lambda: during.append(put_aside_by(rig, rig.staging, new, LATER))
    rig.save(again)
    assert during[0] is False
    assert rig.errors(again) == [None]
    assert stored_crashes(rig.root)[CRASH_ID].dumps == DUMPS
