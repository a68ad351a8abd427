"""
The modules of a minidump: the program and the libraries that were loaded, and which of them an address is in.
"""

from bisect import bisect_right
from codecs import utf_16_le_decode
from functools import lru_cache
from struct import Struct
from typing import Final, NamedTuple

from collectord.minidump.streams import Streams

MOST_MODULES: Final = 1024
"""Modules that are looked at."""

MOST_READ: Final = 64
"""Modules of which more than their addresses is read."""

_STREAM: Final = 4
_ENTRY: Final = 108
"""Bytes of an entry."""

_SPANS: Final = Struct("<" + 16 * "QI96x")
"""The addresses and sizes of some modules: to unpack them together takes half the time."""

_NAMES: Final = Struct("<20xI52xII24x")
"""Of an entry: the places of its name, and the size and place of its debug record."""

_LENGTH: Final = Struct("<I")
_LONGEST_NAME: Final = 512
"""Bytes at the end of a path that are looked at for the name of its file."""

_GUID: Final = Struct("<IHH8s")
_NO_GUID: Final = bytes(_GUID.size)
_PDB: Final = Struct("<4s16sI")
"""C{RSDS}, GUID, age: of a program for Windows, and what Breakpad and Crashpad write for macOS."""

_OLD_PDB: Final = Struct("<4sIII")
"""C{NB10}, offset, time, age: of a program that an old compiler has made."""

_BUILD_ID: Final = b"LEpB"
"""Before the build id of an ELF file."""

_RECORD: Final = max(_PDB.size, _OLD_PDB.size)
_CACHED: Final = 1024
"""Names and debug ids that are remembered, since most dumps have the same ones."""


class Module(NamedTuple):
    """
    A module is the file of the program or of a library.

    @ivar base: the address at which it begins.
    @ivar end: the address at which it ends.
    @ivar name: of the file, without its directories.
    @ivar record: the place and size of what tells which build it is.
    """

    base: int
    end: int
    name: str
    record: tuple[int, int]


class Modules:
    """
    The modules of one minidump. What is told of each is read when it is asked for.

    @ivar lowest: the address at which the first of them begins.
    @ivar highest: the address at which the one ends that begins last.

    @raise UnreadableMinidump: the dump has no list of modules.
    """

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._entries = streams.entries(_STREAM, _ENTRY, MOST_MODULES)
        count = len(self._entries) // _ENTRY
        spans: list[int] = []
        for some in _SPANS.iter_unpack(self._entries + bytes(-len(self._entries) % _SPANS.size)):
            spans += some
        self._bases, self._sizes = spans[: 2 * count : 2], spans[1 : 2 * count : 2]
        self._sorted = sorted(self._bases)
        self._known: dict[int, Module] = {}
        self.lowest = self._sorted[0] if count else 0
        self.highest = self._sorted[-1] + self._sizes[self._bases.index(self._sorted[-1])] if count else 0

    def at(self, address: int, least: int = 0) -> Module | None:
        """
        Return the module that C{address} is in. Of several it is the one that begins last.

        @param least: how far from the beginning of the module it has to be.
        """
        position = bisect_right(self._sorted, address)
        if not position or address < self._sorted[position - 1] + least:
            return None
        base = self._sorted[position - 1]
        module = self._known.get(base) or self._read(base)
        return module if module is not None and address < module.end else None

    def _read(self, base: int) -> Module | None:
        if len(self._known) == MOST_READ:
            return None
        number = self._bases.index(base)
        name_at, size, record_at = _NAMES.unpack_from(self._entries, _ENTRY * number)
        record = record_at, min(size, _RECORD)
        module = self._known[base] = Module(base, base + self._sizes[number], self._name(name_at), record)
        return module

    def _name(self, at: int) -> str:
        begin = self._streams.read_some(at, _LENGTH.size + _LONGEST_NAME)
        if len(begin) < _LENGTH.size:
            return ""
        (size,) = _LENGTH.unpack_from(begin)
        end = begin[_LENGTH.size : _LENGTH.size + size]
        if size > _LONGEST_NAME:
            end = self._streams.read_some(at + _LENGTH.size + (size - _LONGEST_NAME & ~1), _LONGEST_NAME)
        return _file_name(end)

    def debug_id_of(self, module: Module) -> str:
        """
        Return what tells which build a module is: a GUID and an age in hexadecimal, as Breakpad's symbol files have it;
        empty if the dump does not say.
        """
        return _debug_id(self._streams.read_some(*module.record))


_CONTROL: Final = dict.fromkeys([*range(0x20), 0x7F], "_")
"""Control characters, for C{str.translate}: a client chooses the names."""


@lru_cache(maxsize=_CACHED)
def _file_name(path: bytes) -> str:
    """Return the name of a file, of which this is the path or its end."""
    text, _ = utf_16_le_decode(path, "replace")
    return text[max(text.rfind("/"), text.rfind("\\")) + 1 :].translate(_CONTROL)


@lru_cache(maxsize=_CACHED)
def _debug_id(record: bytes) -> str:
    """Return the debug id in the beginning of a debug record."""
    if record.startswith(b"RSDS") and len(record) >= _PDB.size:
        _, guid, age = _PDB.unpack_from(record)
        return _shown(guid, age)
    if record.startswith(_BUILD_ID):
        return _shown(record[len(_BUILD_ID) :][:16].ljust(16, b"\0"), 0)
    if record.startswith(b"NB10") and len(record) >= _OLD_PDB.size:
        _, _, time, age = _OLD_PDB.unpack_from(record)
        return f"{time:08X}{age:X}" if time else ""
    return ""


def _shown(guid: bytes, age: int) -> str:
    if guid == _NO_GUID:
        return ""
    first, second, third, rest = _GUID.unpack(guid)
    return f"{first:08X}{second:04X}{third:04X}{rest.hex().upper()}{age:X}"
