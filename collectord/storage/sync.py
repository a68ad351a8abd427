"""
Making files and directory entries durable.

Files one by one is right on every file system. The whole file system at once is cheaper for many small crashes, and
right for a spool of its own: it waits for whatever else was written there, too.
"""

import ctypes
import os
from collections.abc import Iterable
from typing import Protocol

_libc = ctypes.CDLL(None, use_errno=True)
_SYNC_FILE_RANGE_WRITE = 2


class Sync(Protocol):
    """A way to make things durable; blocking."""

    def __call__(self, files: Iterable[str], directories: Iterable[str], /) -> dict[str, OSError]:
        """
        Return when all that succeeded is on disk.

        @return: what did not, and why.
        """


def sync_each(files: Iterable[str], directories: Iterable[str], /) -> dict[str, OSError]:
    """C{fsync} each; the writing of all files is started before the first is waited for."""
    failed: dict[str, OSError] = {}
    opened: list[tuple[str, int]] = []
    for path in files:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as e:
            failed[path] = e
        else:
            _start_writing(fd)
            opened.append((path, fd))
    for path in directories:
        try:
            opened.append((path, os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)))
        except OSError as e:
            failed[path] = e
    for path, fd in opened:
        try:
            os.fsync(fd)
        except OSError as e:
            failed[path] = e
        finally:
            os.close(fd)
    return failed


class SyncFilesystem:
    """C{syncfs}: everything on the file system of C{root} in one go."""

    def __init__(self, root: str) -> None:
        self._root = root

    def __call__(self, files: Iterable[str], directories: Iterable[str], /) -> dict[str, OSError]:
        try:
            fd = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                if _libc.syncfs(fd) != 0:
                    code = ctypes.get_errno()
                    raise OSError(code, os.strerror(code), self._root)
            finally:
                os.close(fd)
        except OSError as e:
            return dict.fromkeys([*files, *directories], e)
        return {}


def _start_writing(fd: int) -> None:
    # A hint only: without it each fsync would wait for a journal commit of its own.
    _libc.sync_file_range(fd, ctypes.c_int64(0), ctypes.c_int64(0), _SYNC_FILE_RANGE_WRITE)
