"""
The order of version numbers, as Mozilla's toolkit has it: C{45.0a1 < 45.0b2 < 45.0 < 45.0.1 < 45.10}.

A version is a run of parts with dots between, and a missing part counts as 0. A part is a number, text, a number and
the rest. Numbers compare as numbers; text compares as text, and no text at all comes after any: C{45.0b1 < 45.0}, and
C{45.0esr < 45.0} too.
"""

import re
from typing import TypeAlias

_Text: TypeAlias = tuple[bool, str]
_Part: TypeAlias = tuple[int, _Text, int, _Text]

Version: TypeAlias = tuple[_Part, ...]

# int() raises on thousands of digits; no version has so many.
_LONGEST = 100
_PART = re.compile(r"([0-9]*)([^0-9]*)([0-9]*)(.*)", re.DOTALL)


def parse_version(text: str) -> Version | None:
    """Whatever begins with a digit and has 100 characters at most; nothing else is a version."""
    if len(text) > _LONGEST or not "0" <= text[:1] <= "9":
        return None
    return tuple(_part(part) for part in text.split("."))


def is_below(version: Version, limit: Version) -> bool:
    width = max(len(version), len(limit))
    return _padded(version, width) < _padded(limit, width)


def _part(text: str) -> _Part:
    found = _PART.match(text)
    assert found is not None, "it matches anything"
    number, suffix, suffix_number, rest = found.groups()
    return int(number or 0), _text(suffix), int(suffix_number or 0), _text(rest)


def _text(text: str) -> _Text:
    return not text, text


def _padded(version: Version, width: int) -> Version:
    return version + (_ZERO,) * (width - len(version))


_ZERO = _part("0")
