"""
The staging directory: its lock, its modes, what it makes and what it sweeps.
"""

import fcntl
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from collectord.storage.filesystem.staging import Modes, StagingDirectory, Swept
from tests.support.disk import problems, stored_crashes
from tests.support.mounts import can_mount, tmpfs
from tests.unit.storage.stores import (
    CRASH_ID,
    DUMPS,
    NAMES,
    NEIGHBOUR,
    SLOT,
    SOON,
    Rig,
    everything,
    failing,
    is_kept,
    make_crash,
    make_rig,
    noted_syncs,
    of_crash,
    open_files,
    watched,
)

HOST = socket.gethostname()


@pytest.fixture(params=[0o000, 0o022, 0o027, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    old = os.umask(request.param)
    yield request.param
    os.umask(old)


def modes_of(root: Path) -> tuple[set[int], set[int]]:
    """Of the directories and of the files, but for the locks."""
    directories, files = {stat.S_IMODE(root.stat().st_mode)}, set[int]()
    for path in root.rglob("*"):
        if path.is_symlink() or path.name == "lock":
            continue
        (directories if path.is_dir() else files).add(stat.S_IMODE(path.stat().st_mode))
    return directories, files


def save_all_ways(root: Path, modes: Modes) -> None:
    rig = make_rig(root, modes)
    places = {"spilled": rig.spill(b"spilled")}
    rig.save(rig.transaction(make_crash(dumps={**DUMPS, "spilled": b"spilled"}, places=places)))
    assert stored_crashes(root)[CRASH_ID].dumps == {**DUMPS, "spilled": b"spilled"}


@pytest.mark.usefixtures("umask")
def test_private_by_default(root: Path) -> None:
    save_all_ways(root, Modes())
    assert modes_of(root) == ({0o700}, {0o600})


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize(("directory", "file"), [(0o750, 0o640), (0o755, 0o644), (0o770, 0o660), (0o700, 0o640)])
def test_modes_as_configured(root: Path, directory: int, file: int) -> None:
    save_all_ways(root, Modes(directory=directory, file=file))
    assert modes_of(root) == ({directory}, {file})


def test_a_root_that_is_there_keeps_its_mode(root: Path) -> None:
    root.mkdir(0o711)
    root.chmod(0o711)
    make_rig(root)
    assert stat.S_IMODE(root.stat().st_mode) == 0o711


def synced_directories(make: Callable[[], object], root: Path) -> set[str]:
    with noted_syncs() as synced:
        make()
    return set(synced)


def test_what_is_made_is_durable(tmp_path: Path) -> None:
    root = tmp_path / "var" / "lib" / "crashes"
    staging = StagingDirectory(str(root), Modes())
    synced = synced_directories(staging.make, root)
    assert {str(path) for path in (root / "staging", root, *list(root.parents)[:3])} <= synced
    assert str(tmp_path.parent) not in synced  # which was there, and may be one that we can't read


def test_what_is_made_is_made_durable_later_where_that_failed(root: Path) -> None:
    staging = StagingDirectory(str(root), Modes())
    with failing(root.parent, "fsync", 3, OSError(5, "injected")), pytest.raises(OSError, match="injected"):
        staging.make()
    assert {str(root), str(root.parent)} <= synced_directories(staging.make, root)
    assert synced_directories(staging.make, root) == set()


@pytest.mark.parametrize("operation", ["open", "mkdir", "fsync", "close"])
def test_making_can_fail_at_any_step_and_be_tried_again(tmp_path: Path, operation: str) -> None:
    for number in range(1, 20):
        root = tmp_path / str(number)
        staging = StagingDirectory(str(root), Modes())
        with failing(root, operation, number, OSError(5, "injected")) as disk, suppress(OSError):
            staging.make()
        staging.make()
        assert [path for path in open_files(root) if not path.endswith("/lock")] == []
        assert len(open_files(root)) == 1
        if disk.seen < number:
            break
    assert 1 < number < 19


def test_locks_that_fail_cost_no_descriptors(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flock = fcntl.flock

    def no_locks(fd: int, how: int) -> None:
        if how & fcntl.LOCK_NB:
            raise OSError(5, "injected")
        flock(fd, how)

    monkeypatch.setattr(fcntl, "flock", no_locks)
    staging = StagingDirectory(str(root), Modes())
    for _ in range(3):
        with pytest.raises(OSError, match="injected"):
            staging.make()
    assert open_files(root) == []


def nothing(fd: int, how: int) -> None:
    """A lock that keeps nobody off."""


def unknown(fd: int, how: int) -> None:
    raise OSError(38, "Function not implemented")


def not_available(fd: int, how: int) -> None:
    raise OSError(37, "No locks available")


@pytest.mark.parametrize("flock", [nothing, unknown, not_available])
def test_without_locks_only_what_is_a_day_old_is_swept(
    root: Path, monkeypatch: pytest.MonkeyPatch, flock: Callable[[int, int], None]
) -> None:
    monkeypatch.setattr(fcntl, "flock", flock)
    left, living = dead(root), StagingDirectory(str(root), Modes())
    (left / f"{CRASH_ID}.json").write_text(JOURNAL)
    living.make()
    staging = StagingDirectory(str(root), Modes())
    staging.make()
    assert staging.locks is False
    assert staging.sweep() == Swept(0, [])
    staging.refresh_peers()
    yesterday = left.stat().st_mtime - 25 * 3600
    os.utime(left, (yesterday, yesterday))
    with pytest.raises(OSError, match="is just keeping it"):  # nobody can know whether it is dead
        staging.refuse_contended(CRASH_ID)
    (root / "raw crash").touch()
    staging.take_out(CRASH_ID, f"{root}/raw crash")  # whoever sweeps it removes it, too
    os.unlink(staging.intent_record(CRASH_ID))
    assert staging.sweep() == Swept(1, [])
    staging.remove()
    living.remove()
    assert os.listdir(root / "staging") == ["lock"]


def test_locks_that_hold(rig: Rig) -> None:
    assert rig.staging.locks is True


def test_making_again_makes_nothing(rig: Rig) -> None:
    with watched(rig.root, ["open", "mkdir", "fsync"], lambda seen, name, do: do()) as disk:
        rig.staging.make()
    assert disk.seen == 0


def test_a_file_system_that_went_away_is_not_made_anew(rig: Rig, tmp_path: Path) -> None:
    away = tmp_path / "away"
    rig.root.rename(away)
    with pytest.raises(FileNotFoundError):
        rig.staging.make()
    assert not rig.root.exists()
    rig.root.mkdir()  # the empty mount point
    with pytest.raises(FileNotFoundError):
        rig.staging.make()
    assert list(rig.root.iterdir()) == []
    transaction = rig.transaction(make_crash())
    rig.save(transaction)
    assert isinstance(rig.errors(transaction)[0], FileNotFoundError)
    assert list(rig.root.iterdir()) == []
    rig.root.rmdir()
    away.rename(rig.root)
    rig.staging.make()
    rig.save(rig.transaction(make_crash()))
    assert is_kept(rig.root)


def test_a_staging_directory_that_was_removed_is_made_anew(rig: Rig) -> None:
    for path in Path(rig.staging.path).iterdir():
        path.unlink()
    os.rmdir(rig.staging.path)
    rig.staging.make()
    rig.save(rig.transaction(make_crash()))
    assert is_kept(rig.root)
    assert sweep(rig.root) == 0
    assert os.path.exists(rig.staging.path)
    assert open_files(rig.root) == [f"{rig.staging.path}/lock"]


def test_a_lock_that_is_another_file_by_now_is_taken_again(rig: Rig) -> None:
    """As after a network file system was mounted anew: the descriptor is of the old one."""
    lock = Path(rig.staging.path) / "lock"
    lock.unlink()
    lock.touch()
    rig.staging.make()
    assert sweep(rig.root) == 0
    assert lock.exists()
    assert open_files(rig.root) == [str(lock)]


@pytest.mark.skipif(can_mount() != "", reason=can_mount())
def test_a_mount_that_goes_and_comes(tmp_path: Path) -> None:
    mountpoint = tmp_path / "mount"
    mountpoint.mkdir()
    staging = StagingDirectory(str(mountpoint / "crashes"), Modes())
    with tmpfs(mountpoint, 2**20):
        staging.make()
        staging.make()
    with pytest.raises(FileNotFoundError):
        staging.make()
    assert list(mountpoint.iterdir()) == []
    with tmpfs(mountpoint, 2**20):
        with pytest.raises(FileNotFoundError):
            staging.make()
        assert list(mountpoint.iterdir()) == []


# Files.


@pytest.mark.parametrize("operation", ["open", "writev", "close"])
def test_a_file_that_can_t_be_written(rig: Rig, operation: str) -> None:
    files = open_files(rig.root)
    with failing(rig.root, operation, 1, OSError(28, "injected")):
        if operation != "close":
            with pytest.raises(OSError, match="injected"):
                rig.staging.write("new", [b"content"])
    assert everything(rig.root) == []
    assert open_files(rig.root) == files


def test_nothing_is_left_where_even_closing_fails(rig: Rig) -> None:
    def happen(seen: int, name: str, do: Callable[[], Any]) -> Any:
        if name == "close":
            do()
        raise OSError(5, "injected")

    with watched(rig.root, ["writev", "close"], happen), pytest.raises(OSError, match="injected"):
        rig.staging.write("new", [b"content"])
    assert everything(rig.root) == []


def test_a_file_that_is_there_is_not_touched(rig: Rig) -> None:
    path, fd = rig.staging.write("new", [b"content"])
    os.close(fd)
    with pytest.raises(FileExistsError):
        rig.staging.write("new", [b"other"])
    with pytest.raises(FileExistsError):
        rig.staging.append("new", [b"other"], first=True, sync=False)
    assert Path(path).read_bytes() == b"content"
    rig.staging.append("new", [b" and", b" more"], first=False, sync=False)
    assert Path(path).read_bytes() == b"content and more"
    with pytest.raises(FileNotFoundError):
        rig.staging.append("other", [b"more"], first=False, sync=False)


# The sweep.


def sweep(root: Path) -> int:
    """As a process does when it starts."""
    staging = StagingDirectory(str(root), Modes())
    staging.make()
    try:
        swept = staging.sweep()
        for error in swept.failed:
            raise error
        return swept.files
    finally:
        staging.remove()


def dead(root: Path, name: str = f"{HOST}-99999-00c0ffee") -> Path:
    """The staging directory of a process that died."""
    path = root / "staging" / name
    path.mkdir(parents=True)
    (path / "lock").touch()
    return path


@pytest.fixture
def store(root: Path) -> Path:
    """With a sound neighbour."""
    rig = make_rig(root)
    rig.save(rig.transaction(make_crash(NEIGHBOUR)))
    rig.staging.remove()
    return root


def put(root: Path, *what: str) -> None:
    """Some of the pieces of the crash: link, dump, extra, json."""
    for piece in what:
        if piece == "link":
            (root / SLOT / CRASH_ID).symlink_to("../../../name/8f/63")
        elif piece == "json":
            path = root / NAMES / f"{CRASH_ID}.json"
            path.write_text(json.dumps(make_crash().raw_crash))
            path.chmod(0o600)
        else:
            path = root / NAMES / f"{CRASH_ID}{'.dump' if piece == 'dump' else '.extra_2.dump'}"
            path.write_bytes(list(DUMPS.values())[piece == "extra"])
            path.chmod(0o600)


JOURNAL = json.dumps(make_crash().raw_crash)


@pytest.mark.parametrize("placed", [(), ("link",), ("link", "dump"), ("link", "dump", "extra"), ("dump",), ("extra",)])
def test_sweep_what_was_half_in_place(store: Path, placed: tuple[str, ...]) -> None:
    left = dead(store)
    (left / f"{CRASH_ID}.json").write_text(JOURNAL)
    (left / f"{CRASH_ID}.dump").write_bytes(b"MDMP")
    (left / "1.part").write_bytes(b"spilled")
    put(store, *placed)
    assert sweep(store) == 3
    assert of_crash(store) == []
    assert is_kept(store, NEIGHBOUR)
    assert problems(store) == []
    assert not left.exists()
    assert sweep(store) == 0


@pytest.mark.parametrize(
    "journal",
    [
        *(b"", b"{", JOURNAL[:50].encode(), bytes(300), b"\xff\xfe", b"[]", b"{}", b"null"),
        *(b'{"submitted_timestamp": %s}' % value for value in (b"null", b"5", b'""', b'"yesterday"', b"[]", b"{}")),
    ],
)
def test_sweep_a_journal_that_was_cut_off(store: Path, journal: bytes) -> None:
    left = dead(store)
    (left / f"{CRASH_ID}.json").write_bytes(journal)
    assert sweep(store) == 1
    assert everything(store) == of_crash(store, NEIGHBOUR)
    assert problems(store) == []


def test_sweep_leaves_what_is_whole(store: Path) -> None:
    """Of an id that was there already, when a second crash of that id was written and its process died."""
    put(store, "link", "dump", "extra", "json")
    (dead(store) / f"{CRASH_ID}.json").write_text(json.dumps({**make_crash().raw_crash, "Which": "second"}))
    assert sweep(store) == 1
    assert is_kept(store)
    assert "Which" not in stored_crashes(store)[CRASH_ID].raw_crash
    assert problems(store) == []


@pytest.mark.parametrize("name", ["lock.json", "1.json", "check", f"{CRASH_ID}", f"{CRASH_ID[:-1]}x.json", "..json"])
def test_sweep_other_names(store: Path, name: str) -> None:
    (dead(store) / name).write_text(JOURNAL)
    assert sweep(store) == 1
    assert is_kept(store, NEIGHBOUR)


def test_sweep_takes_dumps_of_this_id_only(store: Path) -> None:
    (dead(store) / f"{CRASH_ID}.json").write_text(JOURNAL)
    others = ["notes.txt", f"{CRASH_ID}x.dump", f"{CRASH_ID}.txt"]
    for other in others:
        (store / NAMES / other).write_text("")
    put(store, "dump")
    sweep(store)
    assert sorted(path.name for path in (store / NAMES).iterdir() if NEIGHBOUR not in path.name) == sorted(others)


def test_sweep_without_a_lock_or_a_place(root: Path) -> None:
    left = dead(root)
    (left / "lock").unlink()
    (left / f"{CRASH_ID}.json").write_text(JOURNAL)
    (root / "staging" / "a file").touch()
    assert sweep(root) == 1
    assert not left.exists()
    assert (root / "staging" / "a file").exists()


def test_sweep_leaves_the_living(rig: Rig) -> None:
    transaction = rig.transaction(make_crash())
    rig.sync.meanwhile = lambda: swept.append(sweep(rig.root))
    swept: list[int] = []
    rig.save(transaction)
    assert swept == [0, 0]
    assert rig.errors(transaction) == [None]
    assert is_kept(rig.root)


def is_free(path: str) -> bool:
    """Whether nobody holds the lock."""
    fd = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def test_nobody_sweeps_while_another_process_takes_its_lock(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In between its directory would look dead."""
    free: list[bool] = []
    take_lock = StagingDirectory._take_lock

    def looking(staging: StagingDirectory) -> None:
        free.append(is_free(f"{root}/staging/lock"))
        take_lock(staging)

    monkeypatch.setattr(StagingDirectory, "_take_lock", looking)
    StagingDirectory(str(root), Modes()).make()
    assert free == [False]
    assert is_free(f"{root}/staging/lock")


def test_nobody_begins_while_another_process_sweeps(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free: list[bool] = []
    is_dead = StagingDirectory._owner_is_gone

    def looking(staging: StagingDirectory, directory: str) -> bool:
        free.append(is_free(f"{store}/staging/lock"))
        return is_dead(staging, directory)

    monkeypatch.setattr(StagingDirectory, "_owner_is_gone", looking)
    dead(store)
    sweep(store)
    assert free == [False]
    assert is_free(f"{store}/staging/lock")


LIVING = """
import sys
from collectord.storage.filesystem.staging import *
staging = StagingDirectory(sys.argv[1], Modes())
staging.make()
staging.write("1.part", [b"spilled"])
print("ready", flush=True)
sys.stdin.read()
"""


def test_sweep_another_process_only_when_it_is_dead(rig: Rig) -> None:
    command = [sys.executable, "-c", LIVING, str(rig.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert rig.staging.sweep().files == 0
        assert len(everything(rig.root)) == 1
        process.kill()
    assert rig.staging.sweep().files == 1
    assert everything(rig.root) == []


@pytest.mark.parametrize("host", ["elsewhere", f"{HOST}-1"])
def test_sweep_another_host_only_after_a_day(root: Path, host: str) -> None:
    """Its locks may not show here."""
    left = dead(root, f"{host}-99999-00c0ffee")
    (left / "1.part").touch()
    assert sweep(root) == 0
    yesterday = left.stat().st_mtime - 25 * 3600
    os.utime(left, (yesterday, yesterday))
    assert sweep(root) == 1
    assert not left.exists()


def test_sweep_can_fail_and_be_tried_again(store: Path) -> None:
    (dead(store) / f"{CRASH_ID}.json").write_text(JOURNAL)
    put(store, "link", "dump")
    with failing(store, "unlink", 1, OSError(5, "injected")), pytest.raises(OSError, match="injected"):
        sweep(store)
    assert sweep(store) == 1
    assert of_crash(store) == []


def test_sweep_goes_on_where_something_can_t_be_removed(store: Path) -> None:
    for number in (1, 2, 3):
        (dead(store, f"{HOST}-9999{number}-00c0ffee") / "1.part").touch()
    staging = StagingDirectory(str(store), Modes())
    staging.make()
    with failing(store, "unlink", 2, OSError(5, "injected")):
        swept = staging.sweep()
    assert (swept.files, [error.errno for error in swept.failed]) == (2, [5])
    assert staging.sweep() == Swept(1, [])
    staging.remove()
    assert os.listdir(store / "staging") == ["lock"]


@contextmanager
def open_files_stay(root: Path) -> Iterator[list[str]]:
    """As on NFS: a file that is removed while it is open stays in its directory, under a hidden name, until then."""
    unlink, hidden = os.unlink, list[str]()

    def hide(path: Any, *args: Any, dir_fd: int | None = None, **kwargs: Any) -> None:
        whole = path if dir_fd is None else f"{os.readlink(f'/proc/self/fd/{dir_fd}')}/{path}"
        for left in list(hidden):
            if left not in open_files(root):
                hidden.remove(left)
                unlink(left)
        if whole in hidden:
            raise OSError(16, "Device or resource busy", whole)
        if whole in open_files(root):
            hidden.append(f"{os.path.dirname(whole)}/.nfs{len(hidden)}")
            os.rename(whole, hidden[-1])
        elif os.path.lexists(whole):
            unlink(path, *args, dir_fd=dir_fd, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "unlink", hide)
        yield hidden


def test_what_is_removed_is_closed_first(store: Path) -> None:
    (dead(store) / f"{CRASH_ID}.json").write_text(JOURNAL)
    with open_files_stay(store):
        assert sweep(store) == 1
        assert os.listdir(store / "staging") == ["lock"]
        assert sweep(store) == 0


def test_what_somebody_still_has_open_goes_with_a_later_sweep(store: Path) -> None:
    left = dead(store)
    (left / "1.part").touch()
    staging = StagingDirectory(str(store), Modes())
    staging.make()
    with open_files_stay(store) as hidden:
        with (left / "1.part").open():
            assert [error.errno in (16, 39) for error in staging.sweep().failed] == [True]
            assert os.listdir(left) == [os.path.basename(hidden[0])]
        assert staging.sweep().failed == []
        staging.remove()
    assert os.listdir(store / "staging") == ["lock"]


def test_a_removal_that_fails_leaves_the_rest_to_a_sweep(store: Path) -> None:
    staging = StagingDirectory(str(store), Modes())
    staging.make()
    with failing(store, "rmdir", 1, OSError(5, "injected")), pytest.raises(OSError, match="injected"):
        staging.remove()
    assert open_files(store) == []
    staging.remove()
    assert sweep(store) == 0
    assert os.listdir(store / "staging") == ["lock"]


def test_nobody_sweeps_a_directory_that_is_being_removed(store: Path) -> None:
    staging = StagingDirectory(str(store), Modes())
    staging.make()
    other = StagingDirectory(str(store), Modes())
    other.make()
    sweeps: list[Thread] = []

    def happen(seen: int, name: str, do: Callable[[], Any]) -> Any:
        if not sweeps:
            sweeps.append(Thread(target=other.sweep))
            sweeps[0].start()
            sweeps[0].join(0.1)
            assert sweeps[0].is_alive()  # it waits for the removal
        return do()

    with watched(store, ["rmdir"], happen):
        staging.remove()
        sweeps[0].join(SOON)
    other.remove()
    assert os.listdir(store / "staging") == ["lock"]


# Killed at any point.


STEPS = ("open", "writev", "rename", "symlink", "link", "mkdir", "unlink")


class Killed(BaseException):
    """From now on this process does nothing any more."""


@pytest.mark.parametrize("spilled", [False, True], ids=["memory", "spilled"])
@pytest.mark.parametrize("end", ["kept", "undone", "abandoned"])
def test_killed_at_any_point(tmp_path: Path, spilled: bool, end: str) -> None:
    """
    After each single change to the disk, of a save that is kept, one whose last sync fails, and one that is given up;
    then the next process sweeps.
    """
    whole = set()
    for number in range(1, 100):
        root = tmp_path / str(number)
        rig = make_rig(root)
        rig.save(rig.transaction(make_crash(NEIGHBOUR)))
        places = {"extra_2": rig.spill(DUMPS["extra_2"])} if spilled else {}
        transaction = rig.transaction(make_crash(places=places))
        if end == "undone":
            rig.sync.fails = lambda path: path.endswith(SLOT)
        elif end == "abandoned":
            rig.sync.meanwhile = lambda latch=transaction.latch, rig=rig: len(rig.sync.calls) == 4 and latch.abandon()  # type: ignore[misc]
        killed = False

        def happen(seen: int, name: str, do: Callable[[], Any], number: int = number) -> Any:
            nonlocal killed
            if killed:
                raise Killed
            done = do()
            if seen == number:
                killed = True
                raise Killed
            return done

        with watched(root, STEPS, happen) as disk, suppress(Killed):
            rig.save(transaction)
        assert killed is (disk.seen >= number)
        acknowledged = rig.resolved[1:] == [(transaction.latch, None)]
        assert rig.staging._lock is not None
        os.close(rig.staging._lock)
        sweep(root)
        assert problems(root) == []
        assert is_kept(root, NEIGHBOUR)
        whole.add(is_kept(root))
        assert is_kept(root) or not acknowledged
        if not killed:
            break
    assert acknowledged is (end == "kept")
    assert is_kept(root) is (end == "kept")
    assert whole == {True, False}
    assert number > 10
