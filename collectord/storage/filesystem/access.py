"""
Whether this process may put the crashes of today in their places.
"""

import errno
import os
import secrets
from contextlib import suppress
from datetime import UTC, datetime


def refuse_unusable_today(root: str) -> None:
    """
    Refuse a store at C{root} in which a directory of today is one where no crash can be put.

    The staging directory may well be in order while the directory of the day is not. One start as another user, or a
    backup that another user restored, leaves a directory that this process may not write to. An administrator may have
    put the day on another disk, and no file can be renamed to another file system, nor to another mount of the same
    one. A directory that is not there yet is made with the first crash. This blocks.

    @raise OSError: there is one; C{filename} is its path.
    """
    now = datetime.now(UTC)
    day = f"{root}/{now:%Y%m%d}"
    name, date = f"{day}/name", f"{day}/date"
    for path in filter(os.path.lexists, (root, day, name, date, f"{date}/{now:%H}")):
        if not os.access(path, os.W_OK | os.X_OK, effective_ids=True):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
    path = name if os.path.lexists(name) else day  # only links are made in the other branch, and none is renamed
    if not _can_rename(f"{root}/staging", path):
        raise OSError(errno.EXDEV, "no crash can be renamed to it, for it is on another file system or mount", path)


def _can_rename(there: str, here: str) -> bool:
    """Whether both directories are on one file system and one mount; also if one of them is not there."""
    with suppress(FileNotFoundError):
        if os.stat(there).st_dev != os.stat(here).st_dev:
            return False
        # Two mounts of one file system have the same number. For a file that is not there the system compares the
        # mounts first, and then changes nothing.
        missing = secrets.token_hex(8)
        try:
            os.rename(f"{there}/{missing}", f"{here}/{missing}")
        except OSError as e:
            return e.errno != errno.EXDEV
    return True
