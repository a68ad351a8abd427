"""
The modules of a minidump: the program and the libraries that were loaded, and which of them an address is in.
"""

from bisect import bisect_right
from codecs import utf_16_le_decode
from collections.abc import Mapping
from functools import lru_cache
from struct import Struct
from typing import Final, NamedTuple

from collectord.errors import UnreadableMinidump
from collectord.minidump.streams import Streams, layouts_of, numbers_in

MOST_MODULES: Final = 1024
"""Modules that are looked at."""

MOST_READ: Final = 64
"""Modules of which more than their addresses is read."""

_SEARCHED: Final = 8
"""Modules that are looked for in the list, one by one. For more of them it is faster to make a table first."""

_STREAM: Final = 4
_SPANS: Final = layouts_of("QI96x")
"""The address and size of a module."""

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
    @ivar debug_id: what tells which build it is: a GUID and an age in hexadecimal, as Breakpad's symbol files have it;
        empty if the dump does not say.
    """

    base: int
    end: int
    name: str
    debug_id: str


class Modules:
    """
    The modules of one minidump. The names of one are read when an address is in it.

    @ivar lowest: the address at which the first of them begins.
    @ivar highest: the address at which the one ends that begins last.

    @raise UnreadableMinidump: the dump has no list of modules, or an empty one.
    """

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        at, count = streams.entries(_STREAM, _NAMES.size, MOST_MODULES)
        if not count:
            raise UnreadableMinidump("its list of modules is empty")
        self._entries = streams.read(at, count * _NAMES.size)
        spans = numbers_in(self._entries, _SPANS)
        self._bases, self._sizes = spans[::2], spans[1::2]
        self._sorted = sorted(self._bases)
        self._known: dict[int, Module] = {}
        self._numbers: Mapping[int, int] = {}
        self.lowest = self._sorted[0]
        self.highest = self._sorted[-1] + self._sizes[self._bases.index(self._sorted[-1])]

    def at(self, address: int, least: int = 0) -> Module | None:
        """
        Return the module that C{address} is in. Of several it is the one that begins last.

        @param least: how far from the beginning of the module it has to be.
        """
        base = self._sorted[bisect_right(self._sorted, address) - 1]  # if all begin after it, that is the last
        if address < base + least:
            return None
        module = self._known.get(base)
        if module is None:
            if len(self._known) == MOST_READ:
                return None
            module = self._read(base)
        return module if address < module.end else None

    def _read(self, base: int) -> Module:
        if len(self._known) == _SEARCHED:
            self._numbers = dict(zip(reversed(self._bases), range(len(self._bases) - 1, -1, -1), strict=True))
        number = self._numbers[base] if self._numbers else self._bases.index(base)
        name_at, size, record_at = _NAMES.unpack_from(self._entries, number * _NAMES.size)
        debug_id = _debug_id(self._streams.read_some(record_at, min(size, _RECORD)))
        module = self._known[base] = Module(base, base + self._sizes[number], self._name(name_at), debug_id)
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
