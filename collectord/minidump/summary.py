"""
Says in a few words what a minidump holds, for a page that lists the dumps of a crash.
"""

from struct import Struct
from typing import Final

from collectord.errors import UnreadableMinidump
from collectord.minidump.streams import Streams
from collectord.pieces import ReaderAt

_THREADS, _MODULES = 3, 4
_COUNT: Final = Struct("<I")
_MOST: Final = 100_000
"""A list that is said to be longer is not one: the number is not shown."""


def minidump_in_words(file: ReaderAt) -> str:
    """
    Describe a minidump, such as C{minidump, 214 modules, 61 threads}; what it does not say is left out.

    @raise UnreadableMinidump: it is none.
    """
    streams = Streams(file)
    counts = [(_count(streams, _MODULES), "module"), (_count(streams, _THREADS), "thread")]
    return ", ".join(["minidump", *(f"{count:,} {name}{'s'[: count != 1]}" for count, name in counts if count)])


def _count(streams: Streams, number: int) -> int:
    """Return how many entries a list has; 0 if it has none, or if that can't be known."""
    try:
        (count,) = streams.stream(number, _COUNT)
    except UnreadableMinidump:
        return 0
    return count if count <= _MOST else 0
