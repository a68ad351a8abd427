"""
Turns a crash into the body of a report as a client sends it, C{multipart/form-data}, while it is being sent.
"""

import hashlib
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import quote

from attrs import field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from twisted.python.failure import Failure
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zlib_ng import zlib_ng
from zope.interface import implementer

from collectord.annotations import FORM_CHARSET
from collectord.concurrency.threadpool import ThreadRunner
from collectord.errors import StorageError
from collectord.model import COLLECTOR_NAMES, MINIDUMP, MINIDUMP_BEGIN, Crash, Dump, metadata_of

_GZIP = 16 + zlib_ng.MAX_WBITS
_GZIP_LEVEL = 6
_AT_ONCE = 16 * 1024
"""The most bytes that are compressed on the reactor thread: handing them to another thread would take longer."""

_TYPE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z/-]+)[ \t]*(;[^\0-\x1f\x7f]*)?")
_MANY_PARTS = 500
"""If there would be more parts, all annotations are sent in one, as JSON: collectors limit the number of parts."""

_LONG_NAME = 500
"""Longer names of annotations are sent in JSON: collectors limit the headers of parts."""


_MOST_NOTES = 3900
"""The most bytes of notes: proxies take 8 KiB of one header, and there are others."""


@frozen
class Report:
    """
    A report is the body of a request that posts one crash.

    @ivar length: of the whole body, in bytes.
    """

    boundary: str
    length: int
    _text: bytes = field(repr=False)
    _dumps: Sequence[tuple[bytes, Dump]]

    @property
    def content_type(self) -> str:
        """The value of the Content-Type header."""
        return f"multipart/form-data; boundary={self.boundary}"

    async def pieces(self) -> AsyncIterator[bytes]:
        """
        Give the body in pieces. At most one piece of one dump is in memory at a time.

        The checksum of a dump is known only when all of it was sent. If it is wrong, this raises an error, and the
        request is cut off before its end, so that no collector takes it for a complete report.

        @raise StorageError: a dump is not what was received, or can't be read.
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
    Make the report that a client would send for C{crash}.

    @param boundary: the text between the parts. It has to be random, so that no dump contains it.
    """
    fields = {name: value for name, value in crash.raw_crash.items() if name not in COLLECTOR_NAMES}
    fields["uuid"] = crash.crash_id
    if len(fields) + len(crash.dumps) > _MANY_PARTS or _have_to_be_json(fields):
        extra = _utf8(json.dumps(fields, ensure_ascii=False))
        text = _head(boundary, "extra", "extra.json", "application/json") + extra + b"\r\n"
    else:
        text = b"".join(_head(boundary, name) + _as_text(value) + b"\r\n" for name, value in fields.items())
    about = metadata_of(crash.raw_crash).get("dumps")
    dumps = [(_head_of_dump(boundary, dump.name, about), dump) for dump in crash.dumps]
    length = len(text) + sum(len(head) + dump.size + 2 for head, dump in dumps) + len(_end(boundary))
    return Report(boundary, length, text, dumps)


def _have_to_be_json(fields: Mapping[str, object]) -> bool:
    # JSON has a charset of its own. In a part of its own such a text would be a dump, as may be one that is called like
    # the minidump; and such a name would arrive as another one, since "%22" stands for a quote there, or would be too
    # long for the header.
    return FORM_CHARSET in fields or any(
        str(value).startswith(MINIDUMP_BEGIN.decode())
        or name.startswith(MINIDUMP)
        or "%" in name
        or len(name) > _LONG_NAME
        for name, value in fields.items()
    )


def notes_of(crash: Crash) -> str:
    """
    Return what our own collector has noted of C{crash}, as a list in JSON that fits into a header; empty if nothing.

    If it does not fit, the last notes are left out, and one more says how many.
    """
    noted = metadata_of(crash.raw_crash).get("collector_notes")
    notes = [note for note in noted if isinstance(note, str)] if isinstance(noted, list) else []
    fitting, size = 0, 0
    while fitting < len(notes) and (size := size + len(json.dumps(notes[fitting])) + 2) <= _MOST_NOTES:
        fitting += 1
    sent = notes[:fitting]
    if fitting < len(notes):
        sent.append(f"the notes of an earlier collector are too long, and {len(notes) - fitting} are left out")
    return json.dumps(sent) if sent else ""


async def gzipped(pieces: AsyncIterator[bytes], in_thread: ThreadRunner) -> AsyncIterator[bytes]:
    """Compress C{pieces} with gzip, the larger ones on a thread."""
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
    This body producer writes pieces to a request, and asks for the next one only while the connection can take more.

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
        """Write nothing more. A read that is under way is not waited for, since it may hang."""
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
        if not self._stopped:  # a producer that was stopped must not fire this Deferred any more
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
        raise StorageError(f"the dump {dump.name} no longer has the checksum that it was received with")


def _head(boundary: str, name: str, filename: str | None = None, kind: str = "application/octet-stream") -> bytes:
    disposition = f'Content-Disposition: form-data; name="{escaped(name)}"'
    if filename is not None:
        # Otherwise "%22" would arrive as a quote.
        encoded = f"*=UTF-8''{quote(_utf8(filename), safe='')}" if "%" in filename else f'="{escaped(filename)}"'
        disposition += f"; filename{encoded}\r\nContent-Type: {kind}"
    return _utf8(f"--{boundary}\r\n{disposition}\r\n\r\n")


def _head_of_dump(boundary: str, name: str, about: object) -> bytes:
    """C{about} is what a collectord noted of all dumps; another collector may have noted anything there, or nothing."""
    sent = about.get(name) if isinstance(about, dict) else None
    filename, kind = (sent.get("filename"), sent.get("content_type")) if isinstance(sent, dict) else (None, None)
    whole = _TYPE.fullmatch(kind) if isinstance(kind, str) else None
    if whole and whole[1].lower() != "application/json":  # JSON might be annotations
        return _head(boundary, name, str(filename or name), whole[0])
    return _head(boundary, name, str(filename or name))


def _end(boundary: str) -> bytes:
    return f"--{boundary}--\r\n".encode()


def escaped(name: str) -> str:
    """Escape C{name} for a Content-Disposition header, in the way in which browsers do."""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _as_text(value: object) -> bytes:
    return _utf8(value if isinstance(value, str) else json.dumps(value))


def _utf8(text: str) -> bytes:
    return text.encode(errors="backslashreplace")  # annotations from JSON may have half a surrogate pair
