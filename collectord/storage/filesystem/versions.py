"""
Telling whether a raw crash is still the one that was read before, and whether somebody else counts on it since.
"""

import os
import time

from collectord.storage.filesystem.fsops import NOT_HERE


def version_of(file: str | int) -> tuple[int, ...]:
    """
    The size and the modification time of a file, by its path or descriptor.

    They change if another file takes its place, and by L{mark_as_confirmed}. The inode number is no part of it: some
    file systems give a file another one once nobody has it open.

    @raise OSError: there is no such file.
    """
    found = os.stat(file)
    return found.st_size, found.st_mtime_ns


def read_with_version(path: str) -> tuple[bytes, tuple[int, ...]]:
    """
    Read a raw crash, and its L{version_of} at that time.

    It is read by as few system calls as possible: each of them hands the interpreter over to another thread.

    @raise OSError: it can't be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        version = version_of(descriptor)
        content = os.read(descriptor, version[0] + 1)
        # A disk that fails in the middle gives what came before that, and its error the next time.
        while len(content) < version[0] and (more := os.read(descriptor, version[0])):
            content += more
        return content, version
    finally:
        os.close(descriptor)


def mark_as_confirmed(path: str) -> None:
    """
    Note that somebody was just told that a crash is kept, and counts on it, by the modification time of its raw crash.
    Whoever read the raw crash before sees that by its L{version_of}, and does not remove it.

    @raise OSError: nobody may see it.
    """
    found = os.stat(path)
    # Some file systems store times in steps of two seconds.
    changed = max(time.time_ns(), found.st_mtime_ns + 2_000_000_000)
    try:
        os.utime(path, ns=(found.st_atime_ns, changed))
    except OSError as e:
        if e.errno not in NOT_HERE:  # or it belongs to another user
            raise
