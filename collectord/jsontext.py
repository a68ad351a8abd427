"""
A JSON parser for text that clients wrote. It refuses what would keep the reactor thread busy for too long.

How long JSON takes depends on the number of its items more than on its size: a megabyte of one string is parsed in a
millisecond, and a megabyte of empty lists in a third of a second.
"""

import json
import re
from typing import Any

_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_MOST_DIGITS = 100
_BEGINNING = 65536


class TooManyItems(Exception):
    """The JSON has more values than are allowed, or its values are nested too deep."""


def parse_json(text: str, most_items: int) -> Any:
    """
    Parse the JSON in C{text}. A whole number of more than 100 digits becomes C{None}.

    @raise TooManyItems: it has more than C{most_items} values, or they are nested too deep.
    @raise ValueError: it is not JSON.
    """
    check_items(text, most_items)
    try:
        return _VALUES.decode(text)
    except RecursionError as e:
        raise TooManyItems from e


def check_items(text: str, most: int) -> None:
    """
    Count the values in the JSON C{text}, all levels together, without parsing it.

    @raise TooManyItems: there are more than C{most}.
    """
    for beginning in (text[:_BEGINNING], text):  # hostile text is found by its beginning, at little cost
        if len(beginning) <= most or _items(beginning) <= most:
            continue
        # Many commas and brackets may stand in strings, for annotations hold JSON of their own: take the strings out.
        # An item has two strings at most, its name and its value, so more strings than that mean too many items, too.
        bare, strings = _STRING.subn("", beginning, count=2 * most + 3)
        if strings > 2 * most + 2 or _items(bare) > most:
            raise TooManyItems


def depth_of(value: object) -> int:
    """Return how many levels of lists and objects there are in C{value}, which was parsed from JSON."""
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
