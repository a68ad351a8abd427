"""
Which file system a root is on, and whether it is the one that is meant to be mounted there. All of it blocks.
"""

import errno
import os
import re

from collectord.storage.filesystem.mounted import mount_of

_FAMILIES = {"ext2": "ext", "ext3": "ext", "ext4": "ext", "nfs4": "nfs", "fuseblk": "fuse"}
_NUMBERED = ("ext", "btrfs")
"""Kinds whose C{f_fsid} is made of the UUID of the file system: it stays the same after a reboot, on any machine."""
_OF_THE_SYSTEM = re.compile(r"/|/(dev|dev/shm|home|media|mnt|opt|run|srv|tmp|usr|usr/local|var|var/lib|var/tmp)")
"""Directories that every machine has. On many machines they are file systems of their own."""


def family_of(kind: str) -> str:
    """The kind of a file system, without the part that may change when the system is updated."""
    return _FAMILIES.get(kind, kind.partition(".")[0])


def device_of(path: str) -> str:
    """
    Name the file system of C{path} in a word or two that stay the same when it is mounted again: its family, and its
    number if it has one that lasts.

    @return: empty if the kernel does not tell.

    @raise OSError: C{path} is not there.
    """
    number = os.statvfs(path).f_fsid
    mount = mount_of(path)
    family = "" if mount is None else family_of(mount.kind)
    return f"{family} {number:016x}" if family in _NUMBERED else family


def refuse_unmounted(root: str, require_mount: bool | str) -> None:
    """
    Refuse a root whose file system is not mounted.

    @param require_mount: the directory that has to be the mount point of a file system of its own. True: it may be
        C{root} or any directory above it, except C{/} and those that every machine has, such as C{/var}; they are there
        without the store, too. False: nothing is refused.

    @raise OSError: it is not mounted.
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
    Find the directory, C{path} or one above it, on which a file system of its own is mounted. A directory that is only
    bound to itself, as systemd does with those of a service, does not count.

    @return: empty if C{path} is on a file system that every machine has.
    """
    mount = mount_of(path)
    if mount is None or (_OF_THE_SYSTEM.fullmatch(mount.point) and mount.point != os.path.realpath(path)):
        return ""
    above = os.path.dirname(mount.point)
    return "" if os.stat(mount.point).st_dev == os.stat(above).st_dev else mount.point
