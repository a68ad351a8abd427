"""
Bytes that can be read at any place, and those that lie in memory in several pieces.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Protocol


class ReaderAt(Protocol):
    """Bytes that can be read at any place."""

    def read_at(self, at: int, size: int) -> bytes:
        """Return C{size} bytes from the place C{at}, or fewer if the bytes end before."""


class Pieces:
    """Bytes in memory that are read at any place, though they lie in several pieces."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = pieces
        self._ends = list(accumulate(map(len, pieces)))
        self._first = pieces[0] if pieces else b""
        self._first_end = len(self._first)

    def read_at(self, at: int, size: int) -> bytes:
        """As L{ReaderAt.read_at}."""
        if at + size <= self._first_end:
            return self._first[at : at + size]
        number = bisect_right(self._ends, at)
        if number == len(self._pieces):
            return b""
        piece = self._pieces[number]
        begin = at - self._ends[number] + len(piece)
        found = piece[begin : begin + size]
        if len(found) == size:
            return found
        more = [found]
        while (size := size - len(found)) > 0 and (number := number + 1) < len(self._pieces):
            found = self._pieces[number][:size]
            more.append(found)
        return b"".join(more)
