"""
Splits a multipart body into its parts while it comes, and takes whatever common servers take.

Lines may end with CR LF, LF alone or CR CR LF, and blanks may follow a boundary. An empty part may go without a line
end of its own. Headers may be folded, and long; the length that a part claims is ignored. The last boundary may be
missing.
"""

import re
from collections.abc import Iterator
from enum import Enum, auto
from typing import NamedTuple

from collectord.errors import MalformedReport
from collectord.intake.partheaders import Part, part_of
from collectord.model import Note

_HEAD = 32 * 1024  # bytes of the headers of one part that are kept
_NEAR = 1024  # how soon in its headers a part shows that it is wanted
_CR, _DASH = b"\r-"
_PADDING = 4096  # the most blanks after a boundary, and in a blank line
# If a program writes CR LF as text on Windows, CR CR LF is what comes.
_BLANK_LINE = re.compile(rb"\n[ \t\r]{0,%d}+\n" % (_PADDING + 1))
_CUT_BLANK_LINE = re.compile(rb"\n[ \t\r]{0,%d}+" % (_PADDING + 1))
_LINE_END = re.compile(rb"--|[ \t\v\f\r]{0,%d}+\n" % (_PADDING + 1))
_CUT_LINE_END = re.compile(rb"-?|[ \t\v\f\r]{0,%d}+" % (_PADDING + 1))


# Nothing but a name, as nearly all annotations have it. The line end of the blank line may begin the boundary.
_FIELD_HEAD = re.compile(rb'\nContent-Disposition: form-data; name="([!#$&-[\]-~]+)"\r\n\r(?=\n)')


class Field(NamedTuple):
    """A whole part that came at once. Its headers have nothing in them but a name in ASCII, so it is hardly a file."""

    name: str
    content: bytes


class _State(Enum):
    PREAMBLE = auto()  # before the first boundary
    HEADERS = auto()  # from the line end of a boundary to a blank line
    BEGINNING = auto()  # the line end of the blank line is next, and then the content
    CONTENT = auto()  # some of the content has been passed on
    EPILOGUE = auto()  # after the last boundary


_PREAMBLE, _HEADERS, _BEGINNING, _CONTENT, _EPILOGUE = _State


class FormDataParser:
    """
    Splits a multipart body into its parts, fed with its bytes as they come.

    It holds back no more than what may turn out to be a boundary, and the headers of one part.

    @param boundary: as L{boundary_of<collectord.intake.partheaders.boundary_of>} finds it.
    @ivar notes: what of the body was passed over or put right. They are complete when the parser is closed.
    @ivar has_passed_over: whether L{pass_over} was called.
    @ivar is_whole: whether the last boundary has come. It is known when the parser is closed.
    """

    structure = "multipart"

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\n--" + boundary
        self._longest = len(self._delimiter) + _PADDING + 3
        self._state = _PREAMBLE
        self._held = b""
        self._head = b""
        self._passed_over = 0
        self._passed_over_text = False
        self._cut_heads = 0
        self._heads_alone = 0
        self._wanted: bytes | None = None  # bytes in the headers of parts that are not passed over
        self.has_passed_over = False
        self.is_whole = True
        self.notes: list[Note] = []

    def parse(self, data: bytes) -> Iterator[Field | Part | bytes | None]:
        """
        Take the next bytes, and yield what is in them: for each part a L{Field}, or a L{Part}, its bytes in pieces,
        then C{None}.

        Consume all of it before the next call.
        """
        buffer, at, blank, begin = self._held + data, 0, -1, 0
        delimiter, length = self._delimiter, len(self._delimiter)
        while (state := self._state) is not _EPILOGUE:
            stop = len(buffer)
            if self._wanted is not None:
                at = self._next_wanted(buffer, at, self._wanted)
                if self._wanted is not None:
                    self._held = buffer[at:]
                    return
                continue
            if state is _HEADERS:
                if not self._head and (head := _FIELD_HEAD.match(buffer, at)):
                    line_end = head.end()
                    start = buffer.find(delimiter, line_end)
                    if start >= 0 and buffer.startswith(b"\r\n", start + length):
                        end = start - (start > line_end and buffer[start - 1] == _CR)
                        yield Field(head[1].decode(), buffer[line_end + 1 : end])
                        # Its boundary may be that of a wanted part.
                        at = start + length + 1 if self._wanted is None else end
                        continue
                if blank < at:
                    found = _BLANK_LINE.search(buffer, at)
                    blank, begin = found.span() if found else (stop, stop)
                stop = blank
            end, next_line = self._find(buffer, at, stop)
            is_boundary = end >= 0
            is_blank_line = not is_boundary and stop < len(buffer)
            if not is_boundary:
                end = stop if is_blank_line else self._safe_until(buffer, at)
            if state is _CONTENT or state is _BEGINNING:
                if piece := buffer[at + (state is _BEGINNING) : end]:
                    yield piece
                if is_boundary:
                    yield None
                elif end > at:
                    self._state = _CONTENT
            elif state is _HEADERS:
                self._head = (self._head + buffer[at:end])[: _HEAD + 1]
                if is_blank_line or (is_boundary and self._head.strip()):  # nothing at all: a boundary came twice
                    self._heads_alone += is_boundary
                    yield self._part()
                    if is_boundary:
                        yield None
            else:
                self._pass_over(buffer[at:end])
            if is_boundary and buffer[next_line - 1] == _DASH:
                self._state, at = _EPILOGUE, next_line
            elif is_boundary:
                self._state, at = _HEADERS, next_line - 1
            elif is_blank_line:
                self._state, at = _BEGINNING, begin - 1
            else:
                self._held = buffer[end:]
                return
        self._held = b""
        self._pass_over(buffer[at:])

    def close(self) -> Iterator[Field | Part | bytes | None]:
        """
        The body has ended: yield what is still to come, and complete the L{notes}.

        If the last boundary is missing, bytes at the end that may be its beginning are taken for that.

        @raise MalformedReport: C{invalid_payload_structure}: there was no boundary at all.
        """
        if self._state is _PREAMBLE:
            raise MalformedReport("invalid_payload_structure")
        if self._state is _BEGINNING or self._state is _CONTENT:
            yield None
        if self._state is not _EPILOGUE:
            self._state = _EPILOGUE
            self.is_whole = False
            self.notes.append(Note("repaired", "the body ends without its last boundary; its end may be missing"))
        if self._cut_heads:
            self.notes.append(Note("cut", f"parts whose headers are cut after {_HEAD} bytes: {self._cut_heads}"))
        if self._heads_alone:
            self.notes.append(Note("repaired", f"parts without a blank line, so without content: {self._heads_alone}"))
        if self._passed_over_text:
            self.notes.append(
                Note("left_out", f"bytes before the first or after the last boundary are left out: {self._passed_over}")
            )

    def pass_over(self, *, but_for: bytes) -> None:
        """
        Pass over the rest of the part that was given last, and over those after it.

        @param but_for: bytes that are soon found in the headers of the next part that is given; if empty, none is.
        """
        self._wanted = but_for
        self.has_passed_over = True

    def _next_wanted(self, buffer: bytes, at: int, wanted: bytes) -> int:
        """Find where to go on: at the next part that is wanted, or after the last boundary. If neither is there, where
        to look on once more has come."""
        last = buffer.find(self._delimiter + b"--", at)
        found = buffer.find(wanted, at, None if last < 0 else last) if wanted else -1
        while found >= 0:
            start = buffer.rfind(self._delimiter, max(at, found - _NEAR), found)
            if start >= 0 and (line_end := _LINE_END.match(buffer, start + len(self._delimiter))):
                self._wanted, self._state = None, _HEADERS
                return line_end.end() - 1
            found = buffer.find(wanted, found + 1, None if last < 0 else last)
        if last >= 0:
            self._wanted, self._state = None, _EPILOGUE
            return last + len(self._delimiter) + 2
        return max(at, len(buffer) - _NEAR - self._longest)

    def _find(self, buffer: bytes, at: int, stop: int) -> tuple[int, int]:
        """
        Find the first boundary before C{stop}.

        @return: where what is before it ends; and where its line ends, or the two dashes of the last boundary. -1 and
            0 if there is none.
        """
        # The first boundary may stand in the middle of a line: what comes before it belongs to nobody.
        delimiter = self._delimiter[1:] if self._state is _PREAMBLE else self._delimiter
        start = buffer.find(delimiter, at, stop)
        while start >= 0:
            if line_end := _LINE_END.match(buffer, start + len(delimiter)):
                return start - (start > at and buffer[start - 1] == _CR), line_end.end()
            start = buffer.find(delimiter, start + 1, stop)
        return -1, 0

    def _safe_until(self, buffer: bytes, at: int) -> int:
        """Where the bytes end that belong to what is being read, whatever comes next."""
        size = len(buffer)
        earliest = max(at, size - self._longest)
        if self._state is _PREAMBLE:
            return earliest
        end = buffer.rfind(b"\n", earliest)
        if end < 0 or not self._may_be_cut(buffer[end:]):
            end = size
        return end - (end > at and buffer[end - 1] == _CR)

    def _may_be_cut(self, tail: bytes) -> bool:
        """Whether C{tail} may be the beginning of a boundary, or of a blank line."""
        length = len(self._delimiter)
        if not self._delimiter.startswith(tail[:length]):
            return self._state is _HEADERS and _CUT_BLANK_LINE.fullmatch(tail) is not None
        return _CUT_LINE_END.fullmatch(tail, length) is not None  # it matches no bytes, too: all may be yet to come

    def _part(self) -> Part:
        head, self._head = self._head, b""
        self._cut_heads += len(head) > _HEAD
        return part_of(head[:_HEAD])

    def _pass_over(self, piece: bytes) -> None:
        self._passed_over += len(piece)
        self._passed_over_text = self._passed_over_text or bool(piece.strip())
