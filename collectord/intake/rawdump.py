"""
A body that is nothing but one file: most likely a minidump.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from collectord.intake.partheaders import Part
from collectord.model import MINIDUMP, MINIDUMP_BEGIN, Note

_TYPE: Final = "application/octet-stream"


class RawDumpParser:
    """
    Takes a body as the one file of a report.

    It is a L{BodyParser<collectord.intake.bodyparser.BodyParser>}.
    """

    structure = "dump"
    has_passed_over = False
    is_whole = True
    notes: Sequence[Note] = ()

    def __init__(self) -> None:
        self._begin: bytes | None = b""

    def parse(self, data: bytes) -> Iterator[Part | bytes | None]:
        """Take the next bytes, and yield what is in them."""
        if self._begin is None:
            yield data
            return
        self._begin += data
        if len(self._begin) >= len(MINIDUMP_BEGIN):
            yield from self._started()

    def close(self) -> Iterator[Part | bytes | None]:
        """The body has ended: yield what is still to come."""
        if self._begin is not None:
            yield from self._started()
        yield None

    def _started(self) -> Iterator[Part | bytes | None]:
        begin, self._begin = self._begin or b"", None
        is_minidump = begin.startswith(MINIDUMP_BEGIN)
        name, filename = (MINIDUMP, "minidump.dmp") if is_minidump else ("body", "body")
        yield Part(name, filename=filename, content_type=_TYPE)
        yield begin

    def pass_over(self, *, but_for: bytes) -> None:
        """There is only one part, which is not too many."""
