"""
The streams of a minidump: its header, its directory, and reads that never leave the file.
"""

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

    def entries(self, number: int, size: int, most: int) -> bytes:
        """
        Return the entries of a stream that is a list.

        @param size: of each entry.
        @param most: entries to return; those after them are passed over.

        @raise UnreadableMinidump: there is no such stream, or it is too short.
        """
        length, at = self._places.get(number) or _missing(number)
        data = self.read_some(at, min(length, 2 * _COUNT.size + most * size))
        if len(data) < _COUNT.size:
            raise UnreadableMinidump(f"stream {number} is too short")
        (count,) = _COUNT.unpack_from(data)
        # Some writers align the entries to 8 bytes.
        begin = 2 * _COUNT.size if length == 2 * _COUNT.size + count * size else _COUNT.size
        end = begin + min(count, most) * size
        if len(data) < end:
            raise UnreadableMinidump(f"stream {number} is too short")
        return data[begin:end]


def _missing(number: int) -> NoReturn:
    raise UnreadableMinidump(f"it has no stream {number}")
