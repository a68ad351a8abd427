"""
File operations that take more than one system call, each in the one way that works on file systems of every kind.

All of them block, and every module of this folder uses these.
"""

import errno
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from collectord.storage.content import NotAsReceived, open_at_once
from collectord.storage.files import sync_and_close

FULL = (errno.ENOSPC, errno.EDQUOT)
"""The errors of a file system that is full, or of a user whose quota is used up."""

NOT_HERE = (
    *(errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EMLINK),
    *(errno.EXDEV, errno.EROFS),
)
"""The errors of a file system that does not support an operation."""

_NO_DIRECTORY_SYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
"""The errors of a file system that cannot sync directories."""

_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)
"""The errors of a file system without C{flock}: Lustre without C{-o flock}, NFS without its lock daemon."""

STILL_OPEN = (errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY)
"""The errors of removing a directory that still has a file which was removed while it was open."""

_PAUSES_S = (0.0, 0.01, 0.05, 0.25)
"""The pause before each try to remove a directory: FUSE tells its server late that a file was closed."""

_WRITE = 128 * 1024
"""About how many bytes one system call writes. With more, Linux takes larger pages, which are often not in the CPU's
cache; writing them was five times as expensive."""

_VECTOR = 1024
"""How many pieces one system call takes (IOV_MAX)."""


def list_directory(path: str, errors: list[OSError] | None = None) -> list[str]:
    """
    The names in a directory, in no order; none if it does not exist.

    @param errors: if given, any other error is added to it instead of being raised.

    @raise OSError: the directory cannot be read.
    """
    try:
        return os.listdir(path)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as e:
        if errors is None:
            raise
        errors.append(e)
        return []


def see_changes(directory: str) -> None:
    """
    Let this process see at once which files others have made in a directory, or removed.

    An NFS client that was asked for a file goes on to say from memory whether it is there, for up to a minute. When the
    directory is opened, it asks the server whether anything in it has changed.
    """
    with suppress(OSError):  # it is gone, or no directory
        os.close(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))


def create_file(path: str, mode: int = 0o600) -> int:
    """
    Create a file that must not exist yet, and return a descriptor to write to it.

    @raise FileExistsError: something has that name.
    """
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)


def create_empty(path: str) -> None:
    """
    Create an empty file that must not exist yet.

    @raise FileExistsError: something has that name.
    """
    os.close(create_file(path))


def write_all(fd: int, pieces: Sequence[bytes]) -> None:
    """Write all of C{pieces}, one after the other, in as few system calls as makes sense."""
    for vector in _vectors(pieces):
        left = sum(map(len, vector)) - os.writev(fd, vector)
        if left:  # rare: a signal came, or the disk is nearly full
            view = memoryview(b"".join(vector))[-left:]
            while view:
                view = view[os.write(fd, view) :]


def _vectors(pieces: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """C{pieces} in groups, one for each system call."""
    vector: list[bytes] = []
    size = 0
    for piece in pieces:
        if vector and (size + len(piece) > _WRITE or len(vector) == _VECTOR):
            yield vector
            vector, size = [], 0
        vector.append(piece)
        size += len(piece)
    if vector:
        yield vector


def copy_verified(fd: int, path: str, sha256: str) -> None:
    """
    Write the content of the file at C{path} to C{fd}, and check what was written by its checksum.

    @raise NotAsReceived: it has another checksum than C{sha256}.
    """
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0, opener=open_at_once) as source:
        while piece := source.read(_WRITE):
            digest.update(piece)
            write_all(fd, [piece])
    if digest.hexdigest() != sha256:
        raise NotAsReceived(path, digest.hexdigest(), sha256)


def fsync_directory(path: str) -> None:
    """
    Make the entries of a directory durable, as far as its file system can.

    @raise OSError: they may not be durable.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_and_close(fd)
    except OSError as e:
        if e.errno not in _NO_DIRECTORY_SYNC:
            raise


def unlink_if_there(path: str) -> None:
    """Remove a file, unless it is gone already."""
    with suppress(FileNotFoundError):
        os.unlink(path)


def try_unlink(path: str) -> bool:
    """Remove a file, and return whether it is gone."""
    try:
        unlink_if_there(path)
    except OSError:
        return False
    return True


def try_hard_link(path: str, link: str) -> bool:
    """
    Make C{link} a hard link to the file at C{path}, and return whether this file system has hard links.

    @raise FileExistsError: C{link} exists.
    """
    try:
        os.link(path, link)
    except OSError as e:
        if e.errno in NOT_HERE:
            return False
        raise
    return True


def remove_tree(path: str) -> None:
    """
    Remove a directory and everything in it, unless it is gone already.

    Close the files that you have open there first. NFS and most FUSE servers do not remove an open file: they keep it
    in its directory under a hidden name, such as C{.nfs…} or C{.fuse_hidden…}, until it is closed.

    @raise OSError: some of it is still there.
    """
    for pause in _PAUSES_S:
        time.sleep(pause)
        failed: list[OSError] = []
        shutil.rmtree(path, onerror=lambda _, __, why, failed=failed: failed.append(why[1]))  # type: ignore[misc]
        failed = [error for error in failed if not isinstance(error, FileNotFoundError)]
        if any(error.errno not in STILL_OPEN for error in failed):
            break
        if not failed:
            return
    raise failed[0]


def remove_any(path: str) -> None:
    """
    Remove a file, or a directory and everything in it, unless it is gone already.

    @raise OSError: some of it is still there.
    """
    if os.path.isdir(path) and not os.path.islink(path):
        remove_tree(path)
    else:
        unlink_if_there(path)


def lock(fd: int, how: int) -> bool:
    """
    Take a C{flock}, and return whether the file system has such locks at all.

    @param how: C{LOCK_EX}, for example.
    @raise BlockingIOError: C{how} has C{LOCK_NB}, and somebody else holds the lock.
    """
    try:
        fcntl.flock(fd, how)
    except OSError as e:
        if e.errno not in _NO_LOCKS:
            raise
        return False
    return True


@contextmanager
def locked(path: str, how: int, *, create: bool = True) -> Iterator[None]:
    """
    Hold the lock of the file at C{path} for the length of a C{with} block.

    @param how: as L{lock} has it.
    @param create: create the file if it does not exist.
    @raise BlockingIOError: as L{lock} has it.
    """
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
    try:
        lock(fd, how)
        yield
    finally:
        os.close(fd)
