"""
multipart, as crash reporters write it: what the C{multipart} package parses, a little more forgivingly.
"""

import re
from collections.abc import Iterator
from typing import Any

import multipart

from collectord.errors import MalformedReport

_PARAMETER = re.compile(rb';\s*([^=;\s]+)\s*=\s*("(?:\\.|[^"\\])*"|[^;]*)')
_BOUNDARY = 256  # RFC 2046 says 70
_MEDIA_TYPES = (b"multipart/form-data", b"multipart/mixed")
_HEADER_LINE = 4096


def boundary_of(content_type: bytes | None) -> bytes:
    """
    The boundary that a C{Content-Type} header announces.

    @raise MalformedReport: C{no_content_type}, C{wrong_content_type}, C{no_boundary}.
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


class FormDataParser(multipart.PushMultipartParser):  # type: ignore[misc]
    """
    Fed with bytes, it yields for each part a segment, then its bytes in pieces, then C{None}.

    Header values are latin-1 text: whoever wants UTF-8 asks L{text_of}, so that one odd name costs one part, not the
    report.

    @param max_header_lines: of all parts together.
    """

    _buffer: bytes

    def __init__(self, boundary: bytes, max_header_lines: int = 10_000) -> None:
        # The package's own limit counts half a line end; ours is in _on_segment_headerline.
        super().__init__(boundary, header_charset="latin-1", max_header_size=_HEADER_LINE + 2, max_header_count=16)
        self._header_lines_left = max_header_lines

    def parse(self, chunk: bytes) -> Iterator[Any]:
        before = self._buffer if self._state is multipart._PREAMBLE else None
        yield from super().parse(chunk)
        if before is not None and self._state is multipart._PREAMBLE:
            # The package forgets more of a preamble, and then takes what follows for the start of the body.
            self._buffer = (before + chunk)[-len(self._delimiter) - 1 :]

    def _on_segment_headerline(self, line: bytes) -> None:
        # Refused by the package, too, but only where the chunks happen to split such a line.
        self._header_lines_left -= 1
        if len(line) > _HEADER_LINE or b"\n" in line or self._header_lines_left < 0:
            raise multipart.ParserError("Invalid segment header")
        super()._on_segment_headerline(line)

    def _create_segment(self, headerlist: list[tuple[str, str]]) -> multipart.MultipartSegment:
        # The package's hook for other kinds of multipart. Here a part need not be form-data, nor have a name (whoever
        # builds the report drops it then), and its own Content-Length does not count: the boundary does.
        self._segment_limit = -1
        return multipart.MultipartSegment(headerlist)


def text_of(header: str) -> str | None:
    """The text that was sent as UTF-8 in a header value; None where it was not UTF-8."""
    if header.isascii():
        return header
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return None
