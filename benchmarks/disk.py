"""
A fresh place for the crashes of one run.

What was written and deleted before decides what ext4 costs now, so every run gets a file system of its own: a journaled
ext4 in a sparse loop file. Who may not mount gets a plain directory, and the figures say so.
"""

import mmap
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

_IMAGE_BYTES = 16 * 1024**3


@frozen
class Disk:
    """
    @ivar root: an empty directory.
    @ivar filesystem: what it lies on, in words.
    """

    root: Path
    filesystem: str


@contextmanager
def fresh_disk(scratch: Path) -> Iterator[Disk]:
    """A new disk below C{scratch}, gone at the end with all that is in it."""
    work = Path(tempfile.mkdtemp(prefix="disk-", dir=scratch))
    try:
        if _may_mount():
            with _loop_ext4(work) as root:
                yield Disk(root, "journaled ext4 of its own in a loop file")
        else:
            root = work / "crashes"
            root.mkdir()
            yield Disk(root, f"plain directory on {_filesystem_of(root)}, not a file system of its own")
    finally:
        shutil.rmtree(work)


def leave_on_sigterm() -> None:
    """Make SIGTERM an exception, so that file systems are unmounted and servers stopped."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


def warm_memory(at_most_bytes: int = 4 * 1024**3) -> None:
    """
    Touch what the page cache is about to use, up to half of what is available.

    A virtual machine gives free memory back to its host; getting it again made the same nginx run three times dearer.
    """
    size = min(at_most_bytes, _available_bytes() // 2) // mmap.PAGESIZE * mmap.PAGESIZE
    if size:
        mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE).close()


@contextmanager
def _loop_ext4(work: Path) -> Iterator[Path]:
    image, mount = work / "image", work / "mount"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(_IMAGE_BYTES)
    # Nothing is left to be initialized by the kernel in the background of a run.
    options = "lazy_itable_init=0,lazy_journal_init=0,nodiscard"
    subprocess.run(["mkfs.ext4", "-q", "-F", "-J", "size=128", "-E", options, image], check=True)
    subprocess.run(["mount", "-o", "loop", image, mount], check=True)
    try:
        root = mount / "crashes"
        root.mkdir()
        root.chmod(0o755)
        os.sync()
        yield root
    finally:
        _unmount(mount)


def _unmount(mount: Path) -> None:
    for _ in range(20):
        if subprocess.run(["umount", mount], stderr=subprocess.DEVNULL).returncode == 0:
            return
        time.sleep(0.25)
    subprocess.run(["umount", "-l", mount], check=True)


def _may_mount() -> bool:
    return os.geteuid() == 0 and Path("/dev/loop-control").exists() and shutil.which("mkfs.ext4") is not None


def _filesystem_of(path: Path) -> str:
    command = ["stat", "-f", "-c", "%T", str(path)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _available_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0
