"""
Whether a file system has room for more crashes.
"""

import errno
import os

from collectord.units import size_in_words

_MOST_INODES = 1000
"""At most so many inodes are kept free: a group of crashes takes about half as many."""

_LEAST_INODES = 16
"""At least so many inodes are kept free: one crash may take as many, with its directories."""


def free_bytes(path: str) -> int | None:
    """
    How many bytes an ordinary user may still write below C{path}. It blocks.

    @return: None if nobody knows.

    @raise OSError: C{path} is not there.
    """
    return _free(os.statvfs(path))


def total_bytes(path: str) -> int | None:
    """
    How large the file system of C{path} is, as far as an ordinary user may write to it. It blocks.

    @return: None if nobody knows.

    @raise OSError: C{path} is not there.
    """
    stat = os.statvfs(path)
    # Some blocks are kept for root, and are neither used nor free.
    return (stat.f_blocks - stat.f_bfree + stat.f_bavail) * (stat.f_frsize or stat.f_bsize) or None


def refuse_full(path: str, min_free_bytes: int) -> int | None:
    """
    Refuse a file system that counts as full, a little before it is. It blocks.

    @return: how many bytes an ordinary user may still write below C{path}; None if nobody knows. Some file systems
        (ramfs, many FUSE ones) report nothing but zeros.

    @raise OSError: it counts as full, or C{path} is not there.
    """
    stat = os.statvfs(path)
    # Many file systems count no inodes (btrfs, vfat, NFS that serves such a one): 0 of 0 are free.
    if stat.f_files and stat.f_favail < (least := _least_inodes(stat.f_files)):
        raise OSError(errno.ENOSPC, f"{stat.f_favail} inodes are free, and {least} are kept free")
    free = _free(stat)
    if free == 0:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if free is not None and free < min_free_bytes:
        raise OSError(
            errno.ENOSPC, f"{size_in_words(free)} are free, less than min_free_bytes ({size_in_words(min_free_bytes)})"
        )
    return free


def _free(stat: os.statvfs_result) -> int | None:
    return stat.f_bavail * (stat.f_frsize or stat.f_bsize) if stat.f_blocks else None


def _least_inodes(there: int) -> int:
    """How many inodes are kept free: a hundredth of them, within bounds."""
    return max(_LEAST_INODES, min(_MOST_INODES, there // 100))
