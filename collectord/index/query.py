"""
Reads the query of a search: words with blanks between them, each of which is a condition.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from collectord.index.columns import TRAITS, milliseconds
from collectord.index.found import SearchWord

FACETS: Final = ("product", "version", "day", "fingerprint", "state")
"""The properties by which what was found can be narrowed."""
_WORD = re.compile(r'(-?)(?:([^\s":]+):)?("(?:[^"\\]|\\.)*"?|\S+)')
_ID = re.compile(r"(?:bp-)?([0-9a-f](?:-?[0-9a-f]){0,31}-?)", re.IGNORECASE)
_MOST = 20
_DAY_MS = 24 * 3600 * 1000
_STATES: Final = {"waits": "kept", "stays": "kept", "quarantine": "quarantined"}


class UnfitQuery(Exception):
    """A query can't be understood; the text says why."""


def words_of(query: str) -> Sequence[SearchWord]:
    """
    Return the conditions of a query.

    @raise UnfitQuery: it can't be understood.
    """
    found = list(_WORD.finditer(query))
    if len(found) > _MOST:
        raise UnfitQuery(f"More than {_MOST} words")
    words = []
    for number, match in enumerate(found):
        rest = " ".join(other[0] for place, other in enumerate(found) if place != number)
        words.append(_word(match, rest))
    return words


def _word(match: re.Match[str], rest: str) -> SearchWord:
    is_not, name, value = bool(match[1]), match[2] or "", _unquoted(match[3])
    if not name:
        crash_id = _ID.fullmatch(value)
        if crash_id is None:
            raise UnfitQuery(f"{match[0]}: neither the beginning of a crash id, nor NAME:VALUE")
        name, value = "id", f"{crash_id[1].lower()}*"
    if name == "state":
        value = _STATES.get(value, value)
    if name == "day":
        day_begins(value)
    return SearchWord(name=name, value=value, is_not=is_not, text=match[0], without=rest)


def _unquoted(text: str) -> str:
    if not text.startswith('"'):
        return text
    return re.sub(r"\\(.)", r"\1", text[1:].removesuffix('"'))


def written(name: str, value: str) -> str:
    """Write a condition as a word of a query."""
    if value and re.fullmatch(r'[^\s"*][^\s"]*', value) and not value.endswith("*"):
        return f"{name}:{value}"
    quoted = re.sub(r'(["\\])', r"\\\1", value)
    return f'{name}:"{quoted}"'


def day_begins(day: str) -> float:
    """
    Return when a day begins, in seconds since the epoch.

    @param day: as C{2016-06-22}.
    @raise UnfitQuery: there is no such day.
    """
    try:
        return datetime.strptime(f"{day}Z", "%Y-%m-%d%z").timestamp()
    except ValueError:
        raise UnfitQuery(f"{day}: no day, as in day:2016-06-22") from None


def day_of_time(at: float) -> str:
    """Return the day (UTC) of a time in seconds since the epoch, as C{2016-06-22}."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}"


def condition(word: SearchWord) -> tuple[str, list[object]]:
    """
    Return a condition as SQL on the table C{crashes}, and its values.

    @raise UnfitQuery: it is about a day that does not exist.
    """
    sql, values = _condition(word)
    return (f"NOT ({sql})" if word.is_not else sql), values


def _condition(word: SearchWord) -> tuple[str, list[object]]:
    beginning = word.value[:-1] if word.value.endswith("*") else None
    if word.name == "day":
        begin = milliseconds(day_begins(word.value))
        return "crashes.at >= ? AND crashes.at < ?", [begin, begin + _DAY_MS]
    if word.name == "id":
        digits = word.value.rstrip("*").replace("-", "")
        return "crashes.id >= ? AND crashes.id <= ?", [bytes.fromhex(digits.ljust(32, each)) for each in "0f"]
    if word.name in TRAITS:
        fits, values = f"{word.name} = ?", [word.value]
        if beginning is not None:
            fits, values = f"{word.name} >= ? AND {word.name} < ?", [beginning, f"{beginning}\U0010ffff"]
        return f"crashes.traits IN (SELECT number FROM traits WHERE {fits})", [*values]
    if word.name == "state":
        return "crashes.state = ?", [word.value]
    end = f"\n{word.name}={word.value}\n" if beginning is None else f"\n{word.name}={beginning}"
    return "instr(crashes.annotations, ?)", [end]
