"""
Making files and directory entries durable.

Files one by one is right on every file system. The whole file system at once is cheaper for many small crashes, and
right for a spool of its own: it waits for whatever else was written there, too.
"""

import ctypes
import os
from collections.abc import Iterable, Sequence
from typing import Protocol

from collectord.storage.fsops import NO_DIRECTORY_SYNC

_libc = ctypes.CDLL(None, use_errno=True)
_SYNC_FILE_RANGE_WRITE = 2


File = tuple[str, int]
"""A path, and a descriptor to sync and close."""


class Sync(Protocol):
    """A way to make things durable; blocking."""

    def __call__(self, files: Sequence[File], directories: Iterable[str], /) -> dict[str, OSError]:
        """
        Return when all that succeeded is on disk. The files are closed.

        @return: what did not, by path, and why.
        """


def sync_each(files: Sequence[File], directories: Iterable[str], /) -> dict[str, OSError]:
    """C{fsync} each; the writing of all files is started before the first is waited for."""
    failed: dict[str, OSError] = {}
    if len(files) > 1:
        for _, fd in files:
            _start_writing(fd)
    for path, fd in files:
        try:
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as e:
            failed[path] = e
    for path in directories:  # one at a time: there may be more of them than files may be open
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as e:
            if e.errno not in NO_DIRECTORY_SYNC:
                failed[path] = e
    return failed


class Batch:
    """
    Files that are to be synced together, as many at a time as may be open.

    @param most: that may be open.
    @ivar failed: what was not synced, by path, and why.
    """

    def __init__(self, sync: Sync, most: int) -> None:
        self._sync = sync
        self._most = most
        self._files: list[File] = []
        self.failed: dict[str, OSError] = {}

    def append(self, file: File) -> None:
        """One more; the batch closes it."""
        self._files.append(file)
        if len(self._files) >= self._most:
            self.sync(())

    def sync(self, directories: Iterable[str]) -> None:
        """All that were not synced yet, and C{directories}."""
        files, self._files = self._files, []
        try:
            self.failed.update(self._sync(files, directories))
        except Exception as e:  # a defect: nothing of it counts as synced
            self.failed.update(dict.fromkeys([path for path, _ in files], OSError(str(e))))
            raise


class SyncFilesystem:
    """C{syncfs}: everything on the file system of C{root} in one go."""

    def __init__(self, root: str) -> None:
        self._root = root

    def __call__(self, files: Sequence[File], directories: Iterable[str], /) -> dict[str, OSError]:
        failed: dict[str, OSError] = {}
        try:
            fd = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                if _libc.syncfs(fd) != 0:
                    code = ctypes.get_errno()
                    raise OSError(code, os.strerror(code), self._root)
            finally:
                os.close(fd)
        except OSError as e:
            failed = dict.fromkeys([*(path for path, _ in files), *directories], e)
        for path, fd in files:
            try:
                os.close(fd)
            except OSError as e:
                failed[path] = e
        return failed


def _start_writing(fd: int) -> None:
    # A hint only: without it each fsync would wait for a journal commit of its own.
    _libc.sync_file_range(fd, ctypes.c_int64(0), ctypes.c_int64(0), _SYNC_FILE_RANGE_WRITE)
