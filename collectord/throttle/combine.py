"""
Conditions on a whole report, and the ways in which conditions are combined.

A condition with a key, which comes from its rule or from L{On}, is about one annotation. If the report does not have
that annotation, the condition is false, unless it contains L{Present} or L{Absent}. L{Not} negates what it contains. So
C{On("A", Not(Equals("x")))} is true if the report has an C{A} other than C{"x"}, and C{Not(On("A", Equals("x")))} is
true as well if the report has no C{A} at all.
"""

from collections.abc import Callable, Iterator
from datetime import date
from typing import TypeAlias, Union

from attrs import field, frozen

from collectord.errors import ConfigError
from collectord.model import Annotations
from collectord.throttle.conditions import OlderThanDays, ValueCondition

ANY_KEY = "*"
"""The key of a rule that looks at the whole report."""

Condition: TypeAlias = Union[
    ValueCondition,
    OlderThanDays,
    "Always",
    "Present",
    "Absent",
    "On",
    "AllOf",
    "AnyOf",
    "Not",
    Callable[[str], bool],
    Callable[[Annotations], bool],
]
"""
What a rule may have as its condition. A function gets the value of the annotation that the key names, or all
annotations if the key is C{*}; it must not raise.
"""

Test: TypeAlias = Callable[[Annotations, date], bool]
"""A condition with its key, as one function of all annotations and of the current day."""


@frozen
class Always:
    """This condition is true for every report."""


@frozen
class Present:
    """This condition is true if the report has the annotation, even with an empty value."""


@frozen
class Absent:
    """This condition is true if the report does not have the annotation."""


@frozen
class On:
    """This condition asks C{condition} about the annotation C{key} instead of the one that the rule is about."""

    key: str
    condition: Condition


@frozen(init=False)
class AllOf:
    """
    This condition is true if all of its parts are.

    C{AllOf(On("ProductName", Equals("Firefox")), On("ReleaseChannel", Equals("esr")))}
    """

    conditions: tuple[Condition, ...] = field()

    def __init__(self, *conditions: Condition) -> None:
        self.__attrs_init__(_some(conditions))


@frozen(init=False)
class AnyOf:
    """This condition is true if at least one of its parts is."""

    conditions: tuple[Condition, ...] = field()

    def __init__(self, *conditions: Condition) -> None:
        self.__attrs_init__(_some(conditions))


@frozen
class Not:
    """This condition is true if C{condition} is false."""

    condition: Condition


def _some(conditions: tuple[Condition, ...]) -> tuple[Condition, ...]:
    if not conditions:
        raise ConfigError("needs one condition at least")
    return conditions


def parts_of(key: str, condition: Condition) -> Iterator[tuple[str, Condition]]:
    """Give the simple conditions that C{condition} is made of, each with the key of the annotation that it looks at."""
    match condition:
        case On(inner_key, inner):
            yield from parts_of(inner_key, inner)
        case AllOf(conditions) | AnyOf(conditions):
            for part in conditions:
                yield from parts_of(key, part)
        case Not(inner):
            yield from parts_of(key, inner)
        case _:
            yield key, condition


def bind(key: str, condition: Condition) -> Test:
    """
    Make a function that asks C{condition} about the annotation C{key}, or about the whole report if C{key} is C{*}.

    @raise ConfigError: the condition is about one annotation and the key is C{*}, or it is no condition at all.
    """
    test = _bind(key, condition)
    if key == ANY_KEY or _asks_presence(key, condition):
        return test
    return lambda annotations, today: key in annotations and test(annotations, today)


def _bind(key: str, condition: Condition) -> Test:
    match condition:
        case Always():
            return lambda annotations, today: True
        case On(inner_key, inner):
            if inner_key == ANY_KEY:
                raise ConfigError(f"{inner!r} has the key {ANY_KEY!r}; the key of a part is an annotation's name")
            return bind(inner_key, inner)
        case AllOf(conditions):
            return _all([_bind(key, part) for part in conditions])
        case AnyOf(conditions):
            return _any([_bind(key, part) for part in conditions])
        case Not(inner):
            test = _bind(key, inner)
            return lambda annotations, today: not test(annotations, today)
        case _ if key == ANY_KEY:
            return _of_report(condition)
        case Present():
            return lambda annotations, today: key in annotations
        case Absent():
            return lambda annotations, today: key not in annotations
        case OlderThanDays():
            older = condition.matches
            return lambda annotations, today: (value := annotations.get(key)) is not None and older(value, today)
        case _:
            return _of_value(key, condition)


def _all(tests: list[Test]) -> Test:
    return lambda annotations, today: all(test(annotations, today) for test in tests)


def _any(tests: list[Test]) -> Test:
    return lambda annotations, today: any(test(annotations, today) for test in tests)


def _of_report(condition: object) -> Test:
    if isinstance(condition, Present | Absent | OlderThanDays | ValueCondition) or not callable(condition):
        raise ConfigError(f"{condition!r} needs an annotation to look at: give it a key other than {ANY_KEY!r}")
    return lambda annotations, today: bool(condition(annotations))


def _of_value(key: str, condition: object) -> Test:
    asked = condition.matches if isinstance(condition, ValueCondition) else condition
    if not callable(asked):
        raise ConfigError(f"{condition!r} is not a condition")
    return lambda annotations, today: (value := annotations.get(key)) is not None and bool(asked(value))


def _asks_presence(key: str, condition: Condition) -> bool:
    match condition:
        case Present() | Absent():
            return True
        case On(inner_key, inner):
            return inner_key == key and _asks_presence(key, inner)
        case AllOf(conditions) | AnyOf(conditions):
            return any(_asks_presence(key, part) for part in conditions)
        case Not(inner):
            return _asks_presence(key, inner)
        case _:
            return False
