"""
Which version of a raw crash somebody has read, and whether somebody else counts on it since.
"""

import os
import time

from collectord.storage.filesystem.fsops import NOT_HERE


def version_of(file: str | int) -> tuple[int, ...]:
    """
    What tells a file from another in its place, and from itself before L{mark_as_confirmed}.

    Not by its inode: not every file system keeps the numbers of what nobody has open.
    """
    found = os.stat(file)
    return found.st_size, found.st_mtime_ns


def mark_as_confirmed(path: str) -> None:
    """
    Let whoever has read a file before see that somebody has been told since that it is there, and counts on it.

    @raise OSError: nobody may see it.
    """
    found = os.stat(path)
    # Some file systems count times in steps of two seconds.
    changed = max(time.time_ns(), found.st_mtime_ns + 2_000_000_000)
    try:
        os.utime(path, ns=(found.st_atime_ns, changed))
    except OSError as e:
        if e.errno not in NOT_HERE:  # or it belongs to another user
            raise
