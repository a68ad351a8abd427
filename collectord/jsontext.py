"""
JSON that clients wrote, which is parsed on the reactor's thread: its time is bounded by the number of its items.

A megabyte of one string is parsed in a millisecond; a megabyte of empty lists takes a third of a second.
"""

import json
import re
from typing import Any

_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_MOST_DIGITS = 100
_BEGINNING = 65536


class TooManyItems(Exception):
    """There are more values than are allowed, or they are nested too deep."""


def parse_json(text: str, most_items: int) -> Any:
    """
    What C{text} says. A whole number of more than 100 digits is C{None}.

    @raise TooManyItems: see there.
    @raise ValueError: it is not JSON.
    """
    check_items(text, most_items)
    try:
        return _VALUES.decode(text)
    except RecursionError as e:
        raise TooManyItems from e


def check_items(text: str, most: int) -> None:
    """
    @raise TooManyItems: there are more than C{most} values in the JSON C{text}, all levels together.
    """
    for beginning in (text[:_BEGINNING], text):  # what is hostile shows it early
        if len(beginning) <= most or _items(beginning) <= most:
            continue
        # It may well be in strings: many of them hold JSON of their own. There are two for an item at most.
        bare, strings = _STRING.subn("", beginning, count=2 * most + 3)
        if strings > 2 * most + 2 or _items(bare) > most:
            raise TooManyItems


def depth_of(value: object) -> int:
    """How many levels of lists and objects there are in C{value}, which was parsed."""
    depth, level = 0, [value]
    while level := [each for each in level if isinstance(each, list | dict)]:
        depth += 1
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
    return depth


def _items(text: str) -> int:
    return text.count(",") + text.count("[") + text.count("{")


def _whole(text: str) -> int | None:
    return int(text) if len(text) <= _MOST_DIGITS else None


_VALUES = json.JSONDecoder(parse_int=_whole)
