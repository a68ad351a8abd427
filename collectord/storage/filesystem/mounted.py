"""
What kind of file system a path is on, and what cannot be promised there.

Some file systems ignore an C{fsync} and report success. No probe can find that out; only the kind of file system tells.
"""

import os
import re
from collections.abc import Sequence
from contextlib import suppress

from attrs import frozen


@frozen(kw_only=True)
class Mount:
    """
    A mounted file system, as the kernel lists it.

    @ivar kind: C{ext4}, C{nfs4}, C{fuse.sshfs}, or C{fuse} if its server did not say what it is.
    @ivar options: of the mount and of the file system.
    @ivar point: the directory that it is mounted on.
    @ivar source: the device, or whatever is mounted.
    """

    kind: str
    options: frozenset[str] = frozenset()
    point: str = ""
    source: str = ""


_IN_MEMORY = "it lies in memory: a restart of the machine loses every crash here"
_FUSE = (
    "it is served by a process (FUSE): most of these pass the sync of a directory no further, so that a power cut "
    "below it loses crashes that were acknowledged"
)
_CACHED = (
    "its server keeps what was written in a cache of its own: a power cut, or its end, loses crashes that were "
    "acknowledged"
)
_NETWORK = "what its server has acknowledged is as durable as the server makes it: its own power cut may lose crashes"
_VOLATILE = "it is mounted volatile: nothing is ever synced, and a power cut loses crashes that were acknowledged"
_NO_BARRIERS = "it is mounted without barriers: a power cut loses what the disk still had in its cache"
_NO_JOURNAL = "it has no journal: a power cut may damage all of it, not only what was written last"

_OF_KINDS: Sequence[tuple[str, str]] = [
    (r"tmpfs|ramfs|rootfs|devtmpfs|hugetlbfs", _IN_MEMORY),
    (r"fuse\.(glusterfs|ceph|ceph-fuse|mfs|moosefs|juicefs|JuiceFS|lizardfs)", _NETWORK),
    (r"fuse\.(rclone|s3fs|goofys|gcsfuse|geesefs|blobfuse2?|davfs2?)|davfs2?", _CACHED),
    (r"fuse(\..+|blk)?", _FUSE),
    (r"nfs4?|cifs|smb3|smbfs|9p|virtiofs|afs|ceph|lustre|beegfs|glusterfs|vboxsf|prl_fs|vmhgfs", _NETWORK),
    (r"ext2|vfat|msdos|exfat|minix|hfs|hfsplus|udf|ufs|sysv|affs|qnx4|bfs|adfs|omfs", _NO_JOURNAL),
]
"""What can't be promised on a kind of file system. The first pattern that matches counts."""

_OF_OPTIONS: Sequence[tuple[str, str]] = [
    (r"volatile|fsync=volatile", _VOLATILE),
    (r"nobarrier|barrier=0|barrier=none|fsync_mode=nobarrier", _NO_BARRIERS),
]

_ESCAPE = re.compile(r"\\([0-7]{3})")
"""How the kernel writes a space in a path, and the like."""

_SYNCS_NOTHING = re.compile(r"fuse(\..+|blk)?|9p|cifs|smb3|smbfs")
"""The kinds of file systems on which C{syncfs} does nothing: it never reaches the server."""


def mount_of(path: str) -> Mount | None:
    """
    Look up the file system of C{path}, or if that does not exist yet, of the directory in which it will be made.

    @return: None if that can't be found out.
    """
    number, fields = _mount_number(path), list[str]()
    with suppress(OSError), open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        fields = next((line.split() for line in lines if line.split(maxsplit=1)[0] == number), [])
    if "-" not in fields:
        return None
    kind, source, *of_file_system = fields[fields.index("-") + 1 :]
    options = ",".join([fields[5], *of_file_system])
    return Mount(
        kind=kind, options=frozenset(options.split(",")), point=_unescaped(fields[4]), source=_unescaped(source)
    )


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda escape: chr(int(escape[1], 8)), text)


def _mount_number(path: str) -> str:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        above = os.path.dirname(os.path.abspath(path))
        return "" if above == path else _mount_number(above)
    except OSError:
        return ""
    try:
        with suppress(OSError), open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as lines:
            return next((line.split()[1] for line in lines if line.startswith("mnt_id:")), "")
        return ""
    finally:
        os.close(fd)


def cautions_at(path: str) -> Sequence[str]:
    """What can't be promised on the file system of C{path}, or on the one below it (overlayfs), in plain sentences."""
    mount = mount_of(path)
    if mount is None:
        return []
    layer = next((option.removeprefix("upperdir=") for option in mount.options if option.startswith("upperdir=/")), "")
    below = cautions_at(layer) if layer and os.path.isdir(layer) else []
    return [*cautions_of(mount), *below]


def cautions_of(mount: Mount) -> Sequence[str]:
    """What can't be promised on a file system of this kind, in plain sentences."""
    of_kind = next((text for kind, text in _OF_KINDS if re.fullmatch(kind, mount.kind)), None)
    of_options = [text for option, text in _OF_OPTIONS if any(re.fullmatch(option, each) for each in mount.options)]
    return [f"on {mount.kind}: {text}" for text in [*([of_kind] if of_kind else []), *of_options]]


def unsynced_by_syncfs(mount: Mount | None) -> str:
    """Why C{sync = "filesystem"} does nothing there, in words; empty if it works, as far as anyone knows."""
    if mount is None or _SYNCS_NOTHING.fullmatch(mount.kind) is None:
        return ""
    return f'sync = "filesystem" syncs nothing on {mount.kind}: take sync = "files"'
