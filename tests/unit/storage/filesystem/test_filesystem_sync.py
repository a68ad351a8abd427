"""
The two ways to make things durable.
"""

import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field

from collectord.storage.filesystem import sync
from collectord.storage.filesystem.staging import Modes, StagingDirectory
from collectord.storage.filesystem.sweep import sweep
from collectord.storage.filesystem.sync import File, Sync, SyncFilesystem, sync_each
from tests.support.mounts import ThinExt4, can_mount, loop_ext4, sync_filesystem, thin_ext4, tmpfs
from tests.unit.storage.stores import descriptors, die, failing, is_kept, make_crash, make_rig, open_files, watched

both = pytest.mark.parametrize("which", ["files", "filesystem"])
needs_mount = pytest.mark.skipif(can_mount() != "", reason=can_mount())


@contextmanager
def syncing(which: str, root: Path) -> Iterator[Sync]:
    """One of the two ways, from before the first write."""
    if which == "files":
        yield sync_each
        return
    whole = SyncFilesystem(str(root))
    whole.watch()
    yield whole
    whole.close()


def new_files(root: Path, count: int = 3) -> list[File]:
    paths = [str(root / f"file {n}") for n in range(count)]
    return [(path, os.open(path, os.O_WRONLY | os.O_CREAT)) for path in paths]


@both
def test_all_is_well(tmp_path: Path, which: str) -> None:
    with syncing(which, tmp_path) as sync:
        assert sync(new_files(tmp_path), {str(tmp_path)}) == {}
        assert sync([], []) == {}
        assert sync([], iter([str(tmp_path)])) == {}
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


@define
class Libc:
    """
    A C library whose calls fail.

    @ivar errors: the C{errno} by call.
    @ivar seen: what was open at each call.
    @ivar synced: the descriptors by which the file system was synced.
    """

    errors: dict[str, int]
    seen: Callable[[], object] = lambda: None
    synced: list[int] = field(factory=list)

    def syncfs(self, fd: int) -> int:
        self.synced.append(fd)
        return self._answer("syncfs")

    def sync_file_range(self, fd: int, *how: object) -> int:
        return self._answer("sync_file_range")

    def _answer(self, call: str) -> int:
        self.seen()
        ctypes.set_errno(self.errors.get(call, 0))
        return -1 if call in self.errors else 0


@both
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_an_error_is_told_where_only_the_writing_tells_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str, error: int
) -> None:
    with syncing(which, tmp_path) as each:
        monkeypatch.setattr(sync, "_libc", Libc({"sync_file_range": error}))
        files = new_files(tmp_path)
        failed = each(files, [str(tmp_path)])
    assert {path: error.errno for path, error in failed.items()} == {path: error for path, _ in files}
    assert open_files(tmp_path) == []


@both
@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EPERM])
def test_a_machine_that_can_t_start_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str, error: int
) -> None:
    with syncing(which, tmp_path) as each:
        monkeypatch.setattr(sync, "_libc", Libc({"sync_file_range": error}))
        assert each(new_files(tmp_path), [str(tmp_path)]) == {}


def test_the_file_system_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "_libc", Libc({"syncfs": errno.EIO}))
    with syncing("filesystem", tmp_path) as whole:
        files = new_files(tmp_path)
        failed = whole(files, iter([str(tmp_path)]))
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
    opened: list[list[str]] = []
    monkeypatch.setattr(sync, "_libc", Libc({}, lambda: opened.append(open_files(tmp_path))))
    with syncing("filesystem", tmp_path) as whole:
        files = new_files(tmp_path)
        assert whole(files, []) == {}
    assert opened[0] == [str(tmp_path), *(path for path, _ in files)]


def test_the_root_is_held_from_one_sync_to_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who opens it anew after an error may not hear of it."""
    whole = SyncFilesystem(str(tmp_path))
    libc = Libc({})
    monkeypatch.setattr(sync, "_libc", libc)
    whole.watch()
    (held,) = [fd for fd, path in descriptors() if path == str(tmp_path)]
    for _ in range(3):
        whole.watch()
        assert whole([], []) == {}
    assert libc.synced == [held] * 3
    assert open_files(tmp_path) == [str(tmp_path)]
    whole.close()
    whole.close()


@needs_mount
def test_another_file_system_on_the_root(tmp_path: Path) -> None:
    """What was written to the one is not synced by the other: it is told, and from then on the other is watched."""
    root = tmp_path / "root"
    root.mkdir()
    with syncing("filesystem", root) as whole:
        files = new_files(root)
        with tmpfs(root, 65536):
            failed = whole(files, [str(root)])
            assert {error.errno for error in failed.values()} == {errno.ESTALE}
            assert failed.keys() == {*(path for path, _ in files), str(root)}
            assert whole(new_files(root), [str(root)]) == {}
        assert whole([], [str(root)]) != {}
        assert whole([], [str(root)]) == {}


def test_a_file_system_whose_files_can_t_be_closed(tmp_path: Path) -> None:
    def happen(seen: int, name: str, do: Callable[[], Any]) -> Any:
        do()
        raise OSError(errno.EIO, "injected")

    with syncing("filesystem", tmp_path) as whole:
        files = new_files(tmp_path)
        with watched(tmp_path, ["close"], happen):
            failed = whole(files, [])
    assert failed.keys() == {path for path, _ in files}
    assert open_files(tmp_path) == []


# Real errors in writing back.


@pytest.fixture
def thin(tmp_path: Path) -> Iterator[ThinExt4]:
    """A file system whose disk has no room for what is written."""
    with thin_ext4(tmp_path / "disk", 32 * 2**20) as disk:
        yield disk


def write(file: File) -> None:
    for _ in range(16):
        os.write(file[1], os.urandom(65536))


@pytest.mark.slow
@needs_mount
@both
@pytest.mark.parametrize("seen", [False, True], ids=["first", "after another"])
def test_an_error_in_writing_back(thin: ThinExt4, which: str, seen: bool) -> None:
    """It is told to whoever held the file, or the file system, whoever else was told before."""
    with syncing(which, thin.path) as each:
        thin.starve()
        (file,) = new_files(thin.path, 1)
        write(file)
        if seen:
            assert "error syncing" in sync_filesystem(thin.path)
            assert sync_filesystem(thin.path) == ""
            thin.relieve()
        assert each([file], [str(thin.path)]).keys() >= {file[0]}
        if not seen:
            thin.relieve()
        # The control: who syncs again hears of nothing, and the bytes are not there.
        again = (file[0], os.open(file[0], os.O_RDWR))
        assert each([again], [str(thin.path)]) == {}
        before = Path(file[0]).read_bytes()
        thin.forget_cached(Path(file[0]))
        assert Path(file[0]).read_bytes() != before


@needs_mount
def test_the_error_of_another_file_is_taken_for_ours(thin: ThinExt4) -> None:
    """The file system does not say whose it was."""
    with syncing("filesystem", thin.path) as whole:
        small = new_files(thin.path, 1)
        thin.starve()
        other = (str(thin.path / "other"), os.open(thin.path / "other", os.O_WRONLY | os.O_CREAT))
        write(other)
        assert sync_each([other], []) != {}
        thin.relieve()
        assert whole(small, []) != {}
        assert whole(new_files(thin.path), []) == {}


@needs_mount
@both
def test_what_was_acknowledged_outlives_a_power_cut(tmp_path: Path, which: str) -> None:
    dumps = {"upload_file_minidump": b"x" * 100_000, "spilled": b"y" * 300_000}
    with loop_ext4(tmp_path / "disk", 16 * 2**20) as ext4:
        root = ext4.path / "new" / "crashes"
        rig = make_rig(root)
        with syncing(which, root) as rig.sync.inner:
            transaction = rig.transaction(make_crash(dumps=dumps, places={"spilled": rig.spill(dumps["spilled"])}))
            rig.save(transaction)
        assert rig.errors(transaction) == [None]
        ext4.power_cut()
        die(rig.staging)
        ext4.remount()
        staging = StagingDirectory(str(root), Modes())
        staging.make()
        sweep(staging)
        die(staging)
        assert is_kept(root, dumps=dumps)
