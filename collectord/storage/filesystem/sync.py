"""
Making files and directory entries durable.

Files one by one is right on every file system. The whole file system at once is cheaper for many small crashes, and
right for a spool of its own: it waits for whatever else was written there, too.

Linux marks what it could not write back as clean, and tells of the error once: who syncs again hears of none. But it
tells each descriptor that was open at the time, whoever else was told. So every file is synced by a descriptor from
before its first write, and nothing that a failed sync covered is ever synced again: it is written anew, to a new file.
"""

import ctypes
import errno
import os
from collections.abc import Iterable, Sequence
from threading import Lock
from typing import Protocol

from collectord.storage.filesystem.fsops import fsync_directory, sync_and_close

_libc = ctypes.CDLL(None, use_errno=True)
_SYNC_FILE_RANGE_WAIT_BEFORE = 1
_SYNC_FILE_RANGE_WRITE = 2
_NOT_KNOWN = frozenset({errno.ENOSYS, errno.EINVAL, errno.ESPIPE, errno.EPERM})
"""Of a kernel, a file system or a sandbox without C{sync_file_range}."""


File = tuple[str, int]
"""A path, and a descriptor to sync and close: open since before the first write to it."""


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
        for path, fd in files:
            # Without it each fsync would wait for a journal commit of its own.
            _write_back(path, fd, _SYNC_FILE_RANGE_WRITE, failed)
    for path, fd in files:
        try:
            sync_and_close(fd)
        except OSError as e:
            failed[path] = e
    for path in directories:  # one at a time: there may be more of them than files may be open
        try:
            fsync_directory(path)
        except OSError as e:
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
        directories = set(directories)
        if self.failed:  # a file system tells of an error once: it may have been of these
            self.failed.update(dict.fromkeys(directories, next(iter(self.failed.values()))))
        try:
            self.failed.update(self._sync(files, directories))
        except Exception as e:  # a defect: nothing of it counts as synced
            self.failed.update(dict.fromkeys([path for path, _ in files], OSError(str(e))))
            raise


class SyncFilesystem:
    """C{syncfs}: everything on the file system of C{root} in one go."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._lock = Lock()
        self._held: int | None = None

    def watch(self) -> None:
        """
        Notice errors from now on; to be called before anything is written. Later calls change nothing.

        @raise OSError: the root is not there.
        """
        with self._lock:
            if self._held is None:
                self._held = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Let the file system go: while its root is held it can't be unmounted."""
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
                    # Linux before 5.8 does not tell by syncfs what went wrong with a file.
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
            # What was written may lie on either; the next time it is this one.
            self.close()
            self.watch()
            raise OSError(errno.ESTALE, "another file system is mounted there since", self._root)
        if _libc.syncfs(held) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), self._root)


def _write_back(path: str, fd: int, how: int, failed: dict[str, OSError]) -> None:
    """C{sync_file_range} of a whole file."""
    if _libc.sync_file_range(fd, ctypes.c_int64(0), ctypes.c_int64(0), how) != 0:
        code = ctypes.get_errno()
        if code not in _NOT_KNOWN:
            failed[path] = OSError(code, os.strerror(code), path)
