"""
What can be asked of one annotation's value.

Values come from clients and may be anything that is text: huge, empty, lone surrogates. Nothing here raises on one, and
what is not of the shape that a condition is about does not match it.
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
    def matches(self, value: str, /) -> bool:
        """Never raises, whatever the value."""


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
    wanted: str = field(validator=instance_of(str))

    def matches(self, value: str, /) -> bool:
        return value == self.wanted


@frozen
class EqualsIgnoringCase:
    wanted: str = field(validator=instance_of(str))
    _folded: str = field(init=False, eq=False, repr=False)

    @_folded.default
    def _fold(self) -> str:
        return self.wanted.casefold()

    def matches(self, value: str, /) -> bool:
        # Folding never makes a text shorter, so a huge value need not be folded.
        return len(value) <= len(self._folded) and value.casefold() == self._folded


@frozen(init=False)
class OneOf:
    """C{OneOf("aurora", "beta")}"""

    wanted: frozenset[str] = field(validator=[_some_texts, deep_iterable(instance_of(str))])

    def __init__(self, *wanted: str) -> None:
        self.__attrs_init__(frozenset(wanted))

    def matches(self, value: str, /) -> bool:
        return value in self.wanted


@frozen(init=False)
class Prefix:
    """C{Prefix("52.", "53.")}: the value begins with one of these."""

    prefixes: tuple[str, ...] = field(validator=[_some_texts, deep_iterable(instance_of(str))])

    def __init__(self, *prefixes: str) -> None:
        self.__attrs_init__(prefixes)

    def matches(self, value: str, /) -> bool:
        return value.startswith(self.prefixes)


@frozen
class Contains:
    part: str = field(validator=instance_of(str))

    def matches(self, value: str, /) -> bool:
        return self.part in value


@frozen
class Matches:
    """The regular expression, in RE2's syntax, is found anywhere in the value."""

    pattern: Pattern = field(converter=Pattern)

    def matches(self, value: str, /) -> bool:
        return self.pattern.is_in(value)


@frozen
class TextBelow:
    """Before C{limit} in the order of text, as build ids compare; the empty text is below all others."""

    limit: str = field(validator=instance_of(str))

    def matches(self, value: str, /) -> bool:
        return value < self.limit


@frozen
class TextAtMost:
    """C{limit}, or before it in the order of text."""

    limit: str = field(validator=instance_of(str))

    def matches(self, value: str, /) -> bool:
        return value <= self.limit


@frozen
class VersionBelow:
    """A version before C{limit}; what is not a version does not match."""

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
    """C{limit}, or a version after it; what is not a version does not match."""

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
    """A Mozilla build id, C{20yymmddHHMMSS}, whose day lies more than C{days} days before today."""

    days: int = field(validator=_days)

    def matches(self, value: str, today: date, /) -> bool:
        if not _BUILD_ID.fullmatch(value):
            return False
        try:
            built = date(int(value[:4]), int(value[4:6]), int(value[6:8]))
        except ValueError:
            return False
        return (today - built).days > self.days


_LONGEST_JSON = 1 << 20
_MOST_ITEMS = 20_000
"""Larger ones do not match: they would hold up everybody else. What Firefox sends has some 10,000 characters."""


def _dig(value: str, path: tuple[str, ...]) -> object:
    """What lies at C{path} in the JSON text C{value}; C{None} where nothing does."""
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
    """The value is JSON, and what is at C{path} in it is C{wanted}, type included: C{"1"}, 1 and true are different."""

    path: tuple[str, ...] = field(validator=deep_iterable(instance_of(str), instance_of(tuple)))
    wanted: str | int | bool = field(validator=instance_of((str, int)))

    def matches(self, value: str, /) -> bool:
        found = _dig(value, self.path)
        return type(found) is type(self.wanted) and found == self.wanted


@frozen
class JsonAtMost:
    """The value is JSON, and at C{path} in it is a whole number, C{limit} at most."""

    path: tuple[str, ...] = field(validator=deep_iterable(instance_of(str), instance_of(tuple)))
    limit: int = field(validator=instance_of(int))

    def matches(self, value: str, /) -> bool:
        found = _dig(value, self.path)
        return type(found) is int and found <= self.limit
