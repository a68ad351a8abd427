"""
Writes log lines to a descriptor, to a file that is rotated, or to syslog. All of this blocks.
"""

import os
import select
import stat
import syslog
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

ROTATE_BYTES = 1_000_000
"""The size at which a log file is rotated, as twistd does it."""
_MODE = 0o640


def descriptor_sink(descriptor: int) -> Callable[[bytes], int]:
    """Return a function that writes to an open file, which may be shared with other processes."""

    def write(data: bytes) -> int:
        while True:
            try:
                return os.write(descriptor, data)
            except BlockingIOError:  # Another process that shares the file has made it non-blocking.
                writable = select.poll()
                writable.register(descriptor, select.POLLOUT)
                writable.poll()

    return write


class RotatingFile:
    """
    A log file that is rotated when it has become big: C{name} becomes C{name.1}, C{name.1} becomes C{name.2} and so on.

    A path that is no regular file, such as a FIFO, is never rotated.

    @raise OSError: the file can't be opened.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path).absolute()
        self._descriptor = self._size = -1
        self._open()

    def write(self, data: bytes) -> int:
        """Write C{data}, after rotating a file that is big. Return how many bytes were written, as C{os.write} does."""
        if self._size >= ROTATE_BYTES:
            self.rotate()
        try:
            written = os.write(self._descriptor, data)
        except OSError:
            with suppress(OSError):  # The file may have been removed, or its file system mounted anew.
                self._open()
            raise
        if self._size >= 0:
            self._size += written
        return written

    def rotate(self) -> None:
        """Rename the file and begin a new one; if that can't be done, go on with the same file."""
        if self._size < 0:
            return
        self._size = 0  # If it fails, not every line shall try it again.
        with suppress(OSError):
            for number in sorted(self._numbers(), reverse=True):
                os.rename(self._numbered(number), self._numbered(number + 1))
            with suppress(FileNotFoundError):  # Somebody else has renamed or removed it.
                os.rename(self._path, self._numbered(1))
            self._open()

    def _numbers(self) -> list[int]:
        suffixes = [path.name.removeprefix(f"{self._path.name}.") for path in self._path.parent.iterdir()]
        return [int(suffix) for suffix in suffixes if suffix.isdecimal() and int(suffix) > 0]

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _open(self) -> None:
        flags = os.O_APPEND | os.O_CREAT | os.O_NOCTTY
        # Opened for writing alone, a FIFO that nobody reads would block.
        flags |= os.O_RDWR if self._path.is_fifo() else os.O_WRONLY
        descriptor = os.open(self._path, flags, _MODE)
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = descriptor
        status = os.fstat(descriptor)
        self._size = status.st_size if stat.S_ISREG(status.st_mode) else -1
        if self._size >= 0:
            with suppress(OSError):
                os.fchmod(descriptor, _MODE)


def syslog_sink(name: str) -> Callable[[bytes], int]:
    """
    Return a function that writes lines to syslog, under C{name}.

    A line that does not begin with a priority, as C{<6>}, continues the message of the line before.
    """
    syslog.openlog(name)

    def write(data: bytes) -> int:
        priority = syslog.LOG_INFO
        for line in data.decode(errors="replace").replace("\0", "").splitlines():
            if line[:1] == "<" and line[2:3] == ">":
                priority, line = int(line[1]), line[3:]
            else:
                line = f"\t{line}"
            syslog.syslog(priority, line)
        return len(data)

    return write
