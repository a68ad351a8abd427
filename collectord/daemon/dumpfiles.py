"""
Looks at the file of a dump, for the page of its crash: what it is, and whether it still is what was received.

All of it blocks.
"""

import os
from functools import lru_cache

from attrs import frozen

from collectord.errors import UnreadableMinidump
from collectord.minidump.summary import minidump_in_words
from collectord.model import MINIDUMP_BEGIN
from collectord.observe.crashpage import DumpFile
from collectord.storage.content import FileReader, open_at_once
from collectord.storage.filesystem.finder import sha256_of

_LONGEST = 256 * 1024 * 1024
"""Bytes of a file that is read to its end for its checksum."""
_HEAD = 4096
_BEGINNINGS = (
    (MINIDUMP_BEGIN, "minidump that can't be read"),
    (b"\x1f\x8b", "gzip"),
    (b"PK\x03\x04", "zip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x89PNG\r\n\x1a\n", "PNG image"),
    (b"\xff\xd8\xff", "JPEG image"),
    (b"SQLite format 3\0", "SQLite database"),
    (b"%PDF-", "PDF"),
)
"""What some files begin with."""


@frozen
class _Version:
    """A file as it was at one time. Another content has another version."""

    path: str
    inode: int
    size: int
    changed: int


def dump_file(name: str, path: str, expected: str) -> DumpFile:
    """
    Say what is known of a dump by its file.

    @param expected: its SHA-256 by the raw crash; empty if it has none.
    """
    try:
        found = os.stat(path)
        version = _Version(path, found.st_ino, found.st_size, found.st_mtime_ns)
        is_whole = None if not expected or found.st_size > _LONGEST else _checksum(version) == expected
        return DumpFile(name=name, size=found.st_size, expected=expected, kind=_kind(version), is_whole=is_whole)
    except OSError as e:
        return DumpFile(name=name, size=None, expected=expected, problem=f"it can't be read: {e.strerror or e}")


@lru_cache(maxsize=1024)
def _checksum(version: _Version) -> str:
    """The page asks again every few seconds."""
    return sha256_of(version.path)


@lru_cache(maxsize=1024)
def _kind(version: _Version) -> str:
    with open(version.path, "rb", buffering=0, opener=open_at_once) as file:
        reader = FileReader(file.fileno())
        try:
            return minidump_in_words(reader)
        except UnreadableMinidump:
            return _kind_by_beginning(reader.read_at(0, _HEAD))


def _kind_by_beginning(head: bytes) -> str:
    """Return what a file is that begins so; empty if that is not known."""
    if not head:
        return "empty"
    for beginning, kind in _BEGINNINGS:
        if head.startswith(beginning):
            return kind
    text = head.decode("utf-8", "ignore")
    is_text = b"\0" not in head and len(text.encode()) >= len(head) - 3  # The last character may be cut.
    return "text" if is_text else ""
