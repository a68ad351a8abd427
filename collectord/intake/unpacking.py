"""
Unpacks minidumps that are packed inside of their part: in gzip, zstd, xz or bzip2, in a zip file, or in a whole form.
The first bytes show that.

Whatever else is packed stays as it was sent.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Final, Protocol

from collectord.errors import MalformedReport, TooLarge
from collectord.intake.bodyparser import BodyParser, PartEvent
from collectord.intake.codings import BEGIN
from collectord.intake.decoding import StreamsDecoder
from collectord.intake.formdata import Field
from collectord.intake.innerform import FORM_BEGIN, LONGEST_BEGIN, InnerForm, boundary_shown_by
from collectord.intake.packings import packing_shown_by
from collectord.intake.partheaders import Part
from collectord.intake.zipfiles import ZIP_BEGIN, ZipDecoder
from collectord.model import MINIDUMP, MINIDUMP_BEGIN, Note

_LOOKED_AT: Final = 1024 * 1024
"""So many bytes of a packed file are held to see whether a minidump is in it: bzip2 gives nothing for 900,000."""


class _Decoder(Protocol):
    """Decodes a packed file. A zip file may have more files in it, each of which begins with its L{Part}."""

    def feed(self, data: bytes) -> Iterator[PartEvent]: ...

    def finish(self) -> Iterator[PartEvent]: ...

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
        self._held: bytearray | None = None  # of a file of which it is not known whether it is a packed minidump
        self._part: Part | None = None  # that of such a file, if it may be a form instead
        self._given: list[PartEvent] = []  # what is in such a file so far
        self._begin = b""
        self._decoder: _Decoder | None = None
        self._notes: list[Note] = []
        self._has_passed_over = False

    def parse(self, data: bytes) -> Iterator[PartEvent]:
        """Take the next bytes, and yield what is in them."""
        return self._unpacked(self._parser.parse(data))

    def close(self) -> Iterator[PartEvent]:
        """The body has ended: yield what is still to come."""
        return self._unpacked(self._parser.close())

    def pass_over(self, *, but_for: bytes) -> None:
        """Pass over parts that are too many."""
        self._has_passed_over = True
        (self._decoder if isinstance(self._decoder, InnerForm) else self._parser).pass_over(but_for=but_for)

    @property
    def structure(self) -> str:
        """What the body is."""
        return self._parser.structure

    @property
    def has_passed_over(self) -> bool:
        """Whether parts were passed over."""
        return self._has_passed_over

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
                self._held, self._decoder, self._given, self._begin = bytearray(), None, [], b""
                self._give_back()
                self._part = event if event.name == MINIDUMP else None
                if self._part is None:
                    yield event
            elif event is None:
                yield from self._end()
            elif self._held is not None:
                yield from self._look_at(self._held, event)
            elif self._decoder is not None:
                yield from self._decoded(self._decoder.feed(event))
            else:
                yield event

    def _look_at(self, held: bytearray, data: bytes, *, is_all: bool = False) -> Iterator[PartEvent]:
        """Find out whether a file is a packed minidump, which may take more of its bytes."""
        held += data
        self._take_memory(2 * len(data))  # as it came, and what is in it
        if self._decoder is None:
            if len(held) < (LONGEST_BEGIN if self._may_be_form(held) else BEGIN) and not is_all:
                return
            data = bytes(held)
            self._decoder = self._new_decoder(data)
        is_minidump: bool | None = False
        if self._decoder is not None:
            events = chain(self._decoder.feed(data), self._decoder.finish() if is_all else ())
            is_minidump = self._is_minidump(events, is_form=isinstance(self._decoder, InnerForm))
            if is_minidump is None and len(held) < _LOOKED_AT and not is_all:
                return
        self._held = None
        if is_minidump:
            self._take_memory(-2 * len(held))
            if not isinstance(self._decoder, InnerForm) and self._part is not None:
                yield self._part
            yield from self._decoded(chain(self._given, events))
            self._given = []
            return
        self._decoder, self._given = None, []
        self._give_back()
        if self._part is not None:
            yield self._part
        if held:
            yield bytes(held)

    def _is_minidump(self, events: Iterator[PartEvent], *, is_form: bool) -> bool | None:
        """Whether a minidump is in a packed file, of which C{events} come next; None: it takes more of it to know."""
        try:
            for event in events:
                if event != b"":
                    self._given.append(event)
                if isinstance(event, Part | Field):
                    self._begin = b""
                if isinstance(event, bytes | Field) and len(self._begin) < len(MINIDUMP_BEGIN):
                    self._begin += (event.content if isinstance(event, Field) else event)[: len(MINIDUMP_BEGIN)]
                if self._begin.startswith(MINIDUMP_BEGIN):
                    return True
                if len(self._begin) >= len(MINIDUMP_BEGIN) and not is_form:
                    return False
        except (MalformedReport, TooLarge):
            return False
        return None

    def _may_be_form(self, begin: bytes | bytearray) -> bool:
        return self._part is not None and begin.startswith(FORM_BEGIN)

    def _new_decoder(self, begin: bytes) -> _Decoder | None:
        if self._may_be_form(begin):
            boundary = boundary_shown_by(begin)
            return None if boundary is None else InnerForm(boundary)
        if begin.startswith(ZIP_BEGIN):
            return ZipDecoder()
        coding = packing_shown_by(begin)
        return None if coding is None else StreamsDecoder(coding, self._left, self._take_memory)

    def _decoded(self, pieces: Iterator[PartEvent]) -> Iterator[PartEvent]:
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
            yield from self._look_at(self._held, b"", is_all=True)
        elif self._decoder is not None:
            yield from self._decoded(self._decoder.finish())
        if self._decoder is not None and (note := self._decoder.note()):
            self._notes.append(note)
        is_form = isinstance(self._decoder, InnerForm)
        self._decoder = None
        self._give_back()
        if not is_form:  # each part in a form has ended by itself
            yield None

    def _take_memory(self, size: int) -> None:
        self._reserved += size
        self._reserve(size)

    def _give_back(self) -> None:
        self._reserve(-self._reserved)
        self._reserved = 0


def _is_packed(begin: bytes) -> bool:
    return begin.startswith(ZIP_BEGIN) or packing_shown_by(begin) is not None
