"""
Conditions on whole reports, and conditions of conditions.
"""

from collections.abc import Callable
from datetime import date

import pytest
from attrs import frozen

from collectord.errors import ConfigError
from collectord.model import Annotations
from collectord.throttle import Absent, AllOf, Always, AnyOf, Condition, Equals, Not, OlderThanDays, On, Prefix, Present
from collectord.throttle.combine import bind
from tests.support.cases import for_each

TODAY = date(2024, 3, 1)


def holds(key: str, condition: Condition, annotations: Annotations) -> bool:
    return bind(key, condition)(annotations, TODAY)


def test_presence() -> None:
    assert holds("A", Present(), {"A": ""})
    assert not holds("A", Present(), {"B": ""})
    assert holds("A", Absent(), {"B": ""})
    assert not holds("A", Absent(), {"A": ""})


def test_always() -> None:
    assert holds("*", Always(), {})
    assert holds("A", Always(), {"A": ""})
    assert not holds("A", Always(), {})


def test_the_key_is_handed_down_and_may_be_changed() -> None:
    condition = AllOf(Prefix("4"), Not(Equals("45.0")), On("B", Equals("b")))
    assert holds("A", condition, {"A": "46.0", "B": "b"})
    assert not holds("A", condition, {"A": "45.0", "B": "b"})
    assert not holds("A", condition, {"A": "46.0", "B": "46.0"})


def test_all_and_any() -> None:
    parts = (On("A", Equals("a")), On("B", Equals("b")))
    for annotations, every, some in [
        ({"A": "a", "B": "b"}, True, True),
        ({"A": "a", "B": "x"}, False, True),
        ({"A": "x", "B": "x"}, False, False),
        ({}, False, False),
    ]:
        assert holds("*", AllOf(*parts), annotations) is every
        assert holds("*", AnyOf(*parts), annotations) is some


@for_each(
    "condition",
    [
        Equals("x"),
        Not(Equals("x")),
        Not(AllOf(Equals("x"), Prefix("y"))),
        AnyOf(Not(Equals("x")), On("Other", Equals("x"))),
        AnyOf(On("Other", Equals("x"))),
        On("Other", Equals("x")),
        AllOf(Not(On("A", Equals("x")))),
        AnyOf(On("Other", Absent()), On("Other", Present())),
        OlderThanDays(0),
        lambda value: True,
    ],
)
def test_without_its_annotation_a_condition_does_not_match(condition: Condition) -> None:
    assert not holds("A", condition, {"Other": "x"})
    assert not holds("*", On("A", condition), {"Other": "x"})


@for_each(
    "condition",
    [
        Absent(),
        Not(Present()),
        AnyOf(Absent(), Equals("x")),
        AnyOf(Equals("x"), AllOf(Absent(), On("Other", Equals("x")))),
        AnyOf(On("A", Absent()), Equals("x")),
    ],
)
def test_unless_it_asks_for_presence(condition: Condition) -> None:
    assert holds("A", condition, {"Other": "x"})
    assert holds("*", On("A", condition), {"Other": "x"})
    assert not holds("A", condition, {"A": "y", "Other": "x"})


def test_not_around_a_key_takes_its_absence_too() -> None:
    condition = Not(On("A", Equals("x")))
    assert holds("*", condition, {})
    assert holds("*", condition, {"A": "y"})
    assert not holds("*", condition, {"A": "x"})


def test_days_within_others() -> None:
    condition = AllOf(OlderThanDays(1), Prefix("2024"))
    assert holds("BuildID", condition, {"BuildID": "20240228000000"})
    assert not holds("BuildID", condition, {"BuildID": "20240229000000"})


def test_a_function_of_the_value() -> None:
    short: Callable[[str], bool] = lambda value: len(value) < 3  # noqa: E731
    assert holds("A", short, {"A": "ab"})
    assert not holds("A", short, {"A": "abc"})
    assert holds("*", On("A", Not(short)), {"A": "abc"})


def test_a_function_of_the_report() -> None:
    many: Callable[[Annotations], bool] = lambda annotations: len(annotations) > 1  # noqa: E731
    assert holds("*", many, {"A": "", "B": ""})
    assert holds("*", Not(many), {"A": ""})


@frozen
class Palindrome:
    def matches(self, value: str, /) -> bool:
        return value == value[::-1]


def test_a_condition_of_the_operators_own() -> None:
    assert holds("A", Palindrome(), {"A": "abba"})
    assert not holds("A", Palindrome(), {"A": "abb"})


@for_each("condition", [Equals("x"), Present(), Absent(), OlderThanDays(1), Palindrome(), "Firefox"])
def test_a_condition_on_a_value_needs_a_key(condition: Condition) -> None:
    for whole in (condition, Not(condition), AllOf(On("A", Equals("x")), condition)):
        with pytest.raises(ConfigError, match="needs an annotation to look at"):
            bind("*", whole)


def test_what_is_no_condition() -> None:
    with pytest.raises(ConfigError, match="'Firefox' is not a condition"):
        bind("A", "Firefox")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="is not a condition"):
        bind("A", AllOf([Equals("a")]))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="the key of a part is an annotation's name"):
        bind("A", On("*", Always()))
    with pytest.raises(ConfigError, match="one condition at least"):
        AllOf()
    with pytest.raises(ConfigError, match="one condition at least"):
        AnyOf()
