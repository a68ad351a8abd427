"""
Which file system a root is on, and whether one is mounted there at all. All of it blocks.
"""

import errno
import os
import re

from collectord.storage.filesystem.mounted import mount_of

_FAMILIES = {"ext2": "ext", "ext3": "ext", "ext4": "ext", "nfs4": "nfs", "fuseblk": "fuse"}
_NUMBERED = ("ext", "btrfs")
"""Their C{f_fsid} is made of the UUID of the file system: it is the same after a reboot, and on another machine."""
_OF_THE_SYSTEM = re.compile(r"/|/(dev|dev/shm|home|media|mnt|opt|run|srv|tmp|usr|usr/local|var|var/lib|var/tmp)")
"""Directories that every machine has, and that are file systems of their own on many."""


def family_of(kind: str) -> str:
    """The kind of a file system, without what may be another one after an update of the system."""
    return _FAMILIES.get(kind, kind.partition(".")[0])


def device_of(path: str) -> str:
    """
    The file system of C{path} in a word or two that stay the same when it is mounted again: its family, and its own
    number where it has one that lasts. Empty: the kernel does not tell.

    @raise OSError: C{path} is not there.
    """
    number = os.statvfs(path).f_fsid
    mount = mount_of(path)
    family = "" if mount is None else family_of(mount.kind)
    return f"{family} {number:016x}" if family in _NUMBERED else family


def refuse_unmounted(root: str, require_mount: bool | str) -> None:
    """
    Refuse a root whose file system is not mounted.

    @param require_mount: the directory that has to be the mount point of a file system of its own. True: C{root}, or a
        directory above it, but for C{/} and those that every machine has, such as C{/var}: what is mounted there is
        there without the store, too.

    @raise OSError: it is not.
    """
    if not require_mount:
        return
    if require_mount is not True:
        wanted = str(require_mount)
        if mount_of_its_own(wanted) != os.path.realpath(wanted):
            raise OSError(errno.ENODEV, f"no file system of its own is mounted on {wanted}, as require_mount wants it")
    elif not mount_of_its_own(root):
        mount = mount_of(root)
        where = "/" if mount is None else mount.point
        why = f"it would lie on that of {where}, and require_mount is true"
        raise OSError(errno.ENODEV, f"no file system of its own is mounted here: {why}")


def mount_of_its_own(path: str) -> str:
    """
    The directory above C{path}, or C{path}, that a file system of its own is mounted on; empty: C{path} is on one that
    every machine has. A directory that is only bound to itself, as systemd binds those of a service, does not count.
    """
    mount = mount_of(path)
    if mount is None or (_OF_THE_SYSTEM.fullmatch(mount.point) and mount.point != os.path.realpath(path)):
        return ""
    above = os.path.dirname(mount.point)
    return "" if os.stat(mount.point).st_dev == os.stat(above).st_dev else mount.point
