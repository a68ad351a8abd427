"""
Decodes what is in one coding, piece by piece: memory stays bounded, and a decompression bomb stops at the limit.
"""

from collections.abc import Callable, Iterator

from collectord.errors import MalformedReport, TooLarge
from collectord.intake.codings import BEGIN, Broken, Coding, WrongChecksum
from collectord.model import Note

_STATE = 256 * 1024
"""Bytes of memory that count for a decoder with a large window, whatever it has decoded."""

_TAIL = 64
"""The last bytes of a body are decoded one by one where a step that fails gives nothing."""


class StreamsDecoder:
    """
    Decodes bytes in one coding: a stream, or several one after another. What comes before a damage is kept.

    @param limit: bytes that may be decoded.
    @param reserve: called with bytes of memory that are needed until the end. It may raise.
    @ivar is_whole: whether all was decoded, and undamaged. It is known at the end.
    """

    def __init__(self, coding: Coding, limit: int, reserve: Callable[[int], None]) -> None:
        self._coding = coding
        self._limit = limit
        self._reserve = reserve
        self._size = 0
        self._held = b""
        self._tail = b""
        self._trailing = False
        self._damage: Broken | None = None
        self.is_whole = True
        if coding.window:
            reserve(_STATE)
        self._stream = coding.new_stream()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """
        Decode the next bytes, and yield pieces of 100 KiB at most, which may be empty. Consume all of them before the
        next call.

        @raise TooLarge: more than the limit is decoded.
        @raise MalformedReport: C{bad_gzip} and so on: they can't be decoded.
        """
        if not self._coding.is_exact:
            data = self._tail + data
            data, self._tail = data[:-_TAIL], data[-_TAIL:]
        yield from self._decode(data)
        yield b""  # so others may have their turn, though there was nothing

    def finish(self) -> Iterator[bytes]:
        """
        Decode the last bytes, after all have come. If something is missing, what was decoded counts.

        @raise TooLarge: as L{feed}.
        @raise MalformedReport: as L{feed}; or nothing could be decoded.
        """
        for at in range(len(self._tail)):
            yield from self._decode(self._tail[at : at + 1], is_tail=True)
        if not self._size:
            raise MalformedReport(f"bad_{self._coding.name}")
        self.is_whole = self._damage is None and self._stream.ended

    def note(self) -> Note | None:
        """Return a note on what is wrong with the bytes, after the end; None if nothing is."""
        name = self._coding.name
        if isinstance(self._damage, WrongChecksum):
            return Note(
                "repaired",
                f"the checksum of the {name} body is wrong: it may be damaged, and what follows is left out",
            )
        if self._damage is not None:
            return Note("left_out", f"the {name} body is damaged: what follows {self._size} bytes of it is left out")
        if not self.is_whole:
            return Note("repaired", f"the {name} body is cut off; its end may be missing")
        if self._trailing or self._held:
            return Note("left_out", f"bytes after the end of the {name} body are left out")
        return None

    def _decode(self, data: bytes, *, is_tail: bool = False) -> Iterator[bytes]:
        coding, piece = self._coding, b""
        while self._damage is None and (data or len(piece) >= coding.step):
            if self._stream.ended and (is_tail or coding.after_the_end != "broken"):
                data = self._begin_another(self._held + data)
                if not data:
                    return
            try:
                piece, data = self._stream.step(data)
            except Broken as e:
                if not self._size or not (is_tail or coding.is_exact):
                    raise MalformedReport(f"bad_{coding.name}") from e
                self._damage = e
                return
            self._count(len(piece))
            yield piece

    def _begin_another(self, data: bytes) -> bytes:
        """Begin another stream if one follows, and return its bytes."""
        data = data.lstrip(b"\0")  # padding is legal between the members of gzip, and after the last
        if self._trailing or (data and self._coding.after_the_end != "another"):
            self._trailing = True
        elif len(data) < BEGIN:
            self._held = data
        elif not self._coding.begin.match(data):
            self._trailing = True
        else:
            self._stream, self._held = self._coding.new_stream(), b""
            return data
        return b""

    def _count(self, size: int) -> None:
        before, self._size = self._size, self._size + size
        if self._size > self._limit:
            raise TooLarge
        if more := min(self._size, self._coding.window) - min(before, self._coding.window):
            self._reserve(more)
