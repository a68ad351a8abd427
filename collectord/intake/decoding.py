"""
Decodes compressed bodies piece by piece: memory stays bounded, and a decompression bomb stops at the limit.
"""

from collections.abc import Callable, Iterator

from collectord.errors import MalformedReport, TooLarge
from collectord.intake.codings import BEGIN, CODINGS, STEP, Broken, Coding
from collectord.model import Note

_STATE = 256 * 1024
"""Bytes of memory that count for a decoder with a large window, whatever it has decoded."""


def decoder_for(
    content_encoding: bytes, boundary: bytes, limit: int, reserve: Callable[[int], None]
) -> "BodyDecoder | None":
    """
    Return what decodes a body; None if it is not encoded.

    @param content_encoding: the value of the header. A proxy may have joined two headers of the same value.
    @param boundary: of the multipart body.
    @param limit: bytes that the body may have when it is decoded.
    @param reserve: called with bytes of memory that are needed until the body has ended. It may raise.
    """
    if not content_encoding:
        return None
    if coding := CODINGS.get(content_encoding):
        return BodyDecoder(coding, boundary, limit, reserve)
    names = {name.strip().lower() for name in content_encoding.split(b",")} - {b"", b"identity"}
    if not names:
        return None
    coding = CODINGS.get(names.pop()) if len(names) == 1 else None
    return BodyDecoder(coding, boundary, limit, reserve)


class BodyDecoder:
    """
    Decodes one body, unless it turns out that it is not encoded at all: a proxy may have decoded it already.

    @param coding: None if it is none that is known.
    @ivar is_plain: whether the body is not encoded. It is so as long as that is not known yet.
    @ivar notes: what was put right. They are complete when it has finished.
    """

    def __init__(self, coding: Coding | None, boundary: bytes, limit: int, reserve: Callable[[int], None]) -> None:
        self._coding = coding
        self._plain_begins = (b"--" + boundary, b"\r\n--" + boundary, b"\n--" + boundary)
        self._left = limit
        self._reserve = reserve
        self._begin: bytes | None = b""
        self._window = 0
        self._held = b""
        self._trailing = False
        self._gave = False
        self.is_plain = True
        self.notes: list[Note] = []

    def feed(self, data: bytes) -> Iterator[bytes]:
        """
        Decode the next bytes, and yield pieces of 100 KiB at most, which may be empty. Consume all of them before the
        next call.

        @raise TooLarge: the body is larger than the limit.
        @raise MalformedReport: C{unknown_content_encoding}, or C{bad_gzip} and so on: the bytes can't be decoded.
        """
        if self._begin is not None:
            data = self._begin + data
            if data[:1] in (b"", b"\r", b"\n", b"-") and any(
                begin != data and begin.startswith(data) for begin in self._plain_begins
            ):
                self._begin = data
                return
            self._begin = None
            self._start(data.startswith(self._plain_begins))
        if self.is_plain:
            yield data
        elif self._coding is not None:
            yield from self._decode(self._coding, data)

    def _start(self, is_plain: bool) -> None:
        self.is_plain = is_plain
        if is_plain:
            self.notes.append(Note("repaired", "the Content-Encoding is wrong: the body is not encoded"))
        elif self._coding is None:
            raise MalformedReport("unknown_content_encoding")
        else:
            if self._coding.window:
                self._reserve(_STATE)
            self._stream = self._coding.new_stream()

    def _decode(self, coding: Coding, data: bytes) -> Iterator[bytes]:
        piece = b""
        while data or len(piece) >= STEP:
            if self._stream.ended and coding.after_the_end != "broken":
                data = self._begin_another(coding, self._held + data)
                if not data:
                    return
            try:
                piece, data = self._stream.step(data)
            except Broken as e:
                raise MalformedReport(f"bad_{coding.name}") from e
            self._count(len(piece), coding.window)
            yield piece

    def _begin_another(self, coding: Coding, data: bytes) -> bytes:
        """Begin another stream if one follows, and return its bytes."""
        data = data.lstrip(b"\0")  # padding is legal between the members of gzip, and after the last
        if self._trailing or (data and coding.after_the_end == "left out"):
            self._trailing = True
        elif len(data) < BEGIN:
            self._held = data
        elif not coding.begin.match(data):
            self._trailing = True
        else:
            self._stream, self._held = coding.new_stream(), b""
            return data
        return b""

    def _count(self, size: int, most: int) -> None:
        self._left -= size
        if self._left < 0:
            raise TooLarge
        self._gave = self._gave or size > 0
        if more := min(size, most - self._window):
            self._window += more
            self._reserve(more)

    def finish(self) -> None:
        """
        Complete the L{notes}: the body has ended. If it is cut off, what was decoded counts.

        @raise MalformedReport: C{bad_gzip} and so on: nothing could be decoded.
        """
        if self._begin is None and self.is_plain:
            return
        name = self._coding.name if self._coding else "content_encoding"
        if not self._gave:
            raise MalformedReport(f"bad_{name}")
        if not self._stream.ended:
            self.notes.append(Note("repaired", f"the {name} body is cut off; its end may be missing"))
        elif self._trailing or self._held:
            self.notes.append(Note("left_out", f"bytes after the end of the {name} body are left out"))
