"""
Reads the JSON in which annotations were sent, and keeps what can't be understood of it as text.

A string is the value of its annotation. For any other value the annotation is its JSON text, exactly as it was sent.
"""

import json
import re
from collections.abc import Sequence
from itertools import islice

from attrs import field, frozen

from collectord.intake.members import first_member, members_of
from collectord.jsontext import TooManyItems, check_items

# Numbers are not computed: they may have thousands of digits, and their text is kept anyway.
_parse_strictly = json.JSONDecoder(parse_int=len, parse_float=len, object_pairs_hook=tuple).decode
_MARK = re.compile(r"[,\[{]")
_END = re.compile(r"[ \t\r\n]*+\}[ \t\r\n]*+")


@frozen
class Extra:
    """
    What there is in the JSON of one part.

    @ivar members: the names and values of its object, in order. A name may be there several times.
    @ivar rest: what can't be understood, as text; empty if all can.
    @ivar problem: why there is a rest, or what else is wrong with the JSON; empty if it is right.
    @ivar refusal: the reason to refuse a report that has nothing else; empty if the JSON is understood in part, or only
        too large.
    """

    members: Sequence[tuple[str, str]] = field(repr=False)
    rest: str = field(default="", repr=False)
    problem: str = ""
    refusal: str = ""


def parse_extra(text: str, *, most_items: int, most_levels: int) -> Extra:
    """
    Read the JSON object C{text}, as far as that is possible.

    @param most_items: values that there may be, all levels together. If there are more, only its beginning is read.
    @param most_levels: depth of lists and objects within each other. The rest begins with a value that is deeper.
    """
    try:
        check_items(text, most_items)
    except TooManyItems:
        return _beginning(text, most_items, most_levels)
    try:
        members = _parse_strictly(text)
        if not isinstance(members, tuple):
            return Extra((), text, "it is no JSON object", "invalid_json_value")
        if all(type(value) is str for _, value in members):
            return Extra(members)
        problem = ""
    except (ValueError, RecursionError):
        problem = "it is not quite JSON"
    return _read(text, problem, most_items, most_levels)


def _beginning(text: str, most_items: int, most_levels: int) -> Extra:
    """Read what is before as many commas and brackets as there may be values."""
    marks = (found.end() for found in _MARK.finditer(text))
    end = next(islice(marks, most_items, None), 0)
    read = _read(text[:end], "", most_items, most_levels)
    rest = text[end - len(read.rest) :]
    return Extra(read.members, rest, f"it has more than {most_items} values")


def _read(text: str, problem: str, most_items: int, most_levels: int) -> Extra:
    """Read one member after the other, as long as they can be understood."""
    refusal, at = "invalid_json", first_member(text)
    if at < 0:
        return Extra((), text, "it is no JSON object", refusal)
    members: list[tuple[str, str]] = []
    try:
        for name, value, after in members_of(text, at, most_levels):
            if len(members) == most_items:  # items are counted by their commas, which may be missing
                raise TooManyItems
            members.append((name, value))
            at = after
    except ValueError:
        problem = "it is not JSON"
    except TooManyItems:
        problem, refusal = f"it has more than {most_items} values", ""
    except RecursionError:
        problem, refusal = f"it has more than {most_levels} levels", ""
    end = _END.match(text, at)
    if end is not None and end.end() == len(text):
        return Extra(members, "", problem)
    if members:
        return Extra(members, text[at:], problem)
    return Extra((), text, problem, refusal)
