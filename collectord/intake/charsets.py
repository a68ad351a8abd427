"""
Decodes text in the charset that its client names. Nothing is dropped: U+FFFD stands for what can't be decoded.
"""

import codecs
import re
from collections.abc import Sequence
from encodings.aliases import aliases

from collectord.model import Note

_REPLACEMENT = "\ufffd"
_MOST_ERRORS = 10_000
_PIECE = 16384

_UTF = ("utf_8", "utf_16", "utf_16_le", "utf_16_be", "utf_32", "utf_32_le", "utf_32_be")
_SINGLE_BYTE = (
    *("latin_1", *(f"iso8859_{n}" for n in range(2, 17) if n != 12), "koi8_r", "koi8_u", "mac_roman"),
    *(f"cp{n}" for n in (437, 850, 852, 855, 858, 866, 874, *range(1250, 1259))),
)
_EAST_ASIAN = ("cp932", "cp949", "cp950", "big5hkscs", "euc_jp", "iso2022_jp", "gb18030")
_SUPERSETS = {
    "ascii": "utf_8",
    "utf_8_sig": "utf_8",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "cp950",
    "gb2312": "gb18030",
    "gbk": "gb18030",
}
"""Codecs in whose place others are used, which decode the same text and more."""

_CHOICE = {name: _SUPERSETS.get(name, name) for name in (*_UTF, *_SINGLE_BYTE, *_EAST_ASIAN, *_SUPERSETS)}
_CODECS = {
    re.sub("[^a-z0-9]", "", alias): _CHOICE[name]
    for alias, name in (*aliases.items(), *zip(_CHOICE, _CHOICE, strict=True))
    if name in _CHOICE
}
"""The codecs that clients may choose, by the names of charsets. There are others in Python, that decode no text."""

_BYTE_ORDER_MARKS = {
    "utf_16": ((codecs.BOM_UTF16_LE, "utf_16_le"), (codecs.BOM_UTF16_BE, "utf_16_be")),
    "utf_32": ((codecs.BOM_UTF32_LE, "utf_32_le"), (codecs.BOM_UTF32_BE, "utf_32_be")),
}
_UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""What text may begin with that names no charset. No text in UTF-8 does."""

WITHOUT_NUL = Note("left_out", "its NUL characters are left out")
"""The note on a text that had NUL in it."""

_SEPARATORS = re.compile("[^a-z0-9]")


class TextDecoder:
    """
    Decodes the texts of one report.

    In some codecs an error takes a thousand times as long as a character. So once there are 10,000 in the report, text
    that can't be decoded in the charset that it names is read as UTF-8.
    """

    def __init__(self) -> None:
        self._errors_left = _MOST_ERRORS

    def decode(self, content: bytes, charset: str | None) -> tuple[str, Sequence[Note]]:
        """
        Return the text of C{content}, without NUL, and what was done to read it.

        @param charset: as the client names it. If it names none, it is UTF-8, or UTF-16 with a byte order mark.
        """
        if not charset:
            if not content.startswith(_UTF_16_MARKS):
                return self._as_utf8(content, "")
            charset = "utf-16"
        codec = _codec_of(charset)
        if codec is None:
            return self._as_utf8(content, f"its charset {_shown(charset)} is not known, so it is read as UTF-8")
        if codec == "utf_8":
            return self._as_utf8(content, "")
        text = self._as(content, codec)
        if text is None:
            return self._as_utf8(content, f"it is not in its charset {_shown(charset)}, so it is read as UTF-8")
        notes = []
        if _REPLACEMENT in text:
            notes.append(_replaced(f"not all of it is in its charset {_shown(charset)}"))
        if "\0" in text:
            text = text.replace("\0", "")
            notes.append(WITHOUT_NUL)
        return text, notes

    def _as_utf8(self, content: bytes, because: str) -> tuple[str, Sequence[Note]]:
        notes = []
        if b"\0" in content:
            content = content.translate(None, b"\0")
            notes.append(WITHOUT_NUL)
        try:
            text, whole = content.decode(), True
        except UnicodeDecodeError:
            text, whole = self._with_surrogates(content) or (content.decode(errors="replace"), False)
            because = because or ("it is UTF-8 that encodes surrogates" if whole else "not all of it is UTF-8")
        if because:
            notes.append(Note("repaired", because) if whole else _replaced(because))
        return text, notes

    def _with_surrogates(self, content: bytes) -> tuple[str, bool] | None:
        """Decode UTF-8 as Java writes it, with surrogates, and tell if all are pairs; None: it is no such text."""
        surrogates = content.count(b"\xed")  # other characters begin so, too: it may be fewer
        if not 0 < surrogates <= self._errors_left:
            return None
        self._errors_left -= surrogates
        try:
            units = content.decode(errors="surrogatepass").encode("utf-16-le", "surrogatepass")
        except UnicodeDecodeError:
            return None
        try:
            return units.decode("utf-16-le"), True
        except UnicodeDecodeError:
            return units.decode("utf-16-le", "replace"), False

    def _as(self, content: bytes, codec: str) -> str | None:
        """Decode C{content}; None if there are too many errors."""
        if codec in _SINGLE_BYTE:
            table = bytes(range(256)).decode(codec, "replace")
            return codecs.charmap_decode(content, "strict", table)[0]
        for mark, marked in _BYTE_ORDER_MARKS.get(codec[:6], ()):
            if content.startswith(mark):
                content, codec = content[len(mark) :], marked
                break
        else:
            codec = f"{codec}_le" if codec in _BYTE_ORDER_MARKS else codec
        pieces: list[str] = []
        decoder = codecs.getincrementaldecoder(codec)("strict" if self._errors_left < 0 else "replace")
        try:
            for at in range(0, len(content), _PIECE):
                pieces.append(decoder.decode(content[at : at + _PIECE], at + _PIECE >= len(content)))
                self._errors_left -= pieces[-1].count(_REPLACEMENT)
                if self._errors_left < 0 and decoder.errors != "strict":
                    return None
        except UnicodeDecodeError:
            return None
        return "".join(pieces)


def is_utf8(charset: str) -> bool:
    """Tell whether text in C{charset} is read as UTF-8, as it also is if the charset is not known."""
    return _codec_of(charset) in (None, "utf_8")


def is_wide(charset: str) -> bool:
    """Tell whether text in C{charset} has NUL bytes in it."""
    return (_codec_of(charset) or "").startswith(("utf_16", "utf_32"))


def drop_cut_character(value: bytearray) -> None:
    """Remove the last character of UTF-8 text that was cut somewhere: it may be cut off."""
    while value and value[-1] & 0xC0 == 0x80:
        value.pop()
    if value and value[-1] >= 0xC0:
        value.pop()


def without_surrogates(text: str) -> str:
    """Return C{text}, which has no NUL, with U+FFFD in place of surrogates, which can't be written as UTF-8."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        # NUL stands for the question mark meanwhile, which is what a surrogate becomes: no other way is as fast.
        encoded = text.replace("?", "\0").encode(errors="replace").replace(b"?", _REPLACEMENT.encode())
        return encoded.replace(b"\0", b"?").decode()
    return text


def _codec_of(charset: str) -> str | None:
    label = _SEPARATORS.sub("", charset[:40].lower())
    return _CODECS.get(label) or _CODECS.get(label.removeprefix("x").replace("windows", "cp"))


def _shown(charset: str) -> str:
    return repr(charset[:40])


def _replaced(because: str) -> Note:
    return Note("replaced", f"{because}; U+FFFD stands for the rest")
