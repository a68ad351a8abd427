import re
from datetime import date, timedelta

import pytest

from collectord.errors import ConfigError
from collectord.throttle import (
    Contains,
    Equals,
    EqualsIgnoringCase,
    JsonAtMost,
    JsonEquals,
    Matches,
    OlderThanDays,
    OneOf,
    Prefix,
    TextAtMost,
    TextBelow,
    ValueCondition,
    VersionAtLeast,
    VersionBelow,
)
from tests.support.cases import for_each

HOSTILE = [
    "",
    "\ud800",
    "\udfff{",
    "x" * 1_000_000,
    "9" * 10_000,
    "20" + "9" * 12,
    "[" * 100_000,
    '{"a":' * 100_000,
    "." * 100_000,
    "ß" * 1000,
]

CASES: list[tuple[ValueCondition, list[str], list[str]]] = [
    (Equals("Firefox"), ["Firefox"], ["firefox", "Firefox ", ""]),
    (EqualsIgnoringCase("b2g"), ["b2g", "B2G"], ["b2gg", "b2", ""]),
    (EqualsIgnoringCase("STRASSE"), ["straße", "strasse"], ["strase"]),
    (EqualsIgnoringCase("straße"), ["STRASSE", "STRAßE"], ["STRASE"]),
    (OneOf("aurora", "beta"), ["aurora", "beta"], ["bet", "", "esr"]),
    (Prefix("nightly"), ["nightly", "nightly-try"], ["night", "a nightly", ""]),
    (Prefix("52.", "53."), ["52.0", "53."], ["52", "152.0"]),
    (Contains("Angle"), ["libAngle.so", "Angle"], ["angle", ""]),
    (Matches("b[0-9]+"), ["45.0b2", "b1"], ["45.0", ""]),
    (Matches("^1[0-9]{2}$"), ["100"], ["1000", "2100"]),
    (Matches("(?i)FIRE"), ["Firefox"], ["water"]),
    (TextBelow("20171226"), ["", "2017", "20171225999999", "1"], ["20171226", "20171226000000", "3"]),
    (TextAtMost("20171226"), ["", "20171225", "20171226"], ["201712260"]),
    (VersionBelow("45.0"), ["45.0b2", "44.9.9", "5"], ["45.0", "45", "45.0.1", "100", "", "abc", "9" * 10_000]),
    (VersionAtLeast("45.0"), ["45.0", "45", "45.0.1", "100"], ["45.0b2", "5", "", "abc", "9" * 10_000]),
    (JsonEquals(("os", "name"), "Linux"), ['{"os": {"name": "Linux"}}'], ['{"os": "Linux"}', '{"os": {}}', "[]"]),
    (JsonEquals(("a",), 1), ['{"a": 1}'], ['{"a": "1"}', '{"a": true}', '{"a": 1.0}', '{"a": null}', "{", "1", ""]),
    (JsonEquals(("a",), True), ['{"a": true}'], ['{"a": 1}', '{"a": false}']),
    (
        JsonAtMost(("a",), 9600),
        ['{"a": 9600}', '{"a": -1}'],
        ['{"a": 9601}', '{"a": "1"}', '{"a": 1.0}', '{"a": true}'],
    ),
    (JsonAtMost(("a",), 9600), [], ['{"a": null}', '{"a": NaN}', '{"a": ' + "1" * 10_000 + "}", '{"b": 1}', "null"]),
]
IDS = [f"{type(case[0]).__name__}-{number}" for number, case in enumerate(CASES)]


@for_each(("condition", "matching", "others"), CASES, ids=IDS)
def test_values(condition: ValueCondition, matching: list[str], others: list[str]) -> None:
    for value in matching:
        assert condition.matches(value), value
    for value in others:
        assert not condition.matches(value), value


@for_each("condition", [case[0] for case in CASES], ids=IDS)
def test_a_hostile_value_never_raises(condition: ValueCondition) -> None:
    for value in HOSTILE:
        assert condition.matches(value) in (True, False)


def test_json_that_is_too_long_does_not_match() -> None:
    condition = JsonAtMost(("a",), 5)
    assert condition.matches('{"a": 1}'.ljust(1 << 20))
    assert not condition.matches('{"a": 1}'.ljust((1 << 20) + 1))


TODAY = date(2024, 3, 1)


@for_each("days", [0, 1, 730])
def test_older_than_days(days: int) -> None:
    condition = OlderThanDays(days)
    for age, old in [(days - 1, False), (days, False), (days + 1, True)]:
        assert condition.matches(f"{TODAY - timedelta(age):%Y%m%d}235959", TODAY) is old


@for_each(
    "value",
    [
        *HOSTILE,
        "20101301000000",
        "20100230000000",
        "20100001000000",
        "2010010100000",
        "201001010000000",
        "19990101000000",
        "20100101000000\n",
        "2010010100000٣",
    ],
)
def test_what_is_no_build_id_is_not_old(value: str) -> None:
    assert not OlderThanDays(730).matches(value, TODAY)


def test_more_days_than_there_ever_were() -> None:
    assert not OlderThanDays(10**12).matches("20000101000000", TODAY)


@for_each("pattern", ["(", "a{99999999999999999999}", "[z-a]"])
def test_a_bad_regular_expression(pattern: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"not a regular expression: {pattern!r}: ")):
        Matches(pattern)


def test_bad_limits() -> None:
    with pytest.raises(ConfigError, match="not a version: 'abc'"):
        VersionBelow("abc")
    with pytest.raises(ConfigError, match="not a version: ''"):
        VersionAtLeast("")
    with pytest.raises(ConfigError, match="days must be a whole number, 0 or more, not -1"):
        OlderThanDays(-1)
    with pytest.raises(ConfigError, match="one text at least"):
        OneOf()
    with pytest.raises(ConfigError, match="one text at least"):
        Prefix()


def test_a_list_where_texts_are_wanted_is_found_out_at_once() -> None:
    with pytest.raises(TypeError):
        Prefix(["52.", "53."])  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Equals(52)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        JsonEquals("ab", 1)  # type: ignore[arg-type]


def test_conditions_are_values() -> None:
    assert OneOf("a", "b") == OneOf("b", "a")
    assert repr(VersionBelow("45.0b2")) == "VersionBelow(limit='45.0b2')"
    assert len({Equals("a"), Equals("a"), Prefix("a"), Matches("a"), Matches("a")}) == 3
