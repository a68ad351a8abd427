"""
The two ways to make things durable.
"""

import ctypes
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from collectord.storage import sync
from collectord.storage.staging import Modes, StagingDirectory
from collectord.storage.sync import File, Sync, SyncFilesystem, sync_each
from tests.support.mounts import can_mount, loop_ext4
from tests.unit.storage.stores import failing, is_kept, make_crash, make_rig, open_files, watched

BOTH: list[Callable[[Path], Sync]] = [lambda root: sync_each, lambda root: SyncFilesystem(str(root))]
both = pytest.mark.parametrize("make_sync", BOTH, ids=["files", "filesystem"])


def new_files(root: Path, count: int = 3) -> list[File]:
    paths = [str(root / f"file {n}") for n in range(count)]
    return [(path, os.open(path, os.O_WRONLY | os.O_CREAT)) for path in paths]


@both
def test_all_is_well(tmp_path: Path, make_sync: Callable[[Path], Sync]) -> None:
    assert make_sync(tmp_path)(new_files(tmp_path), {str(tmp_path)}) == {}
    assert make_sync(tmp_path)([], []) == {}
    assert make_sync(tmp_path)([], iter([str(tmp_path)])) == {}
    assert open_files(tmp_path) == []


@pytest.mark.parametrize("count", [1, 3])
def test_each_is_synced_before_it_is_closed(tmp_path: Path, count: int) -> None:
    (tmp_path / "directory").mkdir()
    done: list[tuple[str, str]] = []
    fsync, close = os.fsync, os.close

    def noted_fsync(fd: int) -> None:
        fsync(fd)
        done.append(("fsync", name_of(fd)))

    def noted_close(fd: int) -> None:
        done.append(("close", name_of(fd)))
        close(fd)

    files = new_files(tmp_path, count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", noted_fsync)
        patch.setattr(os, "close", noted_close)
        assert sync_each(files, [str(tmp_path), str(tmp_path / "directory")]) == {}
    for path in (*(path for path, _ in files), str(tmp_path), str(tmp_path / "directory")):
        assert done.index(("fsync", path)) < done.index(("close", path))


def name_of(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")


@pytest.mark.parametrize("operation", ["fsync", "close"])
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_one_fails(tmp_path: Path, operation: str, number: int) -> None:
    """It is told, and the others are synced and closed."""
    files = new_files(tmp_path)
    synced = 0
    fsync = os.fsync

    def count(fd: int) -> None:
        nonlocal synced
        synced += 1
        fsync(fd)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", count)
        with failing(tmp_path, operation, number, OSError(errno.EIO, "injected")):
            failed = sync_each(files, [str(tmp_path)])
    paths = [*(path for path, _ in files), str(tmp_path)]
    assert failed.keys() == {paths[number - 1]}
    assert failed[paths[number - 1]].errno == errno.EIO
    assert synced == 4 - (operation == "fsync")
    assert open_files(tmp_path) == []


def test_a_directory_that_is_gone(tmp_path: Path) -> None:
    failed = sync_each(new_files(tmp_path), [str(tmp_path), str(tmp_path / "gone")])
    assert failed.keys() == {str(tmp_path / "gone")}
    assert open_files(tmp_path) == []


class NoSync:
    """A C library whose syncfs fails."""

    def syncfs(self, fd: int) -> int:
        ctypes.set_errno(errno.EIO)
        return -1


def test_the_file_system_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "_libc", NoSync())
    files = new_files(tmp_path)
    failed = SyncFilesystem(str(tmp_path))(files, iter([str(tmp_path)]))
    assert failed.keys() == {*(path for path, _ in files), str(tmp_path)}
    assert {error.errno for error in failed.values()} == {errno.EIO}
    assert open_files(tmp_path) == []


def test_the_file_system_is_gone(tmp_path: Path) -> None:
    files = new_files(tmp_path)
    failed = SyncFilesystem(str(tmp_path / "gone"))(files, [str(tmp_path)])
    assert failed.keys() == {*(path for path, _ in files), str(tmp_path)}
    assert open_files(tmp_path) == []


def test_the_files_are_open_until_the_file_system_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that an error of theirs is still to be seen."""
    opened = []

    class Libc:
        def syncfs(self, fd: int) -> int:
            opened.append(open_files(tmp_path))
            return 0

    monkeypatch.setattr(sync, "_libc", Libc())
    files = new_files(tmp_path)
    assert SyncFilesystem(str(tmp_path))(files, []) == {}
    assert opened == [[str(tmp_path), *(path for path, _ in files)]]


def test_a_file_system_whose_files_can_t_be_closed(tmp_path: Path) -> None:
    def happen(seen: int, name: str, do: Callable[[], Any]) -> Any:
        do()
        raise OSError(errno.EIO, "injected")

    files = new_files(tmp_path)
    with watched(tmp_path, ["close"], happen):
        failed = SyncFilesystem(str(tmp_path))(files, [])
    assert failed.keys() == {path for path, _ in files}
    assert open_files(tmp_path) == []


@pytest.mark.skipif(can_mount() != "", reason=can_mount())
@both
def test_what_was_acknowledged_outlives_a_power_cut(tmp_path: Path, make_sync: Callable[[Path], Sync]) -> None:
    dumps = {"upload_file_minidump": b"x" * 100_000, "spilled": b"y" * 300_000}
    with loop_ext4(tmp_path / "disk", 16 * 2**20) as ext4:
        root = ext4.path / "new" / "crashes"
        rig = make_rig(root)
        rig.sync.inner = make_sync(root)
        entry = rig.entry(make_crash(dumps=dumps, places={"spilled": rig.spill(dumps["spilled"])}))
        rig.save(entry)
        assert rig.errors(entry) == [None]
        ext4.power_cut()
        assert rig.staging._lock is not None
        os.close(rig.staging._lock)
        ext4.remount()
        staging = StagingDirectory(str(root), Modes())
        staging.make()
        staging.sweep()
        assert staging._lock is not None
        os.close(staging._lock)
        assert is_kept(root, dumps=dumps)
