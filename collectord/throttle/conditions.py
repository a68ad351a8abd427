"""
Conditions on the value of one annotation.

Clients choose the values, so a value may be any text: huge, empty, or with lone surrogates in it. No condition raises
whatever the value is. A condition about versions, build ids or JSON is false for any other text.
"""

import re
from collections.abc import Collection
from datetime import date
from typing import Protocol, runtime_checkable

from attrs import field, frozen
from attrs.validators import deep_iterable, instance_of

from collectord.errors import ConfigError
from collectord.jsontext import TooManyItems, parse_json
from collectord.throttle.patterns import Pattern
from collectord.throttle.versions import Version, is_below, parse_version


@runtime_checkable
class ValueCondition(Protocol):
    """A value condition looks at the value of one annotation and nothing else."""

    def matches(self, value: str, /) -> bool:
        """Tell whether C{value} matches. This never raises."""


def _some_texts(_instance: object, _attribute: object, texts: Collection[str]) -> None:
    if not texts:
        raise ConfigError("needs one text at least")


def _days(_instance: object, _attribute: object, days: int) -> None:
    if type(days) is not int or days < 0:
        raise ConfigError(f"days must be a whole number, 0 or more, not {days!r}")


def _limit(text: str) -> Version:
    version = parse_version(text)
    if version is None:
        raise ConfigError(f'not a version: {text!r}; write it like "45.0b2"')
    return version


@frozen
class Equals:
    """This condition matches the value C{wanted} and no other."""

    wanted: str = field(validator=instance_of(str))

    def matches(self, value: str, /) -> bool:
        return value == self.wanted


@frozen
class EqualsIgnoringCase:
    """This condition matches the value C{wanted} in upper, lower or mixed case."""

    wanted: str = field(validator=instance_of(str))
    _folded: str = field(init=False, eq=False, repr=False)

    @_folded.default
    def _fold(self) -> str:
        return self.wanted.casefold()

    def matches(self, value: str, /) -> bool:
        # Case folding never makes a text shorter, so a huge value can be refused without the work of folding it.
        return len(value) <= len(self._folded) and value.casefold() == self._folded


@frozen(init=False)
class OneOf:
    """This condition matches any value of a list: C{OneOf("aurora", "beta")}."""

    wanted: frozenset[str] = field(validator=[_some_texts, deep_iterable(instance_of(str))])

    def __init__(self, *wanted: str) -> None:
        self.__attrs_init__(frozenset(wanted))

    def matches(self, value: str, /) -> bool:
        return value in self.wanted


@frozen(init=False)
class Prefix:
    """This condition matches a value that begins with one of the given texts: C{Prefix("52.", "53.")}."""

    prefixes: tuple[str, ...] = field(validator=[_some_texts, deep_iterable(instance_of(str))])

    def __init__(self, *prefixes: str) -> None:
        self.__attrs_init__(prefixes)

    def matches(self, value: str, /) -> bool:
        return value.startswith(self.prefixes)


@frozen
class Contains:
    """This condition matches a value that has C{part} in it."""

    part: str = field(validator=instance_of(str))

    def matches(self, value: str, /) -> bool:
        return self.part in value


@frozen
class Matches:
    """This condition matches a value in which the regular expression, in RE2's syntax, is found anywhere."""

    pattern: Pattern = field(converter=Pattern)

    def matches(self, value: str, /) -> bool:
        return self.pattern.is_in(value)


@frozen
class TextBelow:
    """
    This condition matches a value that comes before C{limit} in the order of text, as build ids are compared.

    The empty text comes before all others.
    """

    limit: str = field(validator=instance_of(str))

    def matches(self, value: str, /) -> bool:
        return value < self.limit


@frozen
class TextAtMost:
    """This condition matches C{limit}, and any value that comes before it in the order of text."""

    limit: str = field(validator=instance_of(str))

    def matches(self, value: str, /) -> bool:
        return value <= self.limit


@frozen
class VersionBelow:
    """This condition matches a version before C{limit}. A value that is no version does not match."""

    limit: str
    _version: Version = field(init=False, eq=False, repr=False)

    @_version.default
    def _parse(self) -> Version:
        return _limit(self.limit)

    def matches(self, value: str, /) -> bool:
        version = parse_version(value)
        return version is not None and is_below(version, self._version)


@frozen
class VersionAtLeast:
    """This condition matches C{limit} or a later version. A value that is no version does not match."""

    limit: str
    _version: Version = field(init=False, eq=False, repr=False)

    @_version.default
    def _parse(self) -> Version:
        return _limit(self.limit)

    def matches(self, value: str, /) -> bool:
        version = parse_version(value)
        return version is not None and not is_below(version, self._version)


_BUILD_ID = re.compile(r"20[0-9]{12}")


@frozen
class OlderThanDays:
    """This condition matches a Mozilla build id, C{20yymmddHHMMSS}, whose day is more than C{days} days ago."""

    days: int = field(validator=_days)

    def matches(self, value: str, today: date, /) -> bool:
        """Tell whether C{value} matches on the day C{today}. This never raises."""
        if not _BUILD_ID.fullmatch(value):
            return False
        try:
            built = date(int(value[:4]), int(value[4:6]), int(value[6:8]))
        except ValueError:
            return False
        return (today - built).days > self.days


_LONGEST_JSON = 1 << 20
_MOST_ITEMS = 20_000
"""Larger JSON does not match, because parsing it would hold up all other clients. Firefox sends 10,000 characters."""


def _dig(value: str, path: tuple[str, ...]) -> object:
    """Return what C{path} leads to in the JSON text C{value}, or C{None} if it leads nowhere or the text is no JSON."""
    if len(value) > _LONGEST_JSON:
        return None
    try:
        found = parse_json(value, _MOST_ITEMS)
    except (ValueError, TooManyItems):
        return None
    for name in path:
        if not isinstance(found, dict):
            return None
        found = found.get(name)
    return found


@frozen
class JsonEquals:
    """
    This condition matches JSON that has exactly C{wanted} at C{path}.

    Types count: C{"1"}, 1 and true are different.
    """

    path: tuple[str, ...] = field(validator=deep_iterable(instance_of(str), instance_of(tuple)))
    wanted: str | int | bool = field(validator=instance_of((str, int)))

    def matches(self, value: str, /) -> bool:
        found = _dig(value, self.path)
        return type(found) is type(self.wanted) and found == self.wanted


@frozen
class JsonAtMost:
    """This condition matches JSON that has a whole number of at most C{limit} at C{path}."""

    path: tuple[str, ...] = field(validator=deep_iterable(instance_of(str), instance_of(tuple)))
    limit: int = field(validator=instance_of(int))

    def matches(self, value: str, /) -> bool:
        found = _dig(value, self.path)
        return type(found) is int and found <= self.limit
