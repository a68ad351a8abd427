"""
Crashes in a bucket, whoever's: one object after the other, on threads.
"""

import hashlib
import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from secrets import token_hex
from threading import Event
from typing import BinaryIO, Protocol

from attrs import frozen
from pydantic import Field, field_validator
from zope.interface import implementer

from collectord.concurrency.threadpool import CallFromThread, ThreadPool
from collectord.errors import StorageError
from collectord.interfaces import ICrashStorage
from collectord.model import Crash
from collectord.plugins import PluginSettings
from collectord.storage.objects.keys import Item, items_of, probe

_READ = 1024 * 1024
_WHY = 300

Proceed = Callable[[], None]
"""Raises L{StorageError} where the crash was abandoned."""


class BucketSettings(PluginSettings):
    """
    @ivar prefix: a folder for everything; Socorro's processor reads what has none.
    @ivar threads: objects that are sent at the same time.
    """

    bucket: str = Field(min_length=3, pattern=r"^[^\s/]+$")
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


class Bucket(Protocol):
    """
    A bucket to be used on threads.

    @ivar name: for logs.
    @ivar errors: what it raises besides L{StorageError}.
    """

    name: str
    errors: tuple[type[Exception], ...]

    def put(self, item: Item, proceed: Proceed) -> None:
        """
        Store C{item}, in the place of what may be there; return once it is there, as it should be.

        @param proceed: to be called now and then, where it takes long.
        """

    def delete(self, key: str) -> None:
        """Delete an object."""

    def describe_error(self, error: Exception) -> str:
        """One of its errors in words."""

    def close(self) -> None:
        """Close its connections."""


@implementer(ICrashStorage)
class BucketCrashStorage:
    """
    What an abandoned crash left is not deleted: the next try may be under way already. It is no crash without its raw
    crash.
    """

    def __init__(self, bucket: Bucket, settings: BucketSettings, call_from_thread: CallFromThread) -> None:
        self.name = bucket.name
        self._bucket = bucket
        self._settings = settings
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

    async def check(self) -> Mapping[str, int]:
        await self._workers(partial(self._try_out, probe(token_hex(8), self._settings.prefix)))
        return {}

    def _put_all(self, crash: Crash, abandoned: Event) -> None:
        def proceed() -> None:
            if abandoned.is_set():
                raise StorageError(f"bucket {self._settings.bucket}: the crash was abandoned")

        for item in items_of(crash, self._settings.prefix):
            proceed()
            self._put(item, proceed)

    def _put(self, item: Item, proceed: Proceed) -> None:
        where = f"bucket {self._settings.bucket}"
        try:
            self._bucket.put(item, proceed)
        except self._bucket.errors as e:
            raise StorageError(f"{where}: {_one_line(self._bucket.describe_error(e))}") from e
        except OSError as e:
            raise StorageError(f"{where}: {item.what} can't be read: {_one_line(str(e))}") from e
        except Mismatch as e:
            raise StorageError(f"{where}: {item.what} {e}") from e

    def _try_out(self, item: Item) -> None:
        self._put(item, lambda: None)
        with suppress(*self._bucket.errors):  # who may write need not be allowed to delete
            self._bucket.delete(item.key)


class Mismatch(Exception):
    """What was stored is not what was received; the text follows the name of the object."""


@frozen
class Digests:
    """Of some bytes."""

    md5: bytes
    sha256: bytes

    @property
    def base64_md5(self) -> str:
        return b64encode(self.md5).decode()

    @property
    def base64_sha256(self) -> str:
        return b64encode(self.sha256).decode()


def read_through(file: BinaryIO, item: Item, also: Callable[[bytes], object] = len) -> Digests:
    """
    The digests of all of C{file}, which is at its beginning again afterwards.

    @param also: gets the pieces, too.

    @raise Mismatch: it is not C{item}'s content any more.
    """
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    for piece in pieces(file, _READ):
        md5.update(piece)
        sha256.update(piece)
        also(piece)
    as_received(item, sha256.hexdigest())
    file.seek(0)
    return Digests(md5.digest(), sha256.digest())


def as_received(item: Item, sha256: str) -> None:
    """
    @raise Mismatch: it is not.
    """
    if sha256 != item.sha256:
        raise Mismatch(f"has the checksum {sha256}; it was received with {item.sha256}")


def pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    """The rest of C{file}, in pieces of this size."""
    while piece := file.read(size):
        yield piece


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()[:_WHY]
