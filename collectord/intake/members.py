"""
Reads the members of a JSON object one after the other, also those that are not quite JSON.

Commas may be missing between members, or be too many. A backslash that begins no escape stands for itself. Control
characters may be in strings. A list or an object that is no JSON is kept as it is if its brackets are balanced, as is a
word or a number.
"""

import json
import re
import sys
from collections.abc import Iterator
from typing import Final

from collectord.jsontext import depth_of

# Numbers are not computed, as their text is what is kept.
_scan = json.JSONDecoder(parse_int=len, parse_float=len, strict=False).scan_once  # type: ignore[attr-defined]
_BEGIN, _COLON, _COMMA = (
    re.compile(rf"[ \t\r\n]*+{mark}") for mark in (r"\{[ \t\r\n,]*+", r":[ \t\r\n]*+", r"[ \t\r\n,]*+")
)
_STRING: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_SCALAR: Final = re.compile(r'[^ \t\r\n,"\[\]{}]++(?=[ \t\r\n]*+[,"}])')  # without what follows it may be cut off
_GOES_ON: Final = re.compile(r"[\w.+-]")
_TO_BRACKET: Final = re.compile(r'[^"\[\]{}]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^"\[\]{}]*+)*+([\[\]{}])', re.DOTALL)
_ESCAPE: Final = re.compile(r'\\(["\\/bfnrt]|u[0-9A-Fa-f]{4})?')

_MOST_MENDED: Final = 100
_LONGEST_MENDED: Final = 128 * 1024
"""Characters of all members that are mended, together. They take much longer than others."""

_FAR: Final = 64 * 1024
"""For an error after so many characters the scanner takes long, since it counts the lines up to there."""

Member = tuple[str, str, int]
"""The name and the value of a member, and where the text goes on after it and its comma."""


def first_member(text: str) -> int:
    """Where the first member of the object C{text} begins; -1 if it is no object."""
    begin = _BEGIN.match(text)
    return begin.end() if begin else -1


def members_of(text: str, at: int, most_levels: int) -> Iterator[Member]:
    """
    The members from C{at} on.

    @raise ValueError: the next one can't be understood.
    @raise RecursionError: the next one has too many levels.
    """
    gone, mended, stop = 0, 0, at + _LONGEST_MENDED
    while text.startswith('"', at):
        try:
            member = _member(text, at, most_levels)
        except (ValueError, StopIteration) as e:
            if mended == _MOST_MENDED:
                raise ValueError from e
            mended += 1
            if at > _FAR:
                text, gone, stop, at = text[at:], gone + at, stop - at, 0
            member = _mended(text, at, stop, most_levels)
        else:
            stop += member[2] - at  # this member is whole already
        name, value, at = member
        yield name, value, gone + at


def _member(text: str, at: int, most_levels: int) -> Member:
    name, end = _scan(text, at)
    colon = _COLON.match(text, end)
    if colon is None:
        raise ValueError
    begin = colon.end()
    value, end = _scan(text, begin)
    if type(value) is not str:
        if isinstance(value, list | dict):
            if depth_of(value) >= most_levels:
                raise RecursionError
        elif _GOES_ON.match(text, end):
            raise ValueError
        value = text[begin:end]
    comma = _COMMA.match(text, end)
    return name, value, comma.end() if comma else end


def _mended(text: str, at: int, stop: int, most_levels: int) -> Member:
    end = _end_of(_STRING, text, at, stop)
    begin = _end_of(_COLON, text, end)
    name = _unquoted(text[at:end])
    if text.startswith('"', begin):
        end = _end_of(_STRING, text, begin, stop)
        return name, _unquoted(text[begin:end]), _end_of(_COMMA, text, end)
    if text.startswith(("[", "{"), begin):
        end = _end_of_brackets(text, begin, stop, most_levels)
    else:
        end = _end_of(_SCALAR, text, begin, stop)
    return name, text[begin:end], _end_of(_COMMA, text, end)


def _unquoted(string: str) -> str:
    mended = _ESCAPE.sub(lambda escape: escape[0] if escape[1] else r"\\", string)
    value: str = _scan(mended, 0)[0]
    return value


def _end_of_brackets(text: str, at: int, stop: int, most_levels: int) -> int:
    open_brackets: list[str] = []
    while bracket := _TO_BRACKET.match(text, at, stop):
        at = bracket.end()
        if bracket[1] in "[{":
            open_brackets.append(bracket[1])
            if len(open_brackets) >= most_levels:
                raise RecursionError
        elif open_brackets.pop() + bracket[1] not in ("[]", "{}"):
            break
        elif not open_brackets:
            return at
    raise ValueError


def _end_of(pattern: re.Pattern[str], text: str, at: int, stop: int = sys.maxsize) -> int:
    found = pattern.match(text, at, stop)
    if found is None:
        raise ValueError
    return found.end()
