"""
The staging directory: its lock, its modes, and what it makes.
"""

import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from collectord.storage.filesystem.claims import take_out
from collectord.storage.filesystem.staging import Modes, StagingDirectory
from collectord.storage.filesystem.sweep import Swept, sweep
from tests.support.disk import stored_crashes
from tests.support.mounts import can_mount, tmpfs
from tests.unit.storage.stores import (
    CRASH_ID,
    DUMPS,
    RECORD,
    Rig,
    dead,
    everything,
    failing,
    is_kept,
    make_crash,
    make_rig,
    noted_syncs,
    open_files,
    sweep_store,
    watched,
)


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


@pytest.mark.usefixtures("umask")
def test_a_copy_has_the_mode_as_configured(root: Path, tmp_path: Path) -> None:
    (tmp_path / "original").write_bytes(b"MDMP")
    staging = make_rig(root, Modes(file=0o640)).staging
    path, fd = staging.copy("copy", str(tmp_path / "original"), sha256(b"MDMP").hexdigest())
    os.close(fd)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o640


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
    reported = r"syncs of directories do not work here \(fsync: EIO\)"
    with failing(root.parent, "fsync", 3, OSError(5, "injected")), pytest.raises(OSError, match=reported):
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
    (left / f"{CRASH_ID}.json").write_text(RECORD)
    living.make()
    staging = StagingDirectory(str(root), Modes())
    staging.make()
    assert staging.peers.locks is False
    assert sweep(staging) == Swept(0, [])
    staging.peers.refresh()
    yesterday = left.stat().st_mtime - 25 * 3600
    os.utime(left, (yesterday, yesterday))
    with pytest.raises(OSError, match="has this crash in hand"):  # nobody can know whether it is dead
        staging.peers.refuse_contended(CRASH_ID)
    (root / "raw crash").touch()
    take_out(staging, CRASH_ID, f"{root}/raw crash")  # whoever sweeps it removes it, too
    os.unlink(staging.intent_record(CRASH_ID))
    assert sweep(staging) == Swept(1, [])
    staging.remove()
    living.remove()
    assert os.listdir(root / "staging") == ["lock"]


def test_locks_that_hold(rig: Rig) -> None:
    assert rig.staging.peers.locks is True


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
    assert sweep_store(rig.root) == 0
    assert os.path.exists(rig.staging.path)
    assert open_files(rig.root) == [f"{rig.staging.path}/lock"]


def test_a_lock_that_is_another_file_by_now_is_taken_again(rig: Rig) -> None:
    """As after a network file system was mounted anew: the descriptor is of the old one."""
    lock = Path(rig.staging.path) / "lock"
    lock.unlink()
    lock.touch()
    rig.staging.make()
    assert sweep_store(rig.root) == 0
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
