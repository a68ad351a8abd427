"""
The content codings that a body may have: gzip, deflate, br and zstd. Each decodes a stream step by step.

No step gives much more than it is asked for, so a decompression bomb costs no more than what was taken of it.
"""

import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

import brotli
from attrs import frozen
from zlib_ng import zlib_ng

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

KIB = 1024
STEP = 64 * KIB
"""Bytes that one step gives, roughly: brotli may give half as many more."""
BEGIN = 4
"""Bytes by which one knows a stream."""

_ANYTHING = re.compile(b"")
_WRONG_CHECKSUM = re.compile("incorrect (data|length) check|match checksum")

_GZIP_HEADER, _ZLIB_HEADER, _NO_HEADER = 16 + zlib_ng.MAX_WBITS, zlib_ng.MAX_WBITS, -zlib_ng.MAX_WBITS
_ZSTD_WINDOW_LOG = 23  # 8 MiB, the most that RFC 9659 allows in HTTP


class Broken(Exception):
    """The bytes are not of the coding, or were damaged."""


class WrongChecksum(Broken):
    """All was decoded, but the checksum after it is another."""


class Stream(Protocol):
    """One stream of a coding while it is decoded."""

    @property
    def ended(self) -> bool:
        """Whether its end has come."""

    def step(self, data: bytes) -> tuple[bytes, bytes]:
        """
        Decode some of the next bytes.

        @return: what they give, not many more bytes than its coding says; and those that are still to be decoded. If
            there are none, and it gave something, the next step may give more of what it has taken.
        @raise Broken: they can't be decoded.
        """


class _Zlib:
    def __init__(self, window_bits: int) -> None:
        self._stream: Any = zlib_ng.decompressobj(window_bits)

    @property
    def ended(self) -> bool:
        return bool(self._stream.eof)

    def step(self, data: bytes) -> tuple[bytes, bytes]:
        before = self._stream.copy()
        try:
            piece: bytes = self._stream.decompress(data, STEP)
        except zlib_ng.error as e:  # type: ignore[misc]
            self._stream = before
            if len(data) == 1:
                raise (WrongChecksum if _WRONG_CHECKSUM.search(str(e)) else Broken) from e
            return self._until_damage(data)
        return piece, self._stream.unconsumed_tail or self._stream.unused_data

    def _until_damage(self, data: bytes) -> tuple[bytes, bytes]:
        """Return what is given by all that is before the byte that can't be decoded, and that byte alone."""
        given, size = b"", len(data)  # that byte is one of the first so many
        while size > 1:
            half, stream = size // 2, self._stream.copy()
            try:
                given += stream.decompress(data[:half], STEP + 1)
            except zlib_ng.error:  # type: ignore[misc]
                size = half
            else:
                self._stream, data, size = stream, data[half:], size - half
        return given, data[:1]


class _Deflate:
    """By the standard it has the header of zlib; some clients send it without."""

    def __init__(self) -> None:
        self._begin = b""
        self._stream: _Zlib | None = None

    @property
    def ended(self) -> bool:
        return self._stream is not None and self._stream.ended

    def step(self, data: bytes) -> tuple[bytes, bytes]:
        if self._stream is None:
            data = self._begin + data
            if len(data) < 2:
                self._begin = data
                return b"", b""
            has_header = data[0] & 15 == 8 and int.from_bytes(data[:2]) % 31 == 0
            self._stream = _Zlib(_ZLIB_HEADER if has_header else _NO_HEADER)
        return self._stream.step(data)


class _Brotli:
    def __init__(self) -> None:
        self._stream = brotli.Decompressor()

    @property
    def ended(self) -> bool:
        return bool(self._stream.is_finished())

    def step(self, data: bytes) -> tuple[bytes, bytes]:
        try:
            if not self._stream.can_accept_more_data():
                return self._stream.process(b"", output_buffer_limit=STEP), data
            piece: bytes = self._stream.process(data, output_buffer_limit=STEP)
            if 0 < len(piece) < STEP and not self.ended:  # it may hold something back until it is called again
                piece += self._stream.process(b"", output_buffer_limit=STEP - len(piece))
            return piece, b""
        except brotli.error as e:
            raise Broken from e


class _Zstd:
    def __init__(self) -> None:
        self._stream = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG})

    @property
    def ended(self) -> bool:
        return self._stream.eof

    def step(self, data: bytes) -> tuple[bytes, bytes]:
        try:
            return self._stream.decompress(data, STEP), self._stream.unused_data
        except zstd.ZstdError as e:
            raise (WrongChecksum if _WRONG_CHECKSUM.search(str(e)) else Broken) from e


AfterTheEnd = Literal["another", "left out", "broken"]
"""What bytes after the end of a stream are: another stream; nothing that belongs to the body; or a sign of damage."""


@frozen(kw_only=True)
class Coding:
    """
    A coding is one of the ways in which bodies are compressed.

    @ivar name: as C{Content-Encoding} has it.
    @ivar new_stream: makes what decodes a stream of it.
    @ivar begin: matches what a stream begins with, L{BEGIN} bytes.
    @ivar step: bytes that one step gives, roughly: fewer where they take long.
    @ivar window: how much of what it has given a stream keeps in memory; 0: little enough not to count.
    @ivar is_exact: whether a stream gives all that is before a damage. If it does not, what a step would have given is
        lost when there is damage in its bytes.
    """

    name: str
    new_stream: Callable[[], Stream]
    after_the_end: AfterTheEnd
    begin: re.Pattern[bytes]
    is_exact: bool = False
    step: int = STEP
    window: int = 0


_GZIP = Coding(
    name="gzip",
    new_stream=lambda: _Zlib(_GZIP_HEADER),
    after_the_end="another",
    begin=re.compile(rb"\x1f\x8b\x08"),
    is_exact=True,
)
_ZSTD = Coding(
    name="zstd",
    new_stream=_Zstd,
    after_the_end="another",
    begin=re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"),  # frames of data, and those to be skipped
    window=1 << _ZSTD_WINDOW_LOG,
)
_DEFLATE = Coding(
    name="deflate",
    new_stream=_Deflate,
    after_the_end="left out",
    begin=re.compile(rb"(?!\x1f\x8b)"),  # gzip: as deflate, the first block would be of a type that there is not
    is_exact=True,
)
# Its package raises an error if more than a stream comes, and then the end of the stream is lost.
_BR = Coding(name="br", new_stream=_Brotli, after_the_end="broken", begin=_ANYTHING, window=16 * KIB * KIB)

CODINGS: Mapping[bytes, Coding] = {b"gzip": _GZIP, b"x-gzip": _GZIP, b"deflate": _DEFLATE, b"br": _BR, b"zstd": _ZSTD}
"""By the names that C{Content-Encoding} has for them."""


def coding_shown_by(begin: bytes) -> Coding | None:
    """Return the coding of a stream that begins with C{begin}, L{BEGIN} bytes; None if they do not show it."""
    return next((coding for coding in (_GZIP, _ZSTD) if coding.begin.match(begin)), None)
