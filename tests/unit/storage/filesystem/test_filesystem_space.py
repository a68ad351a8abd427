"""
What counts as full, and what is not known.
"""

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from collectord.storage.filesystem.space import refuse_full
from tests.support.mounts import can_mount, tmpfs

KIB = 1024


def statvfs(**values: int) -> SimpleNamespace:
    names = ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail")
    return SimpleNamespace(**dict.fromkeys(names, 0) | values)


def free(monkeypatch: pytest.MonkeyPatch, least: int, **values: int) -> int | None:
    monkeypatch.setattr(os, "statvfs", lambda path: statvfs(**values))
    return refuse_full("/crashes", least)


def test_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert free(monkeypatch, 0, f_frsize=KIB, f_blocks=100, f_bavail=10) == 10 * KIB
    assert free(monkeypatch, 10 * KIB, f_frsize=KIB, f_blocks=100, f_bavail=10) == 10 * KIB
    with pytest.raises(OSError, match=r"10\.0 KiB are free, less than min_free_bytes") as reported:
        free(monkeypatch, 10 * KIB + 1, f_frsize=KIB, f_blocks=100, f_bavail=10)
    assert reported.value.errno == errno.ENOSPC


def test_full_to_the_last_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where no byte is to be kept free: nothing could be written."""
    for least in (0, 1):
        with pytest.raises(OSError, match="No space left") as reported:
            free(monkeypatch, least, f_frsize=KIB, f_blocks=100)
        assert reported.value.errno == errno.ENOSPC
    assert free(monkeypatch, 0, f_frsize=KIB, f_blocks=100, f_bavail=1) == KIB


def test_zeros_are_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert free(monkeypatch, 2**40, f_bsize=4096) is None
    assert free(monkeypatch, 2**40) is None


def test_no_fragment_size(monkeypatch: pytest.MonkeyPatch) -> None:
    assert free(monkeypatch, 1, f_bsize=KIB, f_blocks=100, f_bavail=7) == 7 * KIB


@pytest.mark.parametrize(("there", "least"), [(20, 16), (1600, 16), (50_000, 500), (10**6, 1000), (2**60, 1000)])
def test_inodes(monkeypatch: pytest.MonkeyPatch, there: int, least: int) -> None:
    assert free(monkeypatch, 0, f_files=there, f_favail=least) is None
    with pytest.raises(OSError, match=f"{least - 1} inodes are free, and {least} are kept free") as reported:
        free(monkeypatch, 0, f_files=there, f_favail=least - 1, f_blocks=10**9, f_bavail=10**9, f_frsize=KIB)
    assert reported.value.errno == errno.ENOSPC


@pytest.mark.skipif(can_mount() != "", reason=can_mount())
def test_a_real_one_that_runs_out_of_inodes(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", 2**20, inodes=40) as disk:
        assert refuse_full(str(disk), 1) == 2**20
        for number in range(30):
            (disk / str(number)).touch()
        with pytest.raises(OSError, match="inodes are free"):
            refuse_full(str(disk), 1)


@pytest.mark.skipif(can_mount() != "", reason=can_mount())
def test_ramfs_tells_nothing(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", 2**20, kind="ramfs") as disk:
        assert refuse_full(str(disk), 2**40) is None
