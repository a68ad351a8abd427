"""
Decodes the content of a part that says by C{Content-Transfer-Encoding} how it is encoded.
"""

import re
from binascii import a2b_base64, a2b_hex
from typing import Protocol

from collectord.model import MINIDUMP_BEGIN

_BEHIND_NAME = re.compile(r'[\s";(]')  # some put the name in quotes, or a comment or a parameter behind it
_NO_ENCODING = frozenset({"", "7bit", "8bit", "binary"})
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/=\s]")
_BLANKS = b" \t\r\n\v\f"
_ESCAPE = re.compile(rb"=(?:([0-9A-Fa-f]{2})|\r?\n)")
_BEGUN_ESCAPE = re.compile(rb"=(?:[0-9A-Fa-f]|\r)?\Z")
_LOOKED_AT = 64
"""An encoding is known by its first bytes. What only claims to be encoded is kept as it is."""


class Decoder(Protocol):
    """
    Decodes the content of one part, piece by piece.

    @ivar problem: what a note has to say of it, or None.
    """

    problem: str | None

    def feed(self, data: bytes) -> bytes:
        """Return what C{data}, the next of the content, stands for, as far as that is known yet."""

    def finish(self) -> bytes:
        """Return the rest, after the last piece."""


def decoder_for(encoding: str | None) -> Decoder | None:
    """
    Return what decodes a part, or None if its content is sent as it is.

    @param encoding: the C{Content-Transfer-Encoding} of the part, or None.
    """
    if encoding is None:
        return None
    name = _BEHIND_NAME.split(encoding.lstrip(' \t"'), maxsplit=1)[0].lower()
    if name in _NO_ENCODING:
        return None
    kinds: dict[str, type[Decoder]] = {"base64": Base64Decoder, "quoted-printable": QuotedPrintableDecoder}
    return kinds.get(name, UnknownDecoder)()


class UnknownDecoder:
    """Keeps a content as it is, because nobody knows its encoding."""

    problem: str | None = "its transfer encoding is unknown: kept as it was sent"

    def feed(self, data: bytes) -> bytes:
        return data

    def finish(self) -> bytes:
        return b""


class _KnownDecoder:
    """Decodes a content if its first bytes are of the encoding that it claims to be in. Else it is kept as it is."""

    name: str
    foreign: re.Pattern[bytes]  # finds a byte that is never there in this encoding

    def __init__(self) -> None:
        self.problem: str | None = None
        self._waiting = b""
        self._is_encoded: bool | None = None  # None until enough has come to tell

    def feed(self, data: bytes) -> bytes:
        self._waiting += data
        if self._is_encoded is None and len(self._waiting) < _LOOKED_AT:
            return b""
        return self._next(last=False)

    def finish(self) -> bytes:
        return self._next(last=True)

    def _next(self, last: bool) -> bytes:
        data, self._waiting = self._waiting, b""
        if self._is_encoded is None:
            self._is_encoded = self.foreign.search(data, 0, _LOOKED_AT) is None
            if not self._is_encoded:
                self.problem = f"it is not {self.name}, though it says so: kept as it was sent"
        return self._decoded(data, last) if self._is_encoded else data

    def _decoded(self, data: bytes, last: bool) -> bytes:
        """Decode C{data}, and let those of its last bytes wait that can't be decoded before more has come."""
        raise NotImplementedError


class Base64Decoder(_KnownDecoder):
    """
    Decodes base64 (RFC 2045): blanks and line ends do not count, and the padding may be missing.

    Padding may stand in the middle, too, where a client has encoded piece by piece.
    """

    name = "base64"
    foreign = re.compile(rb"\A%s|%s" % (MINIDUMP_BEGIN, _NOT_BASE64.pattern))

    def _decoded(self, data: bytes, last: bool) -> bytes:
        digits = data.translate(None, _BLANKS)
        if _NOT_BASE64.search(digits):
            self.problem = "characters that are not base64 are left out"
            digits = _NOT_BASE64.sub(b"", digits)
        *padded, digits = digits.split(b"=")
        decoded = b"".join(self._ended(each) for each in padded if each)
        if last:
            return decoded + self._ended(digits)
        whole = len(digits) // 4 * 4
        self._waiting = digits[whole:]
        return decoded + a2b_base64(digits[:whole])

    def _ended(self, digits: bytes) -> bytes:
        if len(digits) % 4 == 1:  # one digit is six bits, too few for a byte
            self.problem = self.problem or "its base64 is cut off"
            digits = digits[:-1]
        return a2b_base64(digits + b"=" * (-len(digits) % 4))


class QuotedPrintableDecoder(_KnownDecoder):
    """Decodes quoted-printable (RFC 2045). An equals sign that begins no escape is kept."""

    name = "quoted-printable"
    foreign = re.compile(rb"[\0-\x08\x0e-\x1f]")

    def _decoded(self, data: bytes, last: bool) -> bytes:
        begun = None if last else _BEGUN_ESCAPE.search(data, max(0, len(data) - 2))
        whole = begun.start() if begun else len(data)
        self._waiting = data[whole:]
        return _ESCAPE.sub(_unescaped, data[:whole])


def _unescaped(escape: re.Match[bytes]) -> bytes:
    digits: bytes | None = escape[1]
    return a2b_hex(digits) if digits else b""
