"""
Dumps as they lie in a source, and the checks that they are still what was received.
"""

import errno
import hashlib
import os
from collections.abc import AsyncIterator
from functools import partial
from io import BytesIO
from stat import S_ISREG
from typing import BinaryIO

from attrs import frozen

from collectord.concurrency.threadpool import ThreadRunner
from collectord.errors import StorageError, UnreadableCrash
from collectord.model import Content, Dump, InMemory

_READ = 1024 * 1024


class NotAsReceived(OSError):
    """
    What was read is not what was received, by its checksum.
    """

    def __init__(self, path: str, found: str, received: str) -> None:
        super().__init__(errno.EIO, f"has the checksum {found}; it was received with {received}", path)


@frozen
class StoredFile:
    """
    The content of a dump that is a file of its own, and should not change.
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


def open_content(content: Content) -> BinaryIO:
    """
    C{content} to be read on a thread, wherever it lies.

    @raise OSError: it can't be opened.
    """
    if isinstance(content, StoredFile):
        return open(content.path, "rb")
    assert isinstance(content, InMemory)
    return BytesIO(b"".join(content.pieces))


def stored_dump(name: str, path: str, sha256: str | None, in_thread: ThreadRunner) -> Dump:
    """
    The dump in the file at C{path}; reads all of it.

    @param sha256: what it was when it was received; None: nobody knows.

    @raise UnreadableCrash: it is another by now.
    @raise OSError: it can't be read.
    """
    with open(path, "rb", buffering=0, opener=open_at_once) as file:
        if not S_ISREG(os.fstat(file.fileno()).st_mode):
            raise UnreadableCrash(f"the dump {name} is no regular file")
        found = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
    if sha256 not in (None, found):
        raise UnreadableCrash(f"the dump {name} has the checksum {found}; it was received with {sha256}")
    return Dump(name=name, size=size, sha256=found, content=StoredFile(path, size, in_thread))


def open_at_once(path: str, flags: int) -> int:
    """For C{open}: a pipe without a writer does not hold the thread for ever."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _read(path: str, offset: int, size: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(offset)
        data = file.read(size)
    if len(data) < size:
        raise OSError("shorter than it was")
    return data
