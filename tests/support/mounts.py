"""
Small file systems that fill up, break, and lose their power.
"""

import ctypes
import fcntl
import os
import re
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from attrs import frozen

_IOC_SHUTDOWN = 0x8004587D
"""The same for ext4 and XFS."""
_NO_LOG_FLUSH = 2
_MNT_DETACH = 2
_UNMOUNT_S = 60.0
"""A program that another test runs in a mount namespace of its own keeps what was mounted until it ends."""
_LIBC = ctypes.CDLL(None, use_errno=True)
"""Many tests mount something small, for which starting two tools would take longer than the tests."""


@cache
def can_mount() -> str:
    """Empty if mounting works here, else what is missing."""
    if os.geteuid() != 0:
        return "mounting needs root"
    for tool in ("mount", "umount", "losetup", "mkfs.ext4"):
        if shutil.which(tool) is None:
            return f"no {tool}"
    with tempfile.TemporaryDirectory() as directory:
        try:
            _run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", directory)
        except MountError as error:
            return str(error)
        _run("umount", directory)
    try:
        _run("losetup", "--find")
    except MountError as error:
        return str(error)
    return ""


class MountError(Exception):
    """A tool or a system call failed; the text is its own."""


@contextmanager
def tmpfs(path: Path, size: int, inodes: int | None = None, kind: str = "tmpfs") -> Iterator[Path]:
    """An empty file system of so many bytes, and inodes, at C{path}; a C{ramfs} heeds neither."""
    limits = f"size={size}" + ("" if inodes is None else f",nr_inodes={inodes}")
    path.mkdir(exist_ok=True)
    _called(_LIBC.mount(kind.encode(), os.fsencode(path), kind.encode(), 0, limits.encode()), f"mount {path}")
    try:
        yield path
    finally:
        _detach(path)


@contextmanager
def mounted_at(path: Path, *mount: str) -> Iterator[Path]:
    """What C{mount} mounts with these arguments, at C{path}."""
    path.mkdir(exist_ok=True)
    _run("mount", *mount, str(path))
    try:
        yield path
    finally:
        _detach(path)


@contextmanager
def bind(path: Path, to: Path) -> Iterator[Path]:
    """What is at C{path} now, at C{to} as well, whatever is unmounted or mounted at C{path} then."""
    to.mkdir(exist_ok=True)
    _run("mount", "--bind", str(path), str(to))
    try:
        yield to
    finally:
        _detach(to)


@frozen
class LoopDisk:
    """A file system with a journal in a file, mounted. @ivar kind: C{ext4} or C{xfs}."""

    path: Path
    image: Path
    options: str = "loop"
    kind: str = "ext4"

    def power_cut(self) -> None:
        """Nothing reaches the image from now on, not even the journal's log; operations end with EIO."""
        directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(directory, _IOC_SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(directory)

    def abort(self) -> None:
        """A fatal error of an ext4: EIO for what is in flight, then it is read-only (EROFS)."""
        _run("mount", "-o", "remount,abort", str(self.path))

    def remount(self) -> None:
        """
        Unmount it, and mount what is on the image.

        @raise MountError: somebody still has a file open there.
        """
        self._unmount()
        self._mount()

    def _is_mounted(self) -> bool:
        """C{os.path.ismount()} says no where the file system has shut down."""
        mounts = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
        written = str(self.path).replace(" ", "\\040")  # as the kernel writes it there
        return any(line.split()[4] == written for line in mounts.splitlines())

    def _mount(self) -> None:
        _run("mount", "-t", self.kind, "-o", self.options, str(self.image), str(self.path))

    def _unmount(self) -> None:
        """The image's loop device has to go as well, or the next mount would show what the kernel remembers."""
        if self._is_mounted():
            try:
                _run("umount", str(self.path))
            except MountError:
                _run("umount", "-l", str(self.path))
        deadline = time.monotonic() + _UNMOUNT_S
        while device := _run("losetup", "-j", str(self.image)):
            if time.monotonic() > deadline:
                raise MountError(f"{self.path} is in use: {device}")
            time.sleep(0.02)


@contextmanager
def loop_ext4(path: Path, size: int, image: Path | None = None, options: str = "loop") -> Iterator[LoopDisk]:
    """
    An empty ext4 of so many bytes at C{path}.

    @param image: the file it lives in, sparse; on a tmpfs that is too small for it, C{fsync} itself fails: with EIO, or
        with ENOSPC where the kernel's loop device passes that on.
    """
    path.mkdir(exist_ok=True)
    disk = LoopDisk(path, image or path.with_name(f"{path.name}.img"), options)
    with _made(disk, size, "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"):
        yield disk


@contextmanager
def loop_xfs(path: Path, size: int = 320 * 2**20) -> Iterator[LoopDisk]:
    """An empty XFS of so many bytes, 300 MiB at least, at C{path}; little of that is ever written."""
    path.mkdir(exist_ok=True)
    disk = LoopDisk(path, path.with_name(f"{path.name}.img"), kind="xfs")
    with _made(disk, size):
        yield disk


@contextmanager
def _made(disk: LoopDisk, size: int, *options: str) -> Iterator[None]:
    with disk.image.open("wb") as file:
        file.truncate(size)
    _run(f"mkfs.{disk.kind}", "-q", *options, str(disk.image))
    disk._mount()
    try:
        yield
    finally:
        disk._unmount()
        disk.image.unlink()


@frozen
class ThinExt4:
    """
    An ext4 whose image lies on a small file system of its own, as on a thin pool: where that is full, data can't be
    written back, while metadata and journal can.
    """

    ext4: LoopDisk

    @property
    def path(self) -> Path:
        """Where it is mounted."""
        return self.ext4.path

    @property
    def _ballast(self) -> Path:
        return self.ext4.image.with_name("ballast")

    def starve(self) -> None:
        """From now on there is no room behind blocks that are free now."""
        block = os.statvfs(self.path).f_bsize
        # A daemon that checks its store would change the image while it is read, and use blocks that were free.
        _run("fsfreeze", "--freeze", str(self.path))
        try:
            for first, last in self._free():
                start, length = str(first * block), str((last - first + 1) * block)
                _run("fallocate", "--punch-hole", "--offset", start, "--length", length, str(self.ext4.image))
        finally:
            _run("fsfreeze", "--unfreeze", str(self.path))
        with self._ballast.open("wb", buffering=0) as ballast, suppress(OSError):
            while True:
                ballast.write(bytes(4096))

    def relieve(self) -> None:
        """There is room again. What could not be written back by now is lost."""
        self._ballast.unlink()

    def forget_cached(self, path: Path) -> None:
        """Let no page of a file stay in memory: what is read comes from the disk."""
        fd = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)

    def _free(self) -> Iterator[tuple[int, int]]:
        for line in _run("dumpe2fs", str(self.ext4.image)).splitlines():
            if line.startswith("  Free blocks:"):
                for first, last in re.findall(r"(\d+)(?:-(\d+))?", line.partition(":")[2]):
                    yield int(first), int(last or first)


@contextmanager
def thin_ext4(path: Path, size: int) -> Iterator[ThinExt4]:
    """Of so many bytes, at C{path}; not starved at first."""
    pool = path.with_name(f"{path.name}.pool")
    # Where blocks are allocated as unwritten, an error splits extents, and then metadata needs blocks, too.
    with tmpfs(pool, size * 2), loop_ext4(path, size, pool / "img", "loop,nodioread_nolock") as ext4:
        _run("fallocate", "--length", str(size), str(ext4.image))
        yield ThinExt4(ext4)


def sync_filesystem(path: Path) -> str:
    """
    What another process is told that syncs the file system, such as a backup.

    @return: the error it sees; empty: none.
    """
    return subprocess.run(["sync", "--file-system", str(path)], capture_output=True, text=True, check=False).stderr


def _detach(path: Path) -> None:
    """As C{umount -l}."""
    _called(_LIBC.umount2(os.fsencode(path), _MNT_DETACH), f"umount {path}")


def _called(result: int, call: str) -> None:
    if result != 0:
        raise MountError(f"{call}: {os.strerror(ctypes.get_errno())}")


def _run(*command: str) -> str:
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        raise MountError(f"{' '.join(command)}: {ran.stderr.strip()}")
    return ran.stdout.strip()
