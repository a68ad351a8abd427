"""
What all destinations that are buckets have in common: the objects of a crash are stored one after the other, on a
thread, and checked to be what was received.
"""

import hashlib
import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from secrets import token_hex
from threading import Event
from typing import BinaryIO, Protocol, Self, TypeVar

from attrs import frozen
from pydantic import Field, field_validator
from zope.interface import implementer

from collectord.concurrency.threadpool import CallFromThread, ThreadPool
from collectord.errors import CrashRejectedByStore, StorageError, UnclearRefusal
from collectord.interfaces import ICrashStorage
from collectord.model import Crash, FetchedCrash, InMemory
from collectord.plugins import PluginSettings
from collectord.storage.objects.kept import Objects, delete_all, get_all
from collectord.storage.objects.keys import Item, items_of, probe, raw_crash_key
from collectord.storage.objects.saves import Saves

T = TypeVar("T")

_READ = 1024 * 1024
_WHY = 300
_NAME = re.compile(r"[^\s/]{3,}")

Proceed = Callable[[], None]
"""A function that raises L{StorageError} if the crash was abandoned meanwhile."""


class ObjectStoreSettings(PluginSettings):
    """
    The settings that every destination in an object store has.

    @ivar prefix: comes before all keys, as a folder. Socorro's processor reads objects without a prefix.
    @ivar threads: how many objects may be sent at the same time.
    """

    prefix: str = ""
    connect_timeout_s: float = Field(default=5.0, gt=0)
    read_timeout_s: float = Field(default=30.0, gt=0)
    threads: int = Field(default=8, gt=0, le=100)

    @field_validator("prefix")
    @classmethod
    def _is_folder(cls, prefix: str) -> str:
        if prefix.startswith("/") or "//" in prefix:
            raise ValueError("must be names with one slash between them, as in stage/crashes")
        return prefix if not prefix or prefix.endswith("/") else f"{prefix}/"


class BucketSettings(ObjectStoreSettings):
    """The settings that every destination with a bucket has."""

    bucket: str

    @field_validator("bucket")
    @classmethod
    def _is_name(cls, bucket: str) -> str:
        if not _NAME.fullmatch(bucket):
            raise ValueError("must be the name of a bucket alone, of three characters or more, without slashes")
        return bucket


class Bucket(Protocol):
    """
    A bucket stores single objects. Its methods block, and may be called from several threads at the same time.

    @ivar name: its URL, for logs.
    @ivar what: what it is called, for errors, such as C{bucket crashes}.
    @ivar errors: the exceptions that it raises besides L{StorageError} and L{Mismatch}.
    @ivar refusals: those of them by which the server says no, perhaps to this one object.
    """

    name: str
    what: str
    errors: tuple[type[Exception], ...]
    refusals: tuple[type[Exception], ...]

    def put(self, item: Item, proceed: Proceed, *, again: bool) -> None:
        """
        Store C{item}, and return once the server has confirmed that it has the right content.

        An object that has this key already is replaced.

        @param proceed: to be called now and then if this takes long.
        @param again: it was stored before. So it need not be sent, if it is seen to be there.
        """

    def get(self, key: str) -> bytes | None:
        """Return what is in an object; None: there is no object with this key."""

    def delete(self, key: str) -> None:
        """Delete the object with this key."""

    def describe_error(self, error: Exception) -> str:
        """Describe one of C{errors} in words, for the operator."""

    def close(self) -> None:
        """Close all connections."""


@implementer(ICrashStorage)
class BucketCrashStorage:
    """
    This destination keeps crashes in a bucket.

    The objects of a crash that was abandoned are not deleted, because another attempt to save the same crash may be
    under way already. They do no harm: without its raw crash, which is stored last, no reader takes them for a crash.
    """

    def __init__(self, bucket: Bucket, settings: ObjectStoreSettings, call_from_thread: CallFromThread) -> None:
        self.name = bucket.name
        self._bucket = bucket
        self._settings = settings
        self._saves = Saves()
        self._workers = ThreadPool(bucket.name, settings.threads, call_from_thread)

    async def close(self) -> None:
        try:
            await self._workers(self._bucket.close)
        finally:
            self._workers.close()

    async def save(self, crash: Crash) -> str:
        abandoned = Event()
        try:
            await self._workers(partial(self._put_all, crash, abandoned))
        finally:
            abandoned.set()
        return self.name

    def place_of(self, crash_id: str) -> str:
        """Return where the raw crash of a crash is that this keeps."""
        return f"{self.name}/{raw_crash_key(crash_id, self._settings.prefix)}"

    async def fetch(self, crash_id: str) -> FetchedCrash | None:
        """
        Read a crash that this keeps.

        @return: None if it keeps no crash of that id.

        @raise StorageError: nobody knows, or the crash is not whole.
        """
        return await self._workers(partial(self._of_kept, get_all, crash_id))

    async def erase(self, crash_id: str) -> bool:
        """
        Delete the objects of a crash, the raw crash first; return whether there were any.

        A bucket that keeps versions still has them.

        @raise StorageError: some of them may still be there.
        """
        return await self._workers(partial(self._of_kept, delete_all, crash_id))

    async def check(self) -> Mapping[str, int]:
        await self._workers(partial(self._try_out, probe(token_hex(8), self._settings.prefix)))
        return {}

    def _of_kept(self, work: Callable[[Objects, str, str], T], crash_id: str) -> T:
        """Do something with the objects of a crash that this keeps."""
        try:
            return work(self._bucket, crash_id, self._settings.prefix)
        except self._bucket.errors as e:
            raise StorageError(f"{self._bucket.what}: {_one_line(self._bucket.describe_error(e))}") from e

    def _put_all(self, crash: Crash, abandoned: Event) -> None:
        def proceed() -> None:
            if abandoned.is_set():
                raise StorageError(f"{self._bucket.what}: the crash was abandoned")

        with self._saves.of(crash.crash_id, proceed) as stored:
            for item in items_of(crash, self._settings.prefix):
                proceed()
                self._put(item, proceed, again=stored.get(item.key) == item.sha256)
                stored[item.key] = item.sha256
            proceed()  # the next attempt at a crash that was abandoned needs to know that all of it is there

    def _put(self, item: Item, proceed: Proceed, *, again: bool) -> None:
        where = self._bucket.what
        try:
            self._bucket.put(item, proceed, again=again)
        except self._bucket.errors as e:
            kind = UnclearRefusal if isinstance(e, self._bucket.refusals) else StorageError
            raise kind(f"{where}: {_one_line(self._bucket.describe_error(e))}") from e
        except OSError as e:
            raise CrashRejectedByStore(f"{where}: {item.what} can't be read: {_one_line(str(e))}") from e
        except Mismatch as e:  # of this one crash: the others need not wait
            raise CrashRejectedByStore(f"{where}: {item.what} {e}") from e

    def _try_out(self, item: Item) -> None:
        self._put(item, lambda: None, again=False)
        with suppress(*self._bucket.errors):  # credentials that allow writing need not allow deleting
            self._bucket.delete(item.key)


class Mismatch(Exception):
    """An object does not have the content that was received. The text is the second half of a sentence about it."""


@frozen
class Digests:
    """
    The checksums of some bytes.

    @ivar md5: empty if nobody needs it.
    """

    md5: bytes
    sha256: bytes

    @classmethod
    def of(cls, data: bytes) -> Self:
        """The checksums of C{data}."""
        return cls(hashlib.md5(data, usedforsecurity=False).digest(), hashlib.sha256(data).digest())

    @property
    def base64_md5(self) -> str:
        """The MD5 as HTTP headers have it."""
        return b64encode(self.md5).decode()

    @property
    def base64_sha256(self) -> str:
        """The SHA-256 as HTTP headers have it."""
        return b64encode(self.sha256).decode()


def read_through(file: BinaryIO, item: Item, *also: Callable[[bytes], object]) -> None:
    """
    Compare all of C{file} with what was received, and go back to its beginning.

    What is in memory was compared when it was read from a file, and is read once more only for C{also}.

    @param also: they are called with each piece.

    @raise Mismatch: the file no longer has the content of C{item} that was received.
    """
    sha256 = hashlib.sha256()
    is_compared = isinstance(item.content, InMemory)
    readers = also if is_compared else (sha256.update, *also)
    if readers:
        for piece in pieces(file, _READ):
            for read in readers:
                read(piece)
        file.seek(0)
    if not is_compared:
        as_received(item, sha256.hexdigest())


def md5_of(file: BinaryIO, item: Item) -> bytes:
    """L{read_through}, and return the MD5."""
    md5 = hashlib.md5(usedforsecurity=False)
    read_through(file, item, md5.update)
    return md5.digest()


def as_received(item: Item, sha256: str) -> None:
    """
    Compare a checksum, in hex, with the one that C{item} was received with.

    @raise Mismatch: they differ.
    """
    if sha256 != item.sha256:
        raise Mismatch(f"has the checksum {sha256}; it was received with {item.sha256}")


def pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Read the rest of C{file} in pieces of C{size} bytes."""
    while piece := file.read(size):
        yield piece


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()[:_WHY]
