"""
What is known of mounts: which one a path is on, what stays the same of a file system, and what require_mount wants.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from collectord.storage.filesystem.devices import device_of, family_of, mount_of_its_own, refuse_unmounted
from collectord.storage.filesystem.mounted import mount_of
from tests.support.cases import for_each
from tests.support.mounts import bind, can_mount, loop_ext4, tmpfs

needs_mounts = pytest.mark.skipif(bool(can_mount()), reason=can_mount())


@pytest.fixture
def mountpoint(tmp_path: Path) -> Iterator[Path]:
    with tmpfs(tmp_path / "mount point", 1 << 20) as path:
        yield path


def where(path: Path) -> tuple[str, str]:
    mount = mount_of(str(path))
    assert mount is not None
    return mount.point, mount.kind


@needs_mounts
def test_the_mount_of_a_path(mountpoint: Path) -> None:
    for path in (mountpoint, mountpoint / "not" / "made yet"):
        assert where(path) == (str(mountpoint), "tmpfs")
    (mountpoint.parent / "link").symlink_to(mountpoint)
    assert where(mountpoint.parent / "link" / "crashes") == (str(mountpoint), "tmpfs")
    assert where(mountpoint.parent / "mount point's neighbour")[0] != str(mountpoint)


@needs_mounts
def test_of_two_on_one_directory_the_later_one_is_seen(mountpoint: Path) -> None:
    with loop_ext4(mountpoint, 4 << 20, mountpoint.parent / "image"):
        assert where(mountpoint) == (str(mountpoint), "ext4")


@for_each(
    ("kind", "family"),
    [("ext3", "ext"), ("ext4", "ext"), ("nfs", "nfs"), ("nfs4", "nfs"), ("fuse.sshfs", "fuse"), ("fuseblk", "fuse")],
)
def test_families(kind: str, family: str) -> None:
    assert family_of(kind) == family


@needs_mounts
def test_a_device_is_the_same_when_it_is_mounted_again(tmp_path: Path) -> None:
    path = tmp_path / "mnt"
    with loop_ext4(path, 4 << 20) as ext4:
        before = device_of(str(path))
        ext4.remount()
        assert device_of(str(path)) == before
        (path / "below").mkdir()
        assert device_of(str(path / "below")) == before
    with loop_ext4(path, 4 << 20):
        assert device_of(str(path)) != before


@needs_mounts
def test_a_tmpfs_has_no_number_that_lasts(mountpoint: Path) -> None:
    assert device_of(str(mountpoint)) == "tmpfs"


def test_a_kernel_that_does_not_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collectord.storage.filesystem.devices.mount_of", lambda path: None)
    assert device_of(str(tmp_path)) == ""
    with pytest.raises(OSError, match="require_mount is true"):
        refuse_unmounted(str(tmp_path), True)


@needs_mounts
@pytest.mark.parametrize("below", ["", "crashes", "a/b/crashes"])
def test_require_mount(mountpoint: Path, below: str) -> None:
    root = str(mountpoint / below)
    for required in (False, True, str(mountpoint)):
        refuse_unmounted(root, required)
    with pytest.raises(OSError, match=r"of its own is mounted on .*, as require_mount wants it"):
        refuse_unmounted(root, str(mountpoint.parent))


@pytest.mark.parametrize("below", ["crashes", "crashes/deep/down"])
def test_what_every_machine_has_is_no_mount_of_a_store(tmp_path: Path, below: str) -> None:
    """This test runs below / or below a tmpfs of the system."""
    with pytest.raises(OSError, match="it would lie on that of /"):
        refuse_unmounted(str(tmp_path / below), True)
    with pytest.raises(OSError, match="is mounted on"):
        refuse_unmounted(str(tmp_path / below), str(tmp_path))


@needs_mounts
def test_a_directory_that_is_bound_to_itself_is_no_mount_of_its_own(tmp_path: Path) -> None:
    """As systemd does it with the directories that a service may write to."""
    state = tmp_path / "state"
    state.mkdir()
    with bind(state, state):
        assert mount_of_its_own(str(state / "crashes")) == ""
        with pytest.raises(OSError, match="require_mount is true"):
            refuse_unmounted(str(state / "crashes"), True)
        with tmpfs(state / "crashes", 1 << 20) as root:
            assert mount_of_its_own(str(root)) == str(root)
            refuse_unmounted(str(root), True)
