"""
What is known of a file system by its kind.
"""

from pathlib import Path

import pytest

from collectord.storage.filesystem import mounted
from collectord.storage.filesystem.mounted import Mount, cautions_at, cautions_of, mount_of, unsynced_by_syncfs
from tests.support.cases import for_each
from tests.support.mounts import can_mount, mounted_at, tmpfs

needs_mounts = pytest.mark.skipif(can_mount() != "", reason=can_mount())


@for_each("kind", ["ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "jfs", "nilfs2", "overlay", "bcachefs"])
def test_all_is_promised(kind: str) -> None:
    assert cautions_of(Mount(kind=kind, options=frozenset({"rw", "relatime", "data=ordered"}))) == []
    assert unsynced_by_syncfs(Mount(kind=kind)) == ""


@for_each(
    ("kind", "text"),
    [
        ("tmpfs", "lies in memory"),
        ("ramfs", "lies in memory"),
        ("fuse", "served by a process (FUSE)"),
        ("fuseblk", "served by a process (FUSE)"),
        ("fuse.sshfs", "served by a process (FUSE)"),
        ("fuse.one nobody knows", "served by a process (FUSE)"),
        ("fuse.rclone", "cache of its own"),
        ("fuse.s3fs", "cache of its own"),
        ("fuse.glusterfs", "as durable as the server makes it"),
        ("nfs", "as durable as the server makes it"),
        ("nfs4", "as durable as the server makes it"),
        ("cifs", "as durable as the server makes it"),
        ("vfat", "no journal"),
        ("ext2", "no journal"),
    ],
)
def test_of_kinds(kind: str, text: str) -> None:
    [caution] = cautions_of(Mount(kind=kind))
    assert caution.startswith(f"on {kind}: ")
    assert text in caution


@for_each(
    ("kind", "option", "text"),
    [
        ("overlay", "volatile", "nothing is ever synced"),
        ("overlay", "fsync=volatile", "nothing is ever synced"),
        ("ext4", "nobarrier", "without barriers"),
        ("ext4", "barrier=0", "without barriers"),
        ("f2fs", "fsync_mode=nobarrier", "without barriers"),
    ],
)
def test_of_options(kind: str, option: str, text: str) -> None:
    [caution] = cautions_of(Mount(kind=kind, options=frozenset({"rw", option})))
    assert text in caution


@for_each("kind", ["fuse", "fuseblk", "fuse.bindfs", "9p", "cifs"])
def test_a_syncfs_that_reaches_nobody(kind: str) -> None:
    assert f"syncs nothing on {kind}" in unsynced_by_syncfs(Mount(kind=kind))


def test_what_is_not_known() -> None:
    assert unsynced_by_syncfs(None) == ""


def test_without_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounted, "_mount_number", lambda path: "")
    assert mount_of(str(tmp_path)) is None
    assert cautions_at(str(tmp_path)) == []


@needs_mounts
def test_real_mounts(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "a disk\nwith odd names", 2**20) as disk:
        for path in (disk, disk / "not" / "there" / "yet"):
            mount = mount_of(str(path))
            assert mount is not None
            assert mount.kind == "tmpfs"
            assert {"rw", "size=1024k"} <= mount.options
        with tmpfs(disk, 2**20, kind="ramfs"):  # over it
            found = mount_of(str(disk))
            assert found is not None
            assert found.kind == "ramfs"
        (disk / "file").touch()
        assert mount_of(str(disk / "file" / "below")) == mount_of(str(disk))
        assert len(cautions_at(str(disk))) == 1


@needs_mounts
def test_a_layer_over_others(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", 2**20) as disk:
        for name in ("lower", "upper", "work"):
            (disk / name).mkdir()
        options = f"lowerdir={disk}/lower,upperdir={disk}/upper,workdir={disk}/work,volatile"
        with mounted_at(tmp_path / "layer", "-t", "overlay", "-o", options, "overlay") as layer:
            volatile, memory = cautions_at(str(layer))
    assert volatile.startswith("on overlay: it is mounted volatile: nothing is ever synced")
    assert memory.startswith("on tmpfs: it lies in memory")
