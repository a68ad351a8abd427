"""
What can be asked of a whole report, and how conditions are put together.

A condition with a key, be it a rule's or L{On}'s, speaks of an annotation that is there: without the annotation it is
false, unless it asks for L{Present} or L{Absent} itself. L{Not} turns round whatever it holds. So
C{On("A", Not(Equals("x")))} wants an C{A} other than C{"x"}, and C{Not(On("A", Equals("x")))} takes no C{A} at all too.
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
"""A callable gets the value of the key's annotation, or all annotations where the key is C{*}; it must not raise."""

Test: TypeAlias = Callable[[Annotations, date], bool]
"""A condition made ready for its key: a function of the annotations and of today."""


@frozen
class Always:
    pass


@frozen
class Present:
    """The annotation is there, if only with an empty value."""


@frozen
class Absent:
    pass


@frozen
class On:
    """C{condition}, asked of the annotation C{key} whatever the key of the rule."""

    key: str
    condition: Condition


@frozen(init=False)
class AllOf:
    """C{AllOf(On("ProductName", Equals("Firefox")), On("ReleaseChannel", Equals("esr")))}"""

    conditions: tuple[Condition, ...] = field()

    def __init__(self, *conditions: Condition) -> None:
        self.__attrs_init__(_some(conditions))


@frozen(init=False)
class AnyOf:
    conditions: tuple[Condition, ...] = field()

    def __init__(self, *conditions: Condition) -> None:
        self.__attrs_init__(_some(conditions))


@frozen
class Not:
    condition: Condition


def _some(conditions: tuple[Condition, ...]) -> tuple[Condition, ...]:
    if not conditions:
        raise ConfigError("needs one condition at least")
    return conditions


def parts_of(key: str, condition: Condition) -> Iterator[tuple[str, Condition]]:
    """The conditions that C{condition} is put together of, each with the key whose value it gets."""
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
    Make C{condition} ready for the annotation C{key}, or for the whole report where that is C{*}.

    @raise ConfigError: it needs an annotation to look at and has none, or is no condition.
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
