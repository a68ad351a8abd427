"""
A part that is text by its headers, but may be a file by its bytes.
"""

import re
from codecs import getincrementaldecoder
from collections.abc import Callable
from typing import Final

from collectord.intake.charsets import is_utf8, is_wide
from collectord.model import MINIDUMP_BEGIN

_CONTROL: Final = re.compile(rb"[\x01-\x08\x0e-\x1a\x1c-\x1f]")
"""Control characters that no text has: neither white space nor an escape of a terminal."""

is_plain: Final = re.compile(rb"(?!%s)[\t-\r\x1b -~]*+" % MINIDUMP_BEGIN).fullmatch
"""Tells whether bytes are text in ASCII, and no file whatever their part is called."""

_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_OBJECT: Final = re.compile(rb"[\0 \t\r\n\xef\xbb\xbf\xfe\xff]*+\{")
"""How JSON begins, in any encoding."""

_LOOKED_AT = 64
"""So many bytes of each are taken, even if there is no room for more annotations, to see what it is."""

Write = Callable[[bytes], None]
End = Callable[[], None]
Sink = tuple[Write, End]
"""What takes the bytes of a part, and what is called at its end."""


def is_binary(content: bytes | bytearray, *, charset: str = "", is_json: bool = False, is_likely: bool = False) -> bool:
    """
    Tell whether C{content} is no text.

    It is none if it begins as a minidump does, or if at least two things are wrong: it is not UTF-8, it has NUL in it,
    it has control characters that no text has.

    @param charset: that the content is said to be in; empty if nothing is said.
    @param is_json: whether it is said to be JSON. That is text in any encoding if it begins as an object does.
    @param is_likely: whether a file is more likely than text, so that one thing wrong is enough.
    """
    if content.startswith(MINIDUMP_BEGIN):
        return True
    if _is_utf16(content) or (charset and is_wide(charset)) or (is_json and _OBJECT.match(content)):
        return False
    is_no_utf8 = (not charset or is_utf8(charset)) and _is_not_utf8(content)
    wrong = is_no_utf8 + (b"\0" in content) + (_CONTROL.search(content) is not None)
    return wrong >= (1 if is_likely else 2)


def _is_utf16(content: bytes | bytearray) -> bool:
    """Whether C{content} has a byte order mark, and is in UTF-16 indeed, but for the end, which may be cut off."""
    if not content.startswith(_UTF_16):
        return False
    try:
        getincrementaldecoder("utf-16")().decode(content)
    except UnicodeDecodeError:
        return False
    return True


def _is_not_utf8(content: bytes | bytearray) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return True
    return False


class UndecidedPart:
    """
    Collects the bytes of one part until it is known whether they are an annotation or a file.

    @param take: takes room for so many bytes of annotations, and returns for how many there is room.
    @param give_back: gives so many back.
    @param is_binary: tells whether what has come is no text.
    @param text: is called at the end with an annotation, and with the number of bytes that had no room.
    @param file: is called as soon as it is known to be a file; it returns what takes its bytes, and what ends it.
    """

    def __init__(
        self,
        take: Callable[[int], int],
        give_back: Callable[[int], None],
        is_binary: Callable[[bytearray], bool],
        text: Callable[[bytearray, int], None],
        file: Callable[[], Sink],
    ) -> None:
        self._take = take
        self._give_back = give_back
        self._is_binary = is_binary
        self._text = text
        self._file = file
        self._value = bytearray()  # a list of tiny pieces would take many times their size
        self._taken = 0
        self._lost = 0
        self._file_write: Write | None = None
        self._file_end: End

    def write(self, data: bytes) -> None:
        """Take the next bytes of the part."""
        if self._file_write is not None:
            self._file_write(data)
            return
        size = len(self._value)
        room = self._take(len(data))
        self._taken += room
        kept = max(room, min(len(data), _LOOKED_AT - size))
        self._value += data[:kept]
        is_minidump = size < len(MINIDUMP_BEGIN) and self._value.startswith(MINIDUMP_BEGIN)
        if is_minidump or (kept < len(data) and not self._lost and self._is_binary(self._value)):
            self._become_file()(data[kept:])
        else:
            self._lost += len(data) - kept

    def end(self) -> None:
        """Decide what it is, and pass it on."""
        if self._file_write is None and not self._lost and self._is_binary(self._value):
            self._become_file()
        if self._file_write is not None:
            self._file_end()
        else:
            self._text(self._value, self._lost)

    def _become_file(self) -> Write:
        self._file_write, self._file_end = self._file()
        self._give_back(self._taken)
        self._file_write(bytes(self._value))
        self._value.clear()
        return self._file_write
