"""
What a store already has under the id of a crash that it is asked to keep.

Whoever sends a crash a second time throws the last copy away once it is confirmed. So before the store confirms it,
what it has is read from the disk and compared with what was received. All of it blocks.
"""

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from stat import S_ISREG
from typing import Any

from attrs import frozen

from collectord.model import RawCrash, checksums_in
from collectord.storage.content import open_at_once
from collectord.storage.filesystem.fsops import list_directory
from collectord.storage.filesystem.layout import Place, dump_paths, files_of, place_at

_BROKEN = frozenset(
    {
        *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.EINVAL),
        *(errno.EIO, errno.ENODATA, errno.EBADMSG, errno.EUCLEAN, errno.EACCES, errno.EPERM),
        *(errno.ENOSPC, errno.EDQUOT),
    }
)
"""The errors of a file that is broken. Any other error says that the store can't be read now."""


class _Broken(Exception):
    """A crash that is there is not whole; the text says what is wrong."""


_LARGEST = 256 * 1024 * 1024
"""Bytes that no raw crash has, as annotations are limited. A larger file is broken, and is not read into memory."""


@frozen(kw_only=True)
class Existing:
    """
    What a store has under the id of a crash.

    @ivar files: the names of the files; none if there is nothing.
    @ivar problem: why they are no whole crash, in words; empty if they are one.
    @ivar checksums: the SHA-256 of each dump as it was read, by the names of the dumps.
    @ivar date_dir: the directory of the link that says that the crash is new; empty if there is no link.
    """

    files: Sequence[str]
    problem: str
    checksums: Mapping[str, str]
    date_dir: str
    _raw_crash: tuple[int, ...] | None

    def is_still_there(self, place: Place) -> bool:
        """Whether the raw crash is still the same file, or there is still nothing at all."""
        found = _identity(place.raw_crash)
        return found == self._raw_crash and (found is not None or not self.files)


NOTHING = Existing(files=[], problem="", checksums={}, date_dir="", raw_crash=None)


def look_at(place: Place) -> Existing:
    """
    Read everything that a store has of a crash.

    @raise OSError: it can't be read now.
    """
    identity = _identity(place.raw_crash)
    files = files_of(place.crash_id, list_directory(place.name_dir))
    problem, checksums, date_dir = "", {}, ""
    try:
        if files:
            raw_crash = _read_raw_crash(place)
            checksums, date_dir = _read_dumps(place, files, raw_crash), _date_dir(place, raw_crash)
    except _Broken as e:
        problem = str(e)
    return Existing(files=files, problem=problem, checksums=checksums, date_dir=date_dir, raw_crash=identity)


def _date_dir(place: Place, raw_crash: RawCrash) -> str:
    with suppress(ValueError):
        there = place_at(place.root, place.crash_id, str(raw_crash.get("submitted_timestamp")))
        return there.date_dir if os.path.lexists(there.link) else ""
    return ""


def _read_raw_crash(place: Place) -> RawCrash:
    try:
        raw_crash = json.loads(_content(place.raw_crash, "the raw crash"))
    except (ValueError, RecursionError) as e:
        raise _Broken(f"the raw crash is no JSON: {e}") from e
    if not isinstance(raw_crash, dict):
        raise _Broken("the raw crash is no JSON object")
    if raw_crash.get("uuid") != place.crash_id:
        raise _Broken(f"the raw crash says uuid {raw_crash.get('uuid')!r}")
    return raw_crash


def _read_dumps(place: Place, files: Sequence[str], raw_crash: RawCrash) -> dict[str, str]:
    received = checksums_in(raw_crash)
    if received is None:
        raise _Broken("the raw crash has no dump_checksums")
    paths = dump_paths(place.crash_id, place.name_dir, files)
    for name, sha256 in received.items():
        if name not in paths:
            raise _Broken(f"the dump {name} is missing")
        found = _checksum(paths[name], f"the dump {name}")
        if found != sha256:
            raise _Broken(f"the dump {name} has the checksum {found}; it was received with {sha256}")
    return dict(received)


def _content(path: str, what: str) -> bytes:
    with _opened(path, what) as file:
        if os.fstat(file.fileno()).st_size > _LARGEST:
            raise _Broken(f"{what} is larger than any that is received")
        return bytes(file.read(_LARGEST))


def _checksum(path: str, what: str) -> str:
    with _opened(path, what) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _opened(path: str, what: str) -> Iterator[Any]:
    """
    Open a regular file, and make sure that its content comes from the disk.

    Whoever wrote it may not have synced it, and what the kernel has in memory need not be what is on the disk.
    """
    try:
        with open(path, "rb", buffering=0, opener=_open_itself) as file:
            if not S_ISREG(os.fstat(file.fileno()).st_mode):
                raise _Broken(f"{what} is no regular file")
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            yield file
    except OSError as e:
        if e.errno not in _BROKEN:
            raise
        raise _Broken(f"{what} can't be read: {e.strerror}") from e


def _open_itself(path: str, flags: int) -> int:
    return open_at_once(path, flags | os.O_NOFOLLOW)


def _identity(path: str) -> tuple[int, ...] | None:
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
