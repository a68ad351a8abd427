"""
A crash as a client's report: C{multipart/form-data}, written while it is sent.
"""

import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

from attrs import field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from twisted.python.failure import Failure
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zlib_ng import zlib_ng
from zope.interface import implementer

from collectord.concurrency.threadpool import ThreadRunner
from collectord.errors import StorageError
from collectord.model import COLLECTOR_NAMES, Crash, Dump

_GZIP = 16 + zlib_ng.MAX_WBITS
_GZIP_LEVEL = 6
_AT_ONCE = 16 * 1024
"""Bytes that are compressed faster than handed to a thread."""

_MANY_PARTS = 500
"""Beyond it the annotations go as one part: collectors have a limit, and this one counts its own."""


@frozen
class Report:
    """
    @ivar length: of all that C{pieces} gives.
    """

    boundary: str
    length: int
    _text: bytes = field(repr=False)
    _dumps: Sequence[tuple[bytes, Dump]]

    @property
    def content_type(self) -> str:
        return f"multipart/form-data; boundary={self.boundary}"

    async def pieces(self) -> AsyncIterator[bytes]:
        """
        The body, of which no more than a piece of a dump is in memory at a time. It does not end as a body does where
        a dump is not what was received.

        @raise StorageError: so it is with this dump, or it can't be read.
        """
        yield self._text
        for head, dump in self._dumps:
            yield head
            async for piece in _checked(dump):
                yield piece
            yield b"\r\n"
        yield _end(self.boundary)


def make_report(crash: Crash, boundary: str) -> Report:
    """
    What a client would have sent.

    @param boundary: by chance, so that it is in no dump.
    """
    fields = {name: value for name, value in crash.raw_crash.items() if name not in COLLECTOR_NAMES}
    fields["uuid"] = crash.crash_id
    if len(fields) + len(crash.dumps) > _MANY_PARTS:
        extra = json.dumps(fields).encode()
        text = _head(boundary, "extra", "extra.json", "application/json") + extra + b"\r\n"
    else:
        text = b"".join(_head(boundary, name) + _as_text(value) + b"\r\n" for name, value in fields.items())
    dumps = [(_head(boundary, dump.name, dump.name), dump) for dump in crash.dumps]
    length = len(text) + sum(len(head) + dump.size + 2 for head, dump in dumps) + len(_end(boundary))
    return Report(boundary, length, text, dumps)


async def gzipped(pieces: AsyncIterator[bytes], in_thread: ThreadRunner) -> AsyncIterator[bytes]:
    """C{pieces}, compressed."""
    gzip = zlib_ng.compressobj(_GZIP_LEVEL, wbits=_GZIP)
    async for piece in pieces:
        compress = partial(gzip.compress, piece)
        compressed: bytes = compress() if len(piece) <= _AT_ONCE else await in_thread(compress)
        if compressed:
            yield compressed
    yield gzip.flush()


@implementer(IBodyProducer)
class PiecesProducer:
    """
    Writes pieces, and asks for the next one only while the consumer wants more.

    @ivar length: in bytes, or C{UNKNOWN_LENGTH}.
    """

    def __init__(self, pieces: AsyncIterator[bytes], length: int | None) -> None:
        self._pieces = pieces
        self.length: Any = UNKNOWN_LENGTH if length is None else length
        self._stopped = False
        self._paused: Deferred[None] | None = None

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        done: Deferred[None] = Deferred(lambda done: self.stopProducing())
        Deferred.fromCoroutine(self._write(consumer)).addBoth(self._written, done)
        return done

    def pauseProducing(self) -> None:
        if self._paused is None and not self._stopped:
            self._paused = Deferred()

    def resumeProducing(self) -> None:
        paused, self._paused = self._paused, None
        if paused is not None:
            paused.callback(None)

    def stopProducing(self) -> None:
        """What is being read meanwhile may take as long as it takes: nobody waits for it."""
        self._stopped = True
        self.resumeProducing()

    async def _write(self, consumer: IConsumer) -> None:
        async for piece in self._pieces:
            while self._paused is not None:
                await self._paused
            if self._stopped:
                return
            consumer.write(piece)

    def _written(self, result: Failure | None, done: Deferred[None]) -> None:
        if not self._stopped:  # whoever stops it must hear nothing any more
            done.callback(result)


async def _checked(dump: Dump) -> AsyncIterator[bytes]:
    digest, size = hashlib.sha256(), 0
    async for piece in dump.content.chunks():
        digest.update(piece)
        size += len(piece)
        if size > dump.size:
            break
        yield piece
    if size != dump.size or digest.hexdigest() != dump.sha256:
        raise StorageError(f"the dump {dump.name} is not what was received any more")


def _head(boundary: str, name: str, filename: str | None = None, kind: str = "application/octet-stream") -> bytes:
    disposition = f'Content-Disposition: form-data; name="{escaped(name)}"'
    if filename is not None:
        disposition += f'; filename="{escaped(filename)}"\r\nContent-Type: {kind}'
    return _utf8(f"--{boundary}\r\n{disposition}\r\n\r\n")


def _end(boundary: str) -> bytes:
    return f"--{boundary}--\r\n".encode()


def escaped(name: str) -> str:
    """A name in a header, as browsers do it."""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _as_text(value: object) -> bytes:
    return _utf8(value if isinstance(value, str) else json.dumps(value))


def _utf8(text: str) -> bytes:
    return text.encode(errors="backslashreplace")  # JSON may have half a surrogate pair
