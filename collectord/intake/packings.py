"""
What a file in a report may be packed in: gzip, zstd, xz or bzip2. Its first bytes show that.
"""

import re
from bz2 import BZ2Decompressor
from lzma import FORMAT_XZ, LZMADecompressor, LZMAError
from typing import Final, Protocol

from collectord.intake.codings import KIB, STEP, Broken, Coding, coding_shown_by

_TAKEN: Final = 16 * KIB
"""Bytes that a step takes: a whole block of bzip2 would take 40 ms."""
_XZ_WINDOW: Final = 8 * KIB * KIB
"""That of its usual level, and as much as zstd may have."""
_BZIP2_WINDOW: Final = 4 * KIB * KIB
_BZIP2_STEP: Final = STEP // 8
"""It takes eight times as long as the others for what it gives."""
_MEMORY: Final = _XZ_WINDOW + KIB * KIB


class _Decompressor(Protocol):
    """One of the standard library."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = ...) -> bytes: ...


class _Stream:
    def __init__(self, decompressor: _Decompressor, most: int) -> None:
        self._stream = decompressor
        self._most = most

    @property
    def ended(self) -> bool:
        return self._stream.eof

    def step(self, data: bytes) -> tuple[bytes, bytes]:
        try:
            piece = self._stream.decompress(data[:_TAKEN], self._most)
        except (LZMAError, OSError, MemoryError) as e:
            raise Broken from e
        return piece, self._stream.unused_data + data[_TAKEN:]


_XZ: Final = Coding(
    name="xz",
    new_stream=lambda: _Stream(LZMADecompressor(FORMAT_XZ, memlimit=_MEMORY), STEP),
    after_the_end="another",
    begin=re.compile(rb"\xfd7zX"),
    window=_XZ_WINDOW,
)
_BZIP2: Final = Coding(
    name="bzip2",
    new_stream=lambda: _Stream(BZ2Decompressor(), _BZIP2_STEP),
    after_the_end="another",
    begin=re.compile(rb"BZh[1-9]"),
    step=_BZIP2_STEP,
    window=_BZIP2_WINDOW,
)


def packing_shown_by(begin: bytes) -> Coding | None:
    """Return the coding of a file that begins with C{begin}, four bytes or more; None if they do not show it."""
    return coding_shown_by(begin) or next((coding for coding in (_XZ, _BZIP2) if coding.begin.match(begin)), None)
