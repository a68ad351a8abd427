"""
Making files and directory entries durable, in one of two ways.

Syncing each file is right on every file system. Syncing the whole file system at once is cheaper for many small
crashes. It waits for everything that was written there, so it is right only if nothing else writes to that file system.

If Linux could not write a page to the disk, it marks the page as clean and reports the error once. A second sync of the
same file reports success. But every descriptor that was open at the time hears of the error, even if another one has
heard of it. So each file is synced by a descriptor that was open before the first write, and nothing that a failed sync
covered is synced again: it is written again, to a new file.
"""

import ctypes
import errno
import os
from collections.abc import Iterable, Sequence
from threading import Lock
from typing import Protocol

from collectord.storage.files import sync_and_close
from collectord.storage.filesystem.fsops import fsync_directory

_libc = ctypes.CDLL(None, use_errno=True)
_SYNC_FILE_RANGE_WAIT_BEFORE = 1
_SYNC_FILE_RANGE_WRITE = 2
_NOT_KNOWN = frozenset({errno.ENOSYS, errno.EINVAL, errno.ESPIPE, errno.EPERM})
"""The errors of a kernel, a file system or a sandbox without C{sync_file_range}."""


File = tuple[str, int]
"""A path, and a descriptor that is to be synced and closed. It was open before the first write to the file."""


class Sync(Protocol):
    """A way to make files and directory entries durable. It blocks."""

    def __call__(self, files: Sequence[File], directories: Iterable[str], /) -> dict[str, OSError]:
        """
        Make files and the entries of directories durable, and close the files.

        @return: what is not durable, by path, and why.
        """


def sync_each(files: Sequence[File], directories: Iterable[str], /) -> dict[str, OSError]:
    """Sync each file and directory by itself, as L{Sync} has it."""
    failed: dict[str, OSError] = {}
    if len(files) > 1:
        for path, fd in files:
            # Start to write all files before waiting for the first. Otherwise, each fsync would wait for a
            # journal commit of its own.
            _write_back(path, fd, _SYNC_FILE_RANGE_WRITE, failed)
    for path, fd in files:
        try:
            sync_and_close(fd)
        except OSError as e:
            failed[path] = e
    for path in directories:  # one at a time, for there may be more of them than files may be open
        try:
            fsync_directory(path)
        except OSError as e:
            failed[path] = e
    return failed


class Batch:
    """
    Files that are to be synced together, but no more at a time than may be open.

    @param sync: how.
    @param most: how many files may be open.
    @ivar failed: what is not durable, by path, and why.
    """

    def __init__(self, sync: Sync, most: int) -> None:
        self._sync = sync
        self._most = most
        self._files: list[File] = []
        self.failed: dict[str, OSError] = {}

    def append(self, file: File) -> None:
        """Add a file. The batch closes it."""
        self._files.append(file)
        if len(self._files) >= self._most:
            self.sync(())

    def sync(self, directories: Iterable[str]) -> None:
        """Sync the files that were not synced yet, and C{directories}."""
        files, self._files = self._files, []
        directories = set(directories)
        if self.failed:  # a file system reports an error once, and it may have been one of these directories
            self.failed.update(dict.fromkeys(directories, next(iter(self.failed.values()))))
        try:
            self.failed.update(self._sync(files, directories))
        except Exception as e:  # a bug: none of it counts as durable
            self.failed.update(dict.fromkeys([path for path, _ in files], OSError(str(e))))
            raise


class SyncFilesystem:
    """
    Syncs the whole file system of C{root} at once, by C{syncfs}, as L{Sync} has it.

    It keeps the root open, since an error is reported to the descriptors that were open when it happened. Any thread
    may call L{watch} and L{close}.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._lock = Lock()
        self._held: int | None = None

    def watch(self) -> None:
        """
        Notice errors from now on. It has to be called before anything is written; later calls do nothing.

        @raise OSError: the root is not there.
        """
        with self._lock:
            if self._held is None:
                self._held = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Close the root: while it is open, the file system can't be unmounted."""
        with self._lock:
            held, self._held = self._held, None
            if held is not None:
                os.close(held)

    def __call__(self, files: Sequence[File], directories: Iterable[str], /) -> dict[str, OSError]:
        failed: dict[str, OSError] = {}
        try:
            self._sync()
        except OSError as e:
            failed = dict.fromkeys([*(path for path, _ in files), *directories], e)
        for path, fd in files:
            try:
                try:
                    # Before Linux 5.8, syncfs does not report the errors of single files.
                    _write_back(path, fd, _SYNC_FILE_RANGE_WAIT_BEFORE, failed)
                finally:
                    os.close(fd)
            except OSError as e:
                failed[path] = e
        return failed

    def _sync(self) -> None:
        self.watch()
        held = self._held
        assert held is not None
        if os.fstat(held).st_dev != os.stat(self._root).st_dev:
            # Nobody knows on which of the two the files were written. From now on, this one counts.
            self.close()
            self.watch()
            raise OSError(errno.ESTALE, "another file system is mounted there since", self._root)
        if _libc.syncfs(held) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), self._root)


def _write_back(path: str, fd: int, how: int, failed: dict[str, OSError]) -> None:
    """Call C{sync_file_range} for a whole file, and add an error to C{failed}."""
    if _libc.sync_file_range(fd, ctypes.c_int64(0), ctypes.c_int64(0), how) != 0:
        code = ctypes.get_errno()
        if code not in _NOT_KNOWN:
            failed[path] = OSError(code, os.strerror(code), path)
