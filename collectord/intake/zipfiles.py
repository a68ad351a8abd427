"""
Unpacks a zip file while it comes: its entries in order, by the headers in front of them.

What can't be unpacked so (encrypted entries, methods other than deflate, stored entries of unknown length) is refused
if it comes first, and left out otherwise. The directory at the end is passed over.
"""

from collections.abc import Iterator
from enum import Enum, auto
from struct import Struct
from typing import Any, Final

from zlib_ng import zlib_ng

from collectord.errors import MalformedReport
from collectord.intake.codings import STEP
from collectord.intake.partheaders import Part
from collectord.model import Note

ZIP_BEGIN: Final = b"PK\x03\x04"
"""The first bytes of a zip file, and of each entry in it."""

_HEADER: Final = Struct("<4s H HH 4x 4x L 4x HH")  # signature, version, flags, method, size, lengths of name and extra
_ENCRYPTED, _SIZE_FOLLOWS, _IN_UTF8 = 0x1, 0x8, 0x800
_STORED, _DEFLATED = 0, 8
_MOST_ENTRIES: Final = 1000
_UNKNOWN_SIZE: Final = 0xFFFFFFFF
_DESCRIPTORS: Final = (16, 24, 12, 20)  # bytes of a data descriptor: with a signature or without, in 32 or 64 bits
_LONGEST_DESCRIPTOR: Final = 24 + 2


class _State(Enum):
    HEADER = auto()
    DEFLATED = auto()
    STORED = auto()
    DESCRIPTOR = auto()
    END = auto()


class ZipDecoder:
    """
    Unpacks a zip file, fed with its bytes as they come: the bytes of its first entry, then C{None}, and for each
    further entry a L{Part}, its bytes and C{None}, but for the last C{None}.
    """

    def __init__(self) -> None:
        self._state = _State.HEADER
        self._held = b""
        self._entries = 0
        self._size = 0
        self._stream: Any = None
        self._size_follows = False
        self._left_out = False

    def feed(self, data: bytes) -> Iterator[Part | bytes | None]:
        """
        Unpack the next bytes.

        @raise MalformedReport: C{bad_zip}: the first entry can't be unpacked, or an entry is damaged.
        """
        self._held += data
        while True:
            before = self._state, len(self._held)
            if self._state is _State.HEADER:
                yield from self._begin_entry()
            elif self._state is _State.DEFLATED:
                yield self._inflated()
            elif self._state is _State.STORED:
                piece, self._held = self._held[: self._size], self._held[self._size :]
                self._size -= len(piece)
                if not self._size:
                    self._state = _State.HEADER
                yield piece
            elif self._state is _State.DESCRIPTOR:
                self._skip_descriptor()
            else:
                self._held = b""
            if before == (self._state, len(self._held)):
                return

    def finish(self) -> Iterator[bytes]:
        """The file has ended. What came of the last entry counts."""
        return iter(())

    def note(self) -> Note | None:
        """Return a note on what is wrong with the file, after its end; None if nothing is."""
        if self._state in (_State.DEFLATED, _State.STORED):
            return Note("repaired", "the zip file is cut off; its end may be missing")
        if self._left_out:
            return Note("left_out", "entries of the zip file that can't be unpacked are left out")
        return None

    def _begin_entry(self) -> Iterator[Part | None]:
        held = self._held
        if len(held) < _HEADER.size:
            return
        begin, _, flags, method, size, name_length, extra_length = _HEADER.unpack_from(held)
        end = _HEADER.size + name_length + extra_length
        self._size_follows = bool(flags & _SIZE_FOLLOWS)
        is_stored = method == _STORED and not self._size_follows and size != _UNKNOWN_SIZE
        can_be_unpacked = not flags & _ENCRYPTED and (is_stored or method == _DEFLATED)
        if begin != ZIP_BEGIN or not can_be_unpacked or self._entries == _MOST_ENTRIES:
            if not self._entries:
                raise MalformedReport("bad_zip")
            self._state, self._left_out = _State.END, begin == ZIP_BEGIN
            return
        if len(held) < end:
            return
        name = held[_HEADER.size : _HEADER.size + name_length]
        self._held = held[end:]
        if is_stored:
            self._state, self._size = _State.STORED if size else _State.HEADER, size
        else:
            self._state, self._stream = _State.DEFLATED, zlib_ng.decompressobj(-zlib_ng.MAX_WBITS)
        self._entries += 1
        if self._entries > 1:
            yield None
            text = name.decode("utf-8" if flags & _IN_UTF8 else "cp437", errors="replace")
            yield _part(text.rpartition("/")[2] or text)

    def _inflated(self) -> bytes:
        try:
            piece: bytes = self._stream.decompress(self._held, STEP)
        except zlib_ng.error as e:  # type: ignore[misc]
            raise MalformedReport("bad_zip") from e
        self._held = self._stream.unconsumed_tail or self._stream.unused_data
        if self._stream.eof:
            self._state = _State.DESCRIPTOR if self._size_follows else _State.HEADER
        return piece

    def _skip_descriptor(self) -> None:
        if len(self._held) < _LONGEST_DESCRIPTOR:
            return
        size = next((size for size in _DESCRIPTORS if self._held[size : size + 2] == ZIP_BEGIN[:2]), 0)
        self._held = self._held[size:]
        self._state = _State.HEADER if size else _State.END


def _part(name: str) -> Part:
    sent = name.encode(errors="replace").decode("latin-1")  # as the headers of a part are read
    return Part(sent, filename=sent, content_type="application/octet-stream")
