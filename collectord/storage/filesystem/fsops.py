"""
Operations on files that are more than one system call, as they have to be done on file systems of every kind.
"""

import errno
import os
import shutil
import time
from contextlib import suppress

_PAUSES_S = (0.0, 0.01, 0.05, 0.25)
"""Before each try to remove a directory: FUSE tells its server of a closed file late."""

_STILL_OPEN = (errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY)

FULL = (errno.ENOSPC, errno.EDQUOT)
"""How file systems say that they, or what one may have of them, are full."""

NO_DIRECTORY_SYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
"""How file systems say that they sync no directories."""


def remove_tree(path: str) -> None:
    """
    Remove a directory and all that is in it; it may be gone already.

    Close first what you have open there: NFS, and most FUSE servers, keep a file that was removed while it was open in
    its directory, under a hidden name such as C{.nfs…} or C{.fuse_hidden…}.

    @raise OSError: some of it is still there.
    """
    for pause in _PAUSES_S:
        time.sleep(pause)
        failed: list[OSError] = []
        shutil.rmtree(path, onerror=lambda _, __, why, failed=failed: failed.append(why[1]))  # type: ignore[misc]
        failed = [error for error in failed if not isinstance(error, FileNotFoundError)]
        if any(error.errno not in _STILL_OPEN for error in failed):
            break
        if not failed:
            return
    raise failed[0]


def remove_any(path: str) -> None:
    """
    Remove a file, or a directory with all that is in it; it may be gone already.

    @raise OSError: some of it is still there.
    """
    if os.path.isdir(path) and not os.path.islink(path):
        remove_tree(path)
    else:
        unlink_if_there(path)


def fsync_directory(path: str) -> None:
    """
    Make its entries durable, as far as its file system knows how to.

    @raise OSError: they may not be.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as e:
        if e.errno not in NO_DIRECTORY_SYNC:
            raise
    finally:
        os.close(fd)


def unlink_if_there(path: str) -> None:
    """C{unlink}; it may be gone already."""
    with suppress(FileNotFoundError):
        os.unlink(path)
