"""
The small file systems, for real.
"""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.mounts import MountError, can_mount, loop_ext4, tmpfs

pytestmark = pytest.mark.skipif(can_mount() != "", reason=can_mount())

MIB = 2**20


def write(path: Path, content: bytes, *, durable: bool = False) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        if durable:
            os.fsync(file.fileno())
    if durable:
        directory = os.open(path.parent, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)


def error_of(work: Callable[[], object]) -> str | None:
    try:
        work()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return None


def test_tmpfs_fills_up(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "full", MIB) as path:
        assert error_of(lambda: write(path / "file", bytes(2 * MIB))) == "ENOSPC"
    assert not os.path.ismount(path)


def test_tmpfs_runs_out_of_inodes(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "few", MIB, inodes=4) as path:
        for name in range(3):
            write(path / str(name), b"")
        assert error_of(lambda: write(path / "last", b"")) == "ENOSPC"
        assert os.statvfs(path).f_ffree == 0


def test_power_cut_keeps_what_was_synced(tmp_path: Path) -> None:
    with loop_ext4(tmp_path / "disk", 16 * MIB) as ext4:
        write(ext4.path / "kept", b"synced", durable=True)
        write(ext4.path / "lost", b"not synced")
        ext4.power_cut()
        assert error_of(lambda: write(ext4.path / "late", b"", durable=True)) == "EIO"
        ext4.remount()
        assert (ext4.path / "kept").read_bytes() == b"synced"
        assert not (ext4.path / "lost").exists()
        write(ext4.path / "late", b"", durable=True)


def test_remount_waits_for_nobody_to_have_it_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.mounts._UNMOUNT_S", 0.2)
    with loop_ext4(tmp_path / "disk", 16 * MIB) as ext4:
        with (ext4.path / "file").open("wb"), pytest.raises(MountError, match="in use"):
            ext4.remount()
        ext4.remount()
        assert (ext4.path / "file").exists()


def test_abort_makes_it_read_only(tmp_path: Path) -> None:
    with loop_ext4(tmp_path / "disk", 16 * MIB) as ext4:
        write(ext4.path / "before", b"content", durable=True)
        ext4.abort()
        assert error_of(lambda: write(ext4.path / "after", b"", durable=True)) in ("EROFS", "EIO")
        assert (ext4.path / "before").read_bytes() == b"content"
        ext4.remount()
        write(ext4.path / "after", b"", durable=True)


def test_fsync_fails_on_an_image_without_room(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "small", 3 * MIB) as small, loop_ext4(tmp_path / "disk", 16 * MIB, small / "image") as ext4:
        assert error_of(lambda: write(ext4.path / "file", b"x" * 8 * MIB, durable=True)) in ("EIO", "ENOSPC")
