"""
Parses the part C{extra}: a JSON object that holds all annotations.

A string is the value of its annotation. For any other value the annotation is its JSON text, exactly as it was sent.
"""

import json
import re
from collections.abc import Iterator

from collectord.errors import MalformedReport, TooLarge
from collectord.jsontext import TooManyItems, check_items, depth_of

# Numbers are not computed: they may have thousands of digits, and their text is kept anyway.
_DECODER = json.JSONDecoder(parse_int=len, parse_float=len)
_scan = _DECODER.raw_decode
_BEGIN, _COLON, _COMMA = (re.compile(rf"[ \t\r\n]*+{mark}[ \t\r\n]*+") for mark in (r"\{", ":", ",?"))


def parse_extra(content: bytes, *, most_items: int, most_levels: int) -> dict[str, str]:
    """
    The annotations in C{content}, by name.

    @param most_items: values that there may be, all levels together.
    @param most_levels: depth of lists and objects within each other.
    @raise TooLarge: there are more items.
    @raise MalformedReport: C{invalid_json}: it is not JSON, or nested too deep; C{invalid_json_value}: it is JSON, but
        not an object.
    """
    try:
        text = content.decode(json.detect_encoding(content), "surrogatepass")
        check_items(text, most_items)
        extra = _DECODER.decode(text)
    except TooManyItems as e:
        raise TooLarge from e
    except (ValueError, RecursionError) as e:
        raise MalformedReport("invalid_json") from e
    if not isinstance(extra, dict):
        raise MalformedReport("invalid_json_value")
    if all(type(value) is str for value in extra.values()):
        return extra
    if depth_of(extra) > most_levels:
        raise MalformedReport("invalid_json")
    return dict(_members(text))


def _members(text: str) -> Iterator[tuple[str, str]]:
    """The names and values of the object in C{text}, which is known to be valid JSON."""
    at = _end(_BEGIN, text, 0)
    while text[at] == '"':
        name, at = _scan(text, at)
        at = _end(_COLON, text, at)
        value, end = _scan(text, at)
        yield name, value if isinstance(value, str) else text[at:end]
        at = _end(_COMMA, text, end)


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    assert found is not None, "it is well formed"
    return found.end()
