"""
Unpacks minidumps that are packed inside of their part: in gzip or zstd, or in a zip file. Its first bytes show that.

Whatever else is packed stays as it was sent.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Final, Protocol

from collectord.errors import MalformedReport, TooLarge
from collectord.intake.bodyparser import BodyParser, PartEvent
from collectord.intake.codings import BEGIN, coding_shown_by
from collectord.intake.decoding import StreamsDecoder
from collectord.intake.formdata import Field
from collectord.intake.partheaders import Part
from collectord.intake.zipfiles import ZIP_BEGIN, ZipDecoder
from collectord.model import MINIDUMP_BEGIN, Note

_LOOKED_AT: Final = 256 * 1024
"""So many bytes of a packed file are held to see whether a minidump is in it: zstd gives nothing for 128 KiB."""


class _Decoder(Protocol):
    """Decodes a packed file. A zip file may have more files in it, each of which begins with its L{Part}."""

    def feed(self, data: bytes) -> Iterator[Part | bytes | None]: ...

    def finish(self) -> Iterator[Part | bytes | None]: ...

    def note(self) -> Note | None: ...


class _Damaged:
    """Decodes no more, since the file is damaged."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        return iter(())

    def finish(self) -> Iterator[bytes]:
        return iter(())

    def note(self) -> Note:
        return Note("left_out", "a packed minidump is damaged: what follows the damage is left out")


class UnpackingParser:
    """
    Splits a body as another parser does, and unpacks minidumps in its files.

    It is a L{BodyParser<collectord.intake.bodyparser.BodyParser>}.

    @param parser: the other one.
    @param limit: bytes that all of them together may have when they are unpacked.
    @param reserve: called with bytes of memory that are needed, or that are not needed any more. It may raise.
    """

    def __init__(self, parser: BodyParser, limit: int, reserve: Callable[[int], None]) -> None:
        self._parser = parser
        self._left = limit
        self._reserve = reserve
        self._reserved = 0
        self._held: bytes | None = None  # of a file of which it is not known whether it is a packed minidump
        self._look_from = BEGIN
        self._decoder: _Decoder | None = None
        self._notes: list[Note] = []

    def parse(self, data: bytes) -> Iterator[PartEvent]:
        """Take the next bytes, and yield what is in them."""
        return self._unpacked(self._parser.parse(data))

    def close(self) -> Iterator[PartEvent]:
        """The body has ended: yield what is still to come."""
        return self._unpacked(self._parser.close())

    def pass_over(self, *, but_for: bytes) -> None:
        """Pass over parts that are too many."""
        self._parser.pass_over(but_for=but_for)

    @property
    def structure(self) -> str:
        """What the body is."""
        return self._parser.structure

    @property
    def has_passed_over(self) -> bool:
        """Whether parts were passed over."""
        return self._parser.has_passed_over

    @property
    def is_whole(self) -> bool:
        """Whether all of the body has come."""
        return self._parser.is_whole

    @property
    def notes(self) -> list[Note]:
        """What of the body was put right."""
        return [*self._parser.notes, *self._notes]

    def _unpacked(self, events: Iterable[PartEvent]) -> Iterator[PartEvent]:
        for event in events:
            if isinstance(event, Field):
                # A minidump may come without a file name, too.
                yield from self._unpacked([Part(event.name), event.content, None]) if _is_packed(event[1]) else [event]
            elif isinstance(event, Part):
                self._decoder = None  # the file before it was passed over, so its end did not come
                self._give_back()
                self._held, self._look_from = b"", BEGIN
                yield event
            elif event is None:
                yield from self._end()
            elif self._held is not None:
                yield from self._look_at(event)
            elif self._decoder is not None:
                yield from self._decoded(self._decoder.feed(event))
            else:
                yield event

    def _look_at(self, data: bytes, *, is_all: bool = False) -> Iterator[PartEvent]:
        """Find out whether a file is a packed minidump, which may take more of its bytes."""
        held = self._held = (self._held or b"") + data
        self._take_memory(len(data))
        if len(held) < self._look_from and not is_all:
            return
        is_minidump = self._is_minidump(held, is_all=is_all)
        if is_minidump is None and len(held) < _LOOKED_AT and not is_all:
            self._look_from = 2 * len(held)
            return
        self._held = None
        self._give_back()
        if is_minidump:
            self._decoder = self._new_decoder(held)
            yield from self._decoded(self._decoder.feed(held))
        elif held:
            yield held

    def _is_minidump(self, begin: bytes, *, is_all: bool) -> bool | None:
        """Whether C{begin} is that of a packed minidump; None: it takes more of it to know."""
        if not _is_packed(begin):
            return False
        decoder, unpacked = self._new_decoder(begin), b""
        try:
            for piece in chain(decoder.feed(begin), decoder.finish() if is_all else ()):
                unpacked += piece if isinstance(piece, bytes) else b""
                if len(unpacked) >= len(MINIDUMP_BEGIN):
                    return unpacked.startswith(MINIDUMP_BEGIN)
        except (MalformedReport, TooLarge):
            return False
        return None

    def _new_decoder(self, begin: bytes) -> _Decoder:
        coding = coding_shown_by(begin)
        return ZipDecoder() if coding is None else StreamsDecoder(coding, self._left, self._take_memory)

    def _decoded(self, pieces: Iterator[Part | bytes | None]) -> Iterator[PartEvent]:
        try:
            for piece in pieces:
                if isinstance(piece, bytes):
                    self._left -= len(piece)
                    if self._left < 0:
                        raise TooLarge
                if piece != b"":
                    yield piece
        except MalformedReport:
            self._decoder = _Damaged()

    def _end(self) -> Iterator[PartEvent]:
        if self._held is not None:
            yield from self._look_at(b"", is_all=True)
        if self._decoder is not None:
            yield from self._decoded(self._decoder.finish())
            if note := self._decoder.note():
                self._notes.append(note)
            self._decoder = None
        self._give_back()
        yield None

    def _take_memory(self, size: int) -> None:
        self._reserved += size
        self._reserve(size)

    def _give_back(self) -> None:
        self._reserve(-self._reserved)
        self._reserved = 0


def _is_packed(begin: bytes) -> bool:
    return begin.startswith(ZIP_BEGIN) or coding_shown_by(begin) is not None
