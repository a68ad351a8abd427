"""
Multipart bodies as crash reporters write them: what the C{multipart} package parses, a little more forgivingly.

It is the only module that uses the package, and private parts of it. C{tests/unit/intake/test_intake_formdata.py}
asserts that they are there and behave, and C{setup.py} bounds the version.
"""

import re
from collections.abc import Iterator
from typing import Protocol

import multipart

from collectord.errors import MalformedReport

_PARAMETER = re.compile(rb';\s*([^=;\s]+)\s*=\s*("(?:\\.|[^"\\])*"|[^;]*)')
_BOUNDARY = 256  # the longest; RFC 2046 says 70
_MEDIA_TYPES = (b"multipart/form-data", b"multipart/mixed")
_HEADER_LINE = 4096


class Part(Protocol):
    """The headers of one part, as latin-1 text; None where one isn't there."""

    name: str | None
    filename: str | None
    content_type: str | None
    charset: str | None
    transfer_encoding: str | None


def boundary_of(content_type: bytes | None) -> bytes:
    """
    The boundary that a C{Content-Type} header announces.

    @param content_type: the value of the header; None where there is none.
    @raise MalformedReport: C{no_content_type}, C{wrong_content_type} or C{no_boundary}.
    """
    if content_type is None or not content_type.strip():
        raise MalformedReport("no_content_type")
    media_type, _, _ = content_type.partition(b";")
    if media_type.strip().lower() not in _MEDIA_TYPES:
        raise MalformedReport("wrong_content_type")
    for name, value in _PARAMETER.findall(content_type):
        if name.lower() == b"boundary":
            boundary: bytes = value.strip()
            if boundary[:1] == b'"':
                boundary = re.sub(rb"\\(.)", rb"\1", boundary[1:-1])
            if 0 < len(boundary) <= _BOUNDARY:
                return boundary
    raise MalformedReport("no_boundary")


class FormDataParser:
    """
    Splits a multipart body into its parts, fed with its bytes as they come.

    @param boundary: as L{boundary_of} finds it.
    @param max_header_lines: that all parts may have together.
    """

    def __init__(self, boundary: bytes, max_header_lines: int = 10_000) -> None:
        self._parser = _PartParser(boundary, max_header_lines)
        self._first_boundary = b"--" + boundary
        self._preamble: bytes | None = b""  # the end of what has come of it; None once it is over

    def parse(self, data: bytes) -> Iterator[Part | bytes | None]:
        """
        Take the next bytes, and yield what is in them: for each part a L{Part}, its bytes in pieces, then C{None}.

        Consume all of it before the next call.

        @raise MalformedReport: C{invalid_payload_structure}.
        """
        try:
            if self._preamble is not None:
                data = self._pass_preamble(self._preamble + data)
            if data:
                yield from self._parser.parse(data)
        except multipart.MultipartError as e:
            raise MalformedReport("invalid_payload_structure") from e

    def close(self) -> None:
        """
        The body has ended.

        @raise MalformedReport: C{invalid_payload_structure}: the final boundary has not come.
        """
        try:
            self._parser.close()
        except multipart.MultipartError as e:
            raise MalformedReport("invalid_payload_structure") from e

    def _pass_preamble(self, data: bytes) -> bytes:
        # The package does so, too, but where a preamble comes in pieces it forgets that one was there, and then takes
        # a boundary in the middle of a line for the first one.
        at = data.find(self._first_boundary)
        if at == -1:
            self._preamble = data[-len(self._first_boundary) - 3 :]  # with the line end that must come before it
            return b""
        if at > 0 and data[at - 2 : at] != b"\r\n":
            raise multipart.ParserError("The first boundary does not begin a line")
        self._preamble = None
        return data[at:]


class _PartParser(multipart.PushMultipartParser):  # type: ignore[misc]
    """The parser of the package, more forgiving about parts. All of its private names that are used are used here."""

    def __init__(self, boundary: bytes, max_header_lines: int) -> None:
        # The package's own limit counts half of the line end; ours is in _on_segment_headerline.
        # Header values are read as latin-1, which never fails: one odd name costs one part, and not the report.
        super().__init__(boundary, header_charset="latin-1", max_header_size=_HEADER_LINE + 2, max_header_count=16)
        self._header_lines_left = max_header_lines

    def _on_segment_headerline(self, line: bytes) -> None:
        # The package refuses such lines, too, but only where the pieces of the body happen to split them.
        self._header_lines_left -= 1
        if len(line) > _HEADER_LINE or b"\n" in line or self._header_lines_left < 0:
            raise multipart.ParserError("Invalid segment header")
        super()._on_segment_headerline(line)

    def _create_segment(self, headerlist: list[tuple[str, str]]) -> Part:
        # The package's hook for other kinds of multipart. Here a part need not be form-data. It need not have a name,
        # either: whoever builds the report drops it then. A Content-Length of its own is ignored: the boundary counts.
        self._segment_limit = -1
        segment = multipart.MultipartSegment(headerlist)
        segment.transfer_encoding = segment.header("Content-Transfer-Encoding")
        part: Part = segment
        return part


def text_of(header: str) -> str | None:
    """The text of a header value, which was read as latin-1 but sent as UTF-8; None where it was not UTF-8."""
    if header.isascii():
        return header
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return None
