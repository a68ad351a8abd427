"""
The streams of a minidump: its header, its directory, and reads that never leave the file.
"""

from collections.abc import Sequence
from struct import Struct
from typing import Final, NoReturn

from collectord.errors import UnreadableMinidump
from collectord.model import MINIDUMP_BEGIN
from collectord.pieces import ReaderAt

MOST_STREAMS: Final = 256
"""Entries of the directory that are looked at."""

_HEADER: Final = Struct("<4sIIIII")
"""Signature, version, number of streams, place of the directory, checksum, time."""

_VERSION: Final = 0xA793
_STREAM: Final = Struct("<III")
"""What a stream is, its size, and its place."""

_COUNT: Final = Struct("<I")
_TOGETHER: Final = 64
"""Entries of a list that are unpacked together: one by one takes four times as long."""


def layouts_of(entry: str) -> Sequence[Struct]:
    """
    Return the layouts of no entry of a list, of one, and so on up to the most that are unpacked together.

    @param entry: the numbers that are looked at in one, as L{Struct} has them.
    """
    return [Struct("<" + many * entry) for many in range(_TOGETHER + 1)]


class Streams:
    """
    The streams of one minidump, by their numbers. Of several with the same number the first counts.

    @ivar read_some: as L{ReaderAt.read_at}.
    @ivar time: when the dump was made, in seconds since the epoch.

    @raise UnreadableMinidump: the file is no minidump, or ends before its directory does.
    """

    def __init__(self, file: ReaderAt) -> None:
        self.read_some = file.read_at
        begin, version, count, place, _, self.time = _HEADER.unpack(self.read(0, _HEADER.size))
        if begin != MINIDUMP_BEGIN or version & 0xFFFF != _VERSION:
            raise UnreadableMinidump("it is no minidump")
        directory = self.read(place, _STREAM.size * min(count, MOST_STREAMS))
        self._places: dict[int, tuple[int, int]] = {}
        for number, size, at in _STREAM.iter_unpack(directory):
            self._places.setdefault(number, (size, at))

    def read(self, at: int, size: int) -> bytes:
        """
        Return C{size} bytes.

        @raise UnreadableMinidump: the file has none there, or not so many.
        """
        data = self.read_some(at, size)
        if len(data) < size:
            raise UnreadableMinidump("it is shorter than it says")
        return data

    def stream(self, number: int, layout: Struct) -> tuple[int, ...]:
        """
        Return the numbers that a stream begins with.

        @raise UnreadableMinidump: there is no such stream, or it is too short.
        """
        size, at = self._places.get(number) or _missing(number)
        data = self.read_some(at, layout.size) if size >= layout.size else b""
        if len(data) < layout.size:
            raise UnreadableMinidump(f"stream {number} is too short")
        return layout.unpack(data)

    def entries(self, number: int, size: int, most: int) -> tuple[int, int]:
        """
        Return where the entries of a stream that is a list begin, and how many they are.

        @param size: of each entry.
        @param most: entries that count; those after them are passed over.

        @raise UnreadableMinidump: there is no such stream, or it is too short.
        """
        (count,) = self.stream(number, _COUNT)
        length, at = self._places[number]
        # Some writers align the entries to 8 bytes.
        begin = 2 * _COUNT.size if length == 2 * _COUNT.size + count * size else _COUNT.size
        count = min(count, most)
        if begin + count * size > length:
            raise UnreadableMinidump(f"stream {number} is too short")
        return at + begin, count


def numbers_in(entries: bytes, layouts: Sequence[Struct]) -> list[int]:
    """
    Return the numbers of some entries of a list, in a row.

    @param layouts: as L{layouts_of} returns them.
    """
    numbers: list[int] = []
    whole = len(entries) - len(entries) % layouts[-1].size
    if whole:
        for some in layouts[-1].iter_unpack(entries[:whole]):
            numbers += some
    numbers += layouts[(len(entries) - whole) // layouts[1].size].unpack_from(entries, whole)
    return numbers


def _missing(number: int) -> NoReturn:
    raise UnreadableMinidump(f"it has no stream {number}")
