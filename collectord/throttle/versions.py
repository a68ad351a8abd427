"""
Compares version numbers in the order of Mozilla's toolkit: C{45.0a1 < 45.0b2 < 45.0 < 45.0.1 < 45.10}.

A version consists of parts with dots between them, and a missing part counts as 0. A part consists of a number, text, a
number, and the rest. Numbers are compared as numbers, and text as text. A part without text comes after one that has
some: C{45.0b1 < 45.0}, and so C{45.0esr < 45.0}.
"""

import re
from typing import TypeAlias

_Text: TypeAlias = tuple[bool, str]
_Part: TypeAlias = tuple[int, _Text, int, _Text]

Version: TypeAlias = tuple[_Part, ...]

# int() refuses numbers of several thousand digits, which no real version has.
_LONGEST = 100
_PART = re.compile(r"([0-9]*)([^0-9]*)([0-9]*)(.*)", re.DOTALL)


def parse_version(text: str) -> Version | None:
    """Parse a version: any text that begins with a digit and has 100 characters at most. Else return None."""
    if len(text) > _LONGEST or not "0" <= text[:1] <= "9":
        return None
    return tuple(_part(part) for part in text.split("."))


def is_below(version: Version, limit: Version) -> bool:
    """Tell whether C{version} comes before C{limit}."""
    width = max(len(version), len(limit))
    return _padded(version, width) < _padded(limit, width)


def _part(text: str) -> _Part:
    found = _PART.match(text)
    assert found is not None, "every part of _PART may be empty"
    number, suffix, suffix_number, rest = found.groups()
    return int(number or 0), _text(suffix), int(suffix_number or 0), _text(rest)


def _text(text: str) -> _Text:
    return not text, text


def _padded(version: Version, width: int) -> Version:
    return version + (_ZERO,) * (width - len(version))


_ZERO = _part("0")
