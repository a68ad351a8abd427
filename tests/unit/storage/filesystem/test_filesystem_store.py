"""
The file system store on its threads: what is answered when, giving up, and the check.
"""

import errno
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import Clock
from twisted.logger import LogEvent

from collectord.errors import StorageError, TimedOut
from collectord.model import MINIDUMP, Crash
from collectord.storage.filesystem import space
from collectord.storage.filesystem.access import refuse_unusable_today
from collectord.storage.filesystem.store import FilesystemCrashStorage, FilesystemSettings
from tests.support.disk import problems, stored_crashes
from tests.support.mounts import bind, can_mount, mounted_at, tmpfs
from tests.unit.storage.stores import (
    CRASH_ID,
    NEIGHBOUR,
    SOON,
    STRANGER,
    Disk,
    Gate,
    RecordingSync,
    close_held,
    error_of,
    everything,
    failing,
    hanging,
    in_reactor,
    is_kept,
    make_crash,
    make_rig,
    make_store,
    noted_syncs,
    of_crash,
    spilling_done,
    started,
    watched,
)

pytestmark = pytest.mark.timeout(60)
MIB = 2**20
needs_mounts = pytest.mark.skipif(can_mount() != "", reason=can_mount())


def number(n: int) -> str:
    return f"{n:04x}{CRASH_ID[4:]}"


@in_reactor
async def test_nothing_is_kept_where_nobody_checked(root: Path) -> None:
    store = make_store(root)
    error = await error_of(store.save(make_crash()))
    assert isinstance(error, StorageError)
    assert everything(root.parent) == []
    await store.check()
    assert await store.save(make_crash()) == str(root)
    assert is_kept(root)


@pytest.mark.slow
@in_reactor
async def test_many_at_once_from_two_processes(root: Path) -> None:
    stores = [make_store(root), make_store(root, whole_filesystem=True)]
    for store in stores:
        await store.check()
    ids = [number(n) for n in range(300)]
    saves = [started(stores[n % 2].save(make_crash(crash_id))) for n, crash_id in enumerate(ids)]
    assert await gatherResults(saves) == [str(root)] * 300
    assert stored_crashes(root).keys() == set(ids)
    assert problems(root) == []


@in_reactor
async def test_the_error_says_what_and_where(root: Path) -> None:
    store = make_store(root)
    await store.check()
    with failing(root, "mkdir", 1, OSError(28, "No space left on device", f"{root}/x")):
        error = await error_of(store.save(make_crash()))
    assert type(error) is StorageError
    assert str(error) == f"{root}: No space left on device ({root}/x)"
    assert everything(root) == []


@pytest.mark.parametrize("whole", [False, True], ids=["each file", "whole file system"])
@in_reactor
async def test_the_way_to_sync(root: Path, whole: bool) -> None:
    store = make_store(root, whole_filesystem=whole)
    await store.check()
    with noted_syncs() as synced:
        await store.save(make_crash())
    names = [f"{store.directory.path}/{CRASH_ID}{end}" for end in (".dump", ".extra_2.dump", ".json")]
    assert synced[:3] == ([] if whole else names)


@pytest.fixture
def sync(monkeypatch: pytest.MonkeyPatch) -> RecordingSync:
    """The sync of stores that are made afterwards."""
    sync = RecordingSync()
    monkeypatch.setattr("collectord.storage.filesystem.store.sync_each", sync)
    return sync


@in_reactor
async def test_the_committing_thread_survives_whatever_comes(
    root: Path, sync: RecordingSync, logged_failures: list[LogEvent]
) -> None:
    store = make_store(root)
    await store.check()
    gate = Gate()

    def odd() -> None:
        gate.pass_through()
        raise RuntimeError("odd")

    sync.meanwhile = odd
    first = started(store.save(make_crash()))
    gate.wait_until_reached()
    others = [started(store.save(make_crash(crash_id))) for crash_id in (NEIGHBOUR, STRANGER)]
    gate.open()
    for failed in (first, *others):
        assert isinstance(await error_of(failed), StorageError)
    sync.meanwhile = lambda: None
    assert everything(root) == []
    await store.save(make_crash())
    assert is_kept(root)
    assert 1 <= len(logged_failures) <= 3
    logged_failures.clear()


@in_reactor
async def test_what_was_in_place_is_undone_when_the_unexpected_comes(
    root: Path, sync: RecordingSync, logged_failures: list[LogEvent]
) -> None:
    store = make_store(root)
    await store.check()

    def odd_the_second_time() -> None:
        if len(sync.calls) == 2:
            assert of_crash(root)[0].endswith(f"{CRASH_ID}.json") or of_crash(root)
            raise RuntimeError("odd")

    sync.meanwhile = odd_the_second_time
    assert isinstance(await error_of(store.save(make_crash())), StorageError)
    assert everything(root) == []
    assert len(logged_failures) == 1
    logged_failures.clear()


# Giving up.


@pytest.mark.parametrize("operation", ["fsync", "writev", "rename", "mkdir"])
@in_reactor
async def test_too_long(root: Path, operation: str) -> None:
    clock = Clock()
    store = make_store(root, clock, timeout=10)
    await store.check()
    with hanging(root, operation) as gate:
        saving = started(store.save(make_crash()))
        gate.wait_until_reached()
        clock.advance(9.9)
        assert not saving.called
        clock.advance(0.1)
        error = await error_of(saving)
    assert type(error) is TimedOut
    assert await store.save(make_crash(NEIGHBOUR)) == str(root)
    assert not is_kept(root)
    assert is_kept(root, NEIGHBOUR)
    assert problems(root) == []


@pytest.mark.parametrize("operation", ["fsync", "writev", "rename", "mkdir"])
@in_reactor
async def test_cancelled(root: Path, operation: str) -> None:
    store = make_store(root)
    await store.check()
    with hanging(root, operation) as gate:
        saving = started(store.save(make_crash()))
        gate.wait_until_reached()
        saving.cancel()
        assert isinstance(await error_of(saving), CancelledError)
    await store.save(make_crash(NEIGHBOUR))
    assert not is_kept(root)
    assert problems(root) == []


@in_reactor
async def test_given_up_and_the_same_crash_again_when_the_disk_is_back(root: Path) -> None:
    clock = Clock()
    store = make_store(root, clock)
    await store.check()
    with hanging(root, "rename") as gate:
        saving = started(store.save(make_crash()))
        gate.wait_until_reached()
        clock.advance(10)
        await error_of(saving)
        again = started(store.save(make_crash()))
    assert await again == str(root)
    assert is_kept(root)
    assert problems(root) == []


Told = SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...]]]


def store_that_tells_later(root: Path, clock: Clock) -> tuple[FilesystemCrashStorage, Told]:
    reported: Told = SimpleQueue()
    store = FilesystemCrashStorage(
        FilesystemSettings(root=str(root), min_free_bytes=MIB),
        lambda function, *args: reported.put((function, args)),
        clock,
    )
    check = started(store.check())
    tell(reported)
    assert check.called
    return store, reported


def tell(reported: Told) -> None:
    function, args = reported.get(timeout=SOON)
    function(*args)


def disk_of(root: Path, free: int) -> AbstractContextManager[Disk]:
    """The file system that C{root} is on reports so many free bytes."""

    def happen(seen: int, name: str, do: Callable[[], Any]) -> Any:
        found = do()
        return os.statvfs_result([*found[:4], free // found.f_frsize, *found[5:], found.f_fsid])

    return watched(root, ["statvfs"], happen)


@pytest.mark.parametrize("well", [True, False])
def test_cancelled_between_the_decision_and_the_word(root: Path, well: bool) -> None:
    store, reported = store_that_tells_later(root, Clock())
    with disk_of(root, MIB if well else MIB // 2):
        saving = started(store.save(make_crash()))
        function, args = reported.get(timeout=SOON)
    saving.cancel()
    if well:
        assert saving.result == str(root)
    else:
        saving.addErrback(lambda failure: failure.trap(CancelledError))
    function(*args)
    assert is_kept(root) is well
    assert store._waiting == {}


@pytest.mark.parametrize("well", [True, False])
def test_late_between_the_decision_and_the_word(root: Path, well: bool) -> None:
    """What is decided is not given up: the word is on its way."""
    clock = Clock()
    store, reported = store_that_tells_later(root, clock)
    with disk_of(root, MIB if well else MIB // 2):
        saving = started(store.save(make_crash()))
        function, args = reported.get(timeout=SOON)
    clock.advance(100)
    assert not saving.called
    function(*args)
    failed: list[Any] = []
    saving.addErrback(lambda failure: failed.append(failure.value))
    assert [type(error) for error in failed] == ([] if well else [StorageError])
    assert is_kept(root) is well
    assert clock.getDelayedCalls() == []


@in_reactor
async def test_one_timer_for_all(root: Path) -> None:
    clock = Clock()
    store = make_store(root, clock, timeout=10)
    await store.check()
    with hanging(root, "fsync") as gate:
        saves = []
        for n in range(3):  # at 0, 4 and 8
            saves.append([started(store.save(make_crash(number(n * 10 + i)))) for i in range(3)])
            gate.wait_until_reached()
            assert len(clock.getDelayedCalls()) == 1
            clock.advance(4)
        saves[1][1].cancel()
        assert [[save.called for save in at] for at in saves] == [[True] * 3, [False, True, False], [False] * 3]
        clock.advance(2)
        assert [[save.called for save in at] for at in saves] == [[True] * 3, [True] * 3, [False] * 3]
        clock.advance(3.9)
        assert not any(save.called for save in saves[2])
        assert len(clock.getDelayedCalls()) == 1
        clock.advance(0.1)
        assert all(save.called for save in saves[2])
        assert clock.getDelayedCalls() == []
        errors = [type(await error_of(save)) for at in saves for save in at]
    assert errors == [TimedOut] * 4 + [CancelledError] + [TimedOut] * 4
    await store.save(make_crash())
    assert everything(root) == of_crash(root)
    clock.advance(10)
    assert clock.getDelayedCalls() == []


@in_reactor
async def test_whoever_is_told_may_save_again_at_once(root: Path) -> None:
    clock = Clock()
    store = make_store(root, clock, timeout=10)
    await store.check()
    with hanging(root, "fsync") as gate:
        again: list[Deferred[str]] = []
        first = started(store.save(make_crash()))
        first.addErrback(lambda failure: again.append(started(store.save(make_crash(NEIGHBOUR)))))
        gate.wait_until_reached()
        clock.advance(1)
        second = started(store.save(make_crash(STRANGER)))
        clock.advance(9)
        assert len(again) == 1
        assert len(clock.getDelayedCalls()) == 1
        clock.advance(1)
        assert isinstance(await error_of(second), TimedOut)
        assert len(clock.getDelayedCalls()) == 1
    assert await again[0] == str(root)


@in_reactor
async def test_a_spilled_dump_discarded_while_its_store_hangs(root: Path) -> None:
    clock = Clock()
    store = make_store(root, clock, timeout=10)
    await store.check()
    dump = store.new_dump()
    await dump.append([b"spilled"])
    crash = make_crash(dumps={MINIDUMP: b"spilled"}, places={MINIDUMP: dump.content()})
    with hanging(root, "link") as gate:
        saving = started(store.save(crash))
        gate.wait_until_reached()
        clock.advance(10)
        assert isinstance(await error_of(saving), TimedOut)
        dump.discard()
    await store.save(make_crash(NEIGHBOUR))
    await spilling_done(store)
    assert everything(root) == of_crash(root, NEIGHBOUR)


# The check.


@in_reactor
async def test_check_makes_and_sweeps_once(root: Path) -> None:
    left = root / "staging" / "elsewhere"
    rig = make_rig(root)
    os.rename(rig.staging.path, left)
    (left / "1.part").touch()
    yesterday = left.stat().st_mtime - 25 * 3600
    os.utime(left, (yesterday, yesterday))
    close_held(left / "lock")
    store = make_store(root)
    figures = await store.check()
    assert figures.keys() == {"free_bytes"}
    assert 0 < figures["free_bytes"] <= os.statvfs(root).f_blocks * os.statvfs(root).f_frsize
    assert not left.exists()
    (root / "staging" / "late").mkdir()
    os.utime(root / "staging" / "late", (0, 0))
    await store.check()
    assert (root / "staging" / "late").exists()
    assert everything(root) == []


@in_reactor
async def test_check_fails_where_no_root_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = make_store(tmp_path / "file" / "crashes")
    error = await error_of(store.check())
    assert isinstance(error, StorageError)
    assert str(error).startswith(f"{tmp_path}/file/crashes: ")
    (tmp_path / "file").unlink()
    await store.check()


@pytest.mark.parametrize("operation", ["open", "writev", "fsync", "close", "unlink"])
@in_reactor
async def test_check_fails_and_is_well_again(root: Path, operation: str) -> None:
    store = make_store(root)
    await store.check()

    def happen(seen: int, name: str, do: Callable[[], Any]) -> Any:
        if name == "close":
            do()
        raise OSError(5, "injected")

    with watched(root, [operation], happen) as disk:
        for _ in range(2):
            assert isinstance(await error_of(store.check()), StorageError)
    assert disk.seen >= 1
    await store.check()
    assert everything(root) == []


@in_reactor
async def test_check_and_the_space(root: Path) -> None:
    store = make_store(root, min_free_bytes=MIB)
    with disk_of(root, MIB // 2):
        error = await error_of(store.check())
        assert isinstance(error, StorageError)
        assert "512 KiB are free, less than min_free_bytes (1.0 MiB)" in str(error)
        assert "min_free_bytes" in str(await error_of(store.save(make_crash())))
        assert "min_free_bytes" in str(await error_of(store.new_dump().append([b"x"])))
        assert everything(root) == []
    await store.check()
    await store.save(make_crash())
    assert is_kept(root)


@in_reactor
async def test_a_glance_writes_nothing_and_sees_what_is_full_or_gone(root: Path) -> None:
    store = make_store(root, min_free_bytes=MIB)
    await store.check()
    before = everything(root)
    await store.quick_check()
    assert everything(root) == before
    with disk_of(root, MIB // 2):
        assert "less than min_free_bytes (1.0 MiB)" in str(await error_of(store.quick_check()))
    shutil.rmtree(root / "staging")
    error = await error_of(store.quick_check())
    assert isinstance(error, StorageError)
    assert "No such file or directory" in str(error)


@pytest.mark.parametrize("directory", ["", "/{day}", "/{day}/name", "/{day}/date", "/{day}/date/{hour}"])
@in_reactor
async def test_a_day_that_another_user_has_made(root: Path, monkeypatch: pytest.MonkeyPatch, directory: str) -> None:
    """The system would never refuse the superuser, so what it tells others is played."""
    store = make_store(root)
    await store.check()
    day, hour = datetime.now(UTC).strftime("%Y%m%d %H").split()
    (root / day / "name").mkdir(parents=True)
    (root / day / "date" / hour).mkdir(parents=True)
    await store.check()
    await store.quick_check()
    theirs = f"{root}{directory.format(day=day, hour=hour)}"
    monkeypatch.setattr(os, "access", lambda path, mode, **_: os.fspath(path) != theirs or not mode & os.W_OK)
    for check in (store.check, store.quick_check):
        error = await error_of(check())
        assert isinstance(error, StorageError)
        assert str(error) == f"{root}: Permission denied" + (f" ({theirs})" if directory else "")


@pytest.mark.skipif(can_mount() != "", reason=can_mount())
@pytest.mark.parametrize("directory", ["", "name"])
@pytest.mark.parametrize("how", ["file system", "mount", "symlink"])
@in_reactor
async def test_a_day_on_another_disk(root: Path, tmp_path: Path, how: str, directory: str) -> None:
    """The staging directory is in order, but no crash could ever be put in its place."""
    store = make_store(root)
    await store.check()
    there = root / datetime.now(UTC).strftime("%Y%m%d") / directory
    there.parent.mkdir(exist_ok=True)
    other = tmp_path / "other"
    with ExitStack() as mounted:
        match how:
            case "file system":
                mounted.enter_context(tmpfs(there, MIB))
            case "mount":
                other.mkdir()
                mounted.enter_context(bind(other, there))
            case "symlink":
                there.symlink_to(mounted.enter_context(tmpfs(other, MIB)))
        for check in (store.check, store.quick_check):
            error = await error_of(check())
            assert isinstance(error, StorageError)
            assert str(error).startswith(f"{root}: no crash can be renamed to it")
            assert str(error).endswith(f"({there})")
        assert list(there.iterdir()) == []
    if how == "symlink":
        there.unlink()
    await store.check()
    await store.quick_check()


@pytest.mark.skipif(can_mount() != "" or shutil.which("mkfs.btrfs") is None, reason=can_mount() or "no btrfs")
def test_a_day_that_is_a_subvolume(tmp_path: Path) -> None:
    """It is on the same mount, but on another device."""
    image, disk = tmp_path / "image", tmp_path / "disk"
    image.touch()
    os.truncate(image, 128 * MIB)
    subprocess.run(["mkfs.btrfs", "-q", image], check=True)
    with mounted_at(disk, "-o", "loop", str(image)):
        (disk / "staging").mkdir()
        refuse_unusable_today(str(disk))
        day = disk / datetime.now(UTC).strftime("%Y%m%d")
        subprocess.run(["btrfs", "--quiet", "subvolume", "create", day], check=True)
        with pytest.raises(OSError, match="no crash can be renamed to it") as refused:
            refuse_unusable_today(str(disk))
        assert refused.value.errno == errno.EXDEV


@in_reactor
async def test_a_store_that_can_start_no_thread_works_once_it_can(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store(root)

    async def fails(work: Coroutine[Any, Any, Any]) -> bool:
        error = await error_of(work)
        return isinstance(error, StorageError) and str(error).endswith(": can't start new thread")

    with no_thread_starts(monkeypatch):
        for _ in range(2):
            assert await fails(store.check())
            assert await fails(store.quick_check())
            assert await fails(store.save(make_crash()))
            assert await fails(store.new_dump().append([b"x"]))
    await store.prepare()
    with no_thread_starts(monkeypatch):  # the one that checks runs, but the committing one does not
        assert await fails(store.check())
    await store.check()
    with no_thread_starts(monkeypatch):
        await store.save(make_crash())
    assert is_kept(root)


@contextmanager
def no_thread_starts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As the system has it where a process may have no more threads."""

    def refuse(_: Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as crowded:
        crowded.setattr(Thread, "start", refuse)
        yield


@in_reactor
async def test_a_glance_sees_what_is_read_only(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store(root)
    await store.check()
    found = os.statvfs(root)
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result([*found[:8], found.f_flag | os.ST_RDONLY, 255]))
    assert str(await error_of(store.quick_check())) == f"{root}: Read-only file system"


@in_reactor
async def test_crashes_can_be_moved_out_of_a_full_store(root: Path) -> None:
    store = make_store(root, min_free_bytes=2**62)
    assert isinstance(await error_of(store.check()), StorageError)
    await store.prepare()
    other = make_store(root, others={store.staging_id: "the other"}, min_free_bytes=2**62)
    assert "this is the store the other, by another path" in str(await error_of(other.prepare()))


@in_reactor
async def test_a_store_that_turns_out_to_be_another_one_takes_nothing_from_it(root: Path) -> None:
    """It was checked before the other one had its staging area."""
    store = make_store(root)
    other = make_store(root, others={store.staging_id: "the other"})
    await other.check()
    await store.check()
    await store.save(make_crash())
    assert "this is the store the other, by another path" in str(await error_of(other.save(make_crash(fresh=False))))
    assert is_kept(root)


@in_reactor
async def test_what_an_unclean_stop_left_goes_where_there_is_no_space_to_begin(root: Path) -> None:
    left = root / "staging" / f"{socket.gethostname()}-99999-00c0ffee"
    left.mkdir(parents=True)
    (left / "1.part").write_bytes(b"x" * 1000)
    store = make_store(root)
    with failing(root / "staging", "mkdir", 1, OSError(errno.ENOSPC, "full")):
        await store.prepare()
    assert not left.exists()
    with failing(root / "staging", "mkdir", 1, OSError(errno.EIO, "broken")):
        assert isinstance(await error_of(make_store(root).prepare()), StorageError)


@in_reactor
async def test_one_check_serves_all_who_ask(root: Path) -> None:
    store = make_store(root)
    await store.check()
    seen = 0

    def count(number: int, name: str, do: Callable[[], Any]) -> Any:
        nonlocal seen
        seen += 1
        gate.pass_through()
        return do()

    gate = Gate()
    with watched(root, ["fsync"], count):
        checks = [started(store.check()) for _ in range(5)]
        gate.wait_until_reached()
        checks[0].cancel()
        checks[3].cancel()
        assert isinstance(await error_of(checks[0]), CancelledError)
        assert isinstance(await error_of(checks[3]), CancelledError)
        more = started(store.check())
        gate.open()
        for check in (checks[1], checks[2], checks[4], more):
            assert (await check)["free_bytes"] > 0
    assert seen == 2  # of the file, and of its directory
    await store.check()


@in_reactor
async def test_a_hung_store_holds_one_checking_thread(root: Path) -> None:
    store = make_store(root)
    await store.check()
    with watched(root, ["fsync"], lambda seen, name, do: do()) as disk:
        with hanging(root, "fsync") as gate:
            for _ in range(5):
                check = started(store.check())
                gate.wait_until_reached()
                check.cancel()
                await error_of(check)
        await store.check()
    # Of the file and of its directory, by the one that hung, and by the last unless it shared that one.
    assert disk.seen in (2, 4)


@in_reactor
async def test_a_store_whose_committing_thread_hangs_is_not_well(root: Path) -> None:
    """Or each probe would send the next crashes into it, to wait in vain and to fill the memory."""
    clock = Clock()
    store = make_store(root, clock)
    await store.check()
    with hanging(root, "mkdir") as gate:
        saving = started(store.save(make_crash()))
        gate.wait_until_reached()
        await store.check()
        clock.advance(10)
        await error_of(saving)
        for _ in range(2):
            error = await error_of(store.check())
            assert isinstance(error, StorageError)
            assert "hangs" in str(error)
    await store.save(make_crash())
    await store.check()


# Real small disks.


async def ids_saved(store: FilesystemCrashStorage, crashes: list[Crash]) -> list[str]:
    """Those of C{crashes} for which there was space."""
    saved = []
    for crash in crashes:
        try:
            await store.save(crash)
        except StorageError as e:
            if "No space left" not in str(e):
                raise
        else:
            saved.append(crash.crash_id)
    return saved


@needs_mounts
@in_reactor
async def test_a_full_disk(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", MIB) as root:
        store = make_store(root)
        await store.check()
        saved = await ids_saved(
            store, [make_crash(number(n), {MINIDUMP: b"x" * 60_000, "second": b"y" * 60_000}) for n in range(20)]
        )
        assert 5 < len(saved) < 10
        assert stored_crashes(root).keys() == set(saved)
        assert problems(root) == []
        dump = store.new_dump()
        assert isinstance(await error_of(dump.append([b"x" * 500_000])), StorageError)
        dump.discard()
        await spilling_done(store)
        assert problems(root) == []
        for path in of_crash(root, saved[0]):
            (root / path).unlink()
        await store.save(make_crash())
        assert is_kept(root)


@needs_mounts
@pytest.mark.parametrize("inodes", range(17, 29))
@in_reactor
async def test_out_of_inodes(tmp_path: Path, inodes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "_LEAST_INODES", 0)  # it really runs out, as where others use them up
    with tmpfs(tmp_path / "disk", MIB, inodes=inodes) as root:
        store = make_store(root)
        await store.check()
        saved = await ids_saved(store, [make_crash(number(n)) for n in range(5)])
        assert len(saved) < 5
        assert stored_crashes(root).keys() == set(saved)
        assert problems(root) == []
