"""
A file system that hangs or fails on demand: it stands in for an unhealthy NFS server.

C{python -m tests.support.fusefs SOURCE MOUNTPOINT CONTROLFILE} mounts C{SOURCE}; L{tests.support.faults} says what the
control file may hold.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from attrs import frozen

from tests.support.daemon import ROOT
from tests.support.faults import Control, parse_faults

_MOUNT_S = 10.0


@frozen
class FuseMount:
    """
    A mounted one.

    @ivar path: where it is mounted.
    @ivar source: where the same files lie, out of the faults' reach.
    @ivar pid: of the process that serves it.
    """

    path: Path
    source: Path
    control: Path
    pid: int

    def fault(self, *lines: str) -> None:
        """From now on these faults and no others; whatever hung under the ones before is judged anew."""
        text = "\n".join(lines)
        parse_faults(text)
        _replace(self.control, text)

    def heal(self) -> None:
        """No faults; whatever hung goes on."""
        self.fault()


def can_mount_fuse() -> str:
    """Empty if it works here, else what is missing."""
    if find_spec("fuse") is None:
        return "fusepy is not installed"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "no access to /dev/fuse"
    if shutil.which("fusermount") is None:
        return "no fusermount"
    return ""


@contextmanager
def mounted_below(directory: Path) -> Iterator[FuseMount]:
    """One in C{directory}, which is made: C{source} at C{mount}."""
    source, mountpoint = directory / "source", directory / "mount"
    source.mkdir()
    mountpoint.mkdir()
    with mounted(source, mountpoint) as mount:
        yield mount


@contextmanager
def mounted(source: Path, mountpoint: Path) -> Iterator[FuseMount]:
    """C{source} at C{mountpoint}, healthy at first; both are directories that exist. Gone at the end, hung or not."""
    control = mountpoint.with_name(f"{mountpoint.name}.control")
    log_file = mountpoint.with_name(f"{mountpoint.name}.log")
    _replace(control, "")
    command = [sys.executable, "-m", "tests.support.fusefs", str(source), str(mountpoint), str(control)]
    with log_file.open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + _MOUNT_S
        while not os.path.ismount(mountpoint):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{mountpoint} is not mounted:\n{log_file.read_text()}")
            time.sleep(0.02)
        yield FuseMount(mountpoint, source, control, process.pid)
    finally:
        subprocess.run(["fusermount", "-uz", str(mountpoint)], check=False, capture_output=True)
        # Its end aborts the connection, and with it whatever is still hung.
        process.send_signal(signal.SIGKILL)
        process.wait()


def _replace(path: Path, text: str) -> None:
    """No reader sees half of it."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text)
    new.replace(path)


def main(source: str, mountpoint: str, control: str) -> None:
    """Serve it until it is unmounted."""
    from fuse import FUSE

    from tests.support.passthrough import PassThrough

    FUSE(
        PassThrough(source, Control(Path(control))),
        mountpoint,
        foreground=True,
        nothreads=False,
        fsname="collectord-tests",
        attr_timeout=0,  # so that every operation comes here
        entry_timeout=0,
        big_writes=True,
        hard_remove=True,  # no .fuse_hidden files
        use_ino=True,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
