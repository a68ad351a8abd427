"""
The content of dumps that are in files, and the check that it is still what was received.
"""

import errno
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from functools import partial
from io import BytesIO
from stat import S_ISREG
from typing import BinaryIO, TypeVar

from attrs import frozen

from collectord.concurrency.threadpool import ThreadRunner
from collectord.errors import StorageError, UnreadableCrash
from collectord.model import Content, Dump, InMemory
from collectord.pieces import ReaderAt

T = TypeVar("T")

_READ = 1024 * 1024


class NotAsReceived(OSError):
    """The content of a dump is not what was received: its checksum is another one."""

    def __init__(self, path: str, found: str, received: str) -> None:
        super().__init__(errno.EIO, f"has the checksum {found}; it was received with {received}", path)


@frozen
class StoredFile:
    """
    The content of a dump that is in a file of its own, which should not change.

    @ivar size: in bytes.
    @ivar in_thread: runs blocking work on a thread.
    """

    path: str
    size: int
    in_thread: ThreadRunner

    async def chunks(self) -> AsyncIterator[bytes]:
        for offset in range(0, self.size, _READ):
            try:
                yield await self.in_thread(partial(_read, self.path, offset, min(_READ, self.size - offset)))
            except OSError as e:
                raise StorageError(f"{self.path}: {e.strerror or e}") from e

    async def examine(self, work: Callable[[ReaderAt], T]) -> T:
        try:
            return await self.in_thread(partial(_examine, self.path, work))
        except OSError as e:
            raise StorageError(f"{self.path}: {e.strerror or e}") from e


@frozen
class FileReader:
    """An open file that is read at any place; as L{ReaderAt}."""

    descriptor: int

    def read_at(self, at: int, size: int) -> bytes:
        found = b""
        while len(found) < size and (more := os.pread(self.descriptor, size - len(found), at + len(found))):
            found += more
        return found


def open_content(content: Content) -> BinaryIO:
    """
    Open the content of a dump for reading, on a thread.

    @param content: in memory or in a file.

    @raise OSError: it can't be opened.
    """
    if isinstance(content, StoredFile):
        return open(content.path, "rb")
    assert isinstance(content, InMemory)
    return BytesIO(b"".join(content.pieces))


def stored_dump(name: str, path: str, sha256: str | None, in_thread: ThreadRunner, most: int = 0) -> Dump:
    """
    Read the whole file at C{path}, and return the dump that it is. It blocks.

    @param sha256: the checksum when it was received; None: nobody knows.
    @param most: the bytes of a file that stays in memory at most, so that nobody has to read and compare it again.

    @raise UnreadableCrash: the file has another checksum by now, or is no regular file.
    @raise OSError: it can't be read.
    """
    with open(path, "rb", buffering=0, opener=open_at_once) as file:
        about = os.fstat(file.fileno())
        if not S_ISREG(about.st_mode):
            raise UnreadableCrash(f"the dump {name} is no regular file")
        data = os.pread(file.fileno(), about.st_size + 1, 0) if about.st_size <= most else b""
        if data and len(data) == about.st_size:
            content: Content = InMemory([data])
            found, size = hashlib.sha256(data).hexdigest(), len(data)
        else:
            found, size = hashlib.file_digest(file, "sha256").hexdigest(), file.tell()
            content = StoredFile(path, size, in_thread)
    if sha256 not in (None, found):
        raise UnreadableCrash(f"the dump {name} has the checksum {found}; it was received with {sha256}")
    return Dump(name=name, size=size, sha256=found, content=content)


def open_at_once(path: str, flags: int) -> int:
    """An opener for C{open} that never waits. A pipe without a writer would otherwise hold the thread forever."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _examine(path: str, work: Callable[[ReaderAt], T]) -> T:
    with open(path, "rb", buffering=0) as file:
        return work(FileReader(file.fileno()))


def _read(path: str, offset: int, size: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(offset)
        data = file.read(size)
    if len(data) < size:
        raise OSError("the file is shorter than it was")
    return data
