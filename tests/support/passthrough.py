"""
A directory as a FUSE file system, with faults.
"""

import errno
import os
import time
from collections.abc import Sequence
from typing import Any

from attrs import frozen
from fuse import fuse_get_context

from tests.support.faults import Control, Hangs

_SIGKILL_BIT = 1 << 8
_PF_EXITING = 0x4
_STAT = ("mode", "ino", "dev", "nlink", "uid", "gid", "size", "rdev", "blksize", "blocks")
_STATFS = ("bsize", "frsize", "blocks", "bfree", "bavail", "files", "ffree", "favail", "flag", "namemax")


@frozen
class PassThrough:
    """
    What C{fuse.FUSE} calls, on threads of libfuse's: each operation is done on the same path under C{source}.

    A killed process leaves a hung operation, as it does with a hung NFS server. A file that was removed while open can
    be read and written, but C{fstat} does not find it.
    """

    source: str
    control: Control

    use_ns = True  # times in nanoseconds
    flag_nullpath_ok = True  # no path, but a handle, for a file that was removed while open

    def __call__(self, operation: str, *args: Any) -> Any:
        allowed = self._admit(operation, len(args[1]) if operation == "write" else 0)
        if operation == "write":
            path, content, *rest = args
            args = (path, content[:allowed], *rest)
        return getattr(self, operation)(*args)

    def _admit(self, operation: str, size: int) -> int:
        while True:
            try:
                return self.control.admit(operation, size)
            except Hangs:
                if _is_dying(fuse_get_context()[2]):
                    raise OSError(errno.EINTR, "the caller was killed") from None
                time.sleep(0.02)

    def _at(self, path: str) -> str:
        return self.source + path

    # Their names and arguments are fusepy's.

    def init(self, path: str) -> None:
        os.umask(0)

    def destroy(self, path: str) -> None:
        pass

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        found = os.lstat(self._at(path)) if fh is None else os.fstat(fh)
        times = {f"st_{name}": getattr(found, f"st_{name}_ns") for name in ("atime", "mtime", "ctime")}
        return times | {f"st_{name}": getattr(found, f"st_{name}") for name in _STAT}

    def access(self, path: str, mode: int) -> None:
        if not os.access(self._at(path), mode):
            raise PermissionError(errno.EACCES, path)

    def statfs(self, path: str) -> dict[str, int]:
        found = os.statvfs(self._at(path))
        return {f"f_{name}": getattr(found, f"f_{name}") for name in _STATFS}

    def opendir(self, path: str) -> int:
        return os.open(self._at(path), os.O_RDONLY | os.O_DIRECTORY)

    def readdir(self, path: str, fh: int) -> Sequence[str]:
        return [".", "..", *os.listdir(fh)]

    def fsyncdir(self, path: str, datasync: int, fh: int) -> None:
        os.fsync(fh)

    def releasedir(self, path: str, fh: int) -> None:
        os.close(fh)

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(self._at(path), mode)

    def rmdir(self, path: str) -> None:
        os.rmdir(self._at(path))

    def create(self, path: str, mode: int) -> int:
        return os.open(self._at(path), os.O_RDWR | os.O_CREAT, mode)

    def open(self, path: str, flags: int) -> int:
        # The kernel says where an appended byte goes; alignment is its own business too.
        return os.open(self._at(path), flags & ~(os.O_APPEND | os.O_DIRECT))

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    def write(self, path: str, content: bytes, offset: int, fh: int) -> int:
        return os.pwrite(fh, content, offset)

    def truncate(self, path: str, length: int, fh: int | None = None) -> None:
        os.truncate(self._at(path) if fh is None else fh, length)

    def flush(self, path: str, fh: int) -> None:
        os.close(os.dup(fh))

    def fsync(self, path: str, datasync: int, fh: int) -> None:
        (os.fdatasync if datasync else os.fsync)(fh)

    def release(self, path: str, fh: int) -> None:
        os.close(fh)

    def rename(self, old: str, new: str) -> None:
        os.rename(self._at(old), self._at(new))

    def link(self, target: str, source: str) -> None:
        os.link(self._at(source), self._at(target), follow_symlinks=False)

    def symlink(self, target: str, source: str) -> None:
        os.symlink(source, self._at(target))

    def readlink(self, path: str) -> str:
        return os.readlink(self._at(path))

    def unlink(self, path: str) -> None:
        os.unlink(self._at(path))

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self._at(path), mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        os.lchown(self._at(path), uid, gid)

    def utimens(self, path: str, times: tuple[int, int] | None) -> None:
        os.utime(self._at(path), ns=times or (time.time_ns(),) * 2, follow_symlinks=False)


def _is_dying(thread: int) -> bool:
    """Whether a thread was killed, or is on its way out."""
    try:
        with open(f"/proc/{thread}/status") as file:
            status = {name: value for name, _, value in (line.partition(":") for line in file)}
        with open(f"/proc/{thread}/stat") as file:
            flags = int(file.read().rpartition(")")[2].split()[6])
    except (FileNotFoundError, ProcessLookupError):
        return True
    pending = int(status["SigPnd"], 16) | int(status["ShdPnd"], 16)
    return bool(pending & _SIGKILL_BIT or flags & _PF_EXITING)
