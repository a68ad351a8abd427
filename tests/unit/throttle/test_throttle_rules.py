from collections.abc import Callable, Iterable
from datetime import date

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collectord.errors import ConfigError
from collectord.model import Annotations
from collectord.throttle import (
    BUILTIN,
    NO_MATCH,
    Always,
    Equals,
    Present,
    Result,
    Rule,
    Sample,
    Verdict,
    load_rules,
    throttle,
)
from collectord.throttle.rules import check_names
from tests.support.cases import for_each

TODAY = date(2024, 3, 1)
TENTH = Sample(10, Result.CONTINUE, Result.REJECT)


def rolls(*values: float) -> Callable[[], float]:
    """These, one after the other; one more is an error."""
    return iter(values).__next__


def judge(rules: Iterable[Rule], annotations: Annotations, *values: float) -> Verdict:
    return throttle(tuple(rules), annotations, rolls(*values), TODAY)


def test_the_first_match_decides() -> None:
    rules = [
        Rule("other", "ProductName", Equals("Other"), Result.REJECT),
        Rule("firefox", "ProductName", Equals("Firefox"), Result.DEFER),
        Rule("all", "*", Always(), Result.ACCEPT),
    ]
    assert judge(rules, {"ProductName": "Firefox"}) == Verdict(Result.DEFER, "firefox", 100)
    assert judge(rules, {}) == Verdict(Result.ACCEPT, "all", 100)


def test_no_match() -> None:
    assert judge([], {}) is NO_MATCH
    assert judge([Rule("a", "A", Present(), Result.ACCEPT)], {"B": ""}) is NO_MATCH
    assert Verdict(Result.REJECT, "NO_MATCH", 0) == NO_MATCH


def test_continue_goes_on() -> None:
    rules = [Rule("a", "*", Always(), Result.CONTINUE), Rule("b", "*", Always(), Result.IGNORE)]
    assert judge(rules, {}) == Verdict(Result.IGNORE, "b", 100)
    assert judge(rules[:1], {}) is NO_MATCH


@for_each(
    ("percent", "roll", "result"),
    [
        (10, 0, Result.ACCEPT),
        (10, 9.999, Result.ACCEPT),
        (10, 10, Result.REJECT),
        (10, 99.999, Result.REJECT),
        (0, 0, Result.REJECT),
        (100, 99.999, Result.ACCEPT),
        (0.5, 0.4, Result.ACCEPT),
        (0.5, 0.5, Result.REJECT),
    ],
)
def test_a_sample(percent: float, roll: float, result: Result) -> None:
    rule = Rule("sample", "*", Always(), Sample(percent, Result.ACCEPT, Result.REJECT))
    assert judge([rule], {}, roll) == Verdict(result, "sample", percent)


def test_chained_samples_are_rolled_for_one_by_one() -> None:
    rules = [
        Rule("first", "*", Always(), TENTH),
        Rule("second", "*", Always(), Sample(50, Result.ACCEPT, Result.DEFER)),
    ]
    assert judge(rules, {}, 5, 49) == Verdict(Result.ACCEPT, "second", 50)
    assert judge(rules, {}, 5, 50) == Verdict(Result.DEFER, "second", 50)
    assert judge(rules, {}, 10) == Verdict(Result.REJECT, "first", 10)


def test_nothing_is_rolled_without_a_sample_that_matches() -> None:
    rules = [Rule("sample", "A", Present(), TENTH), Rule("all", "*", Always(), Result.ACCEPT)]
    assert judge(rules, {}).rule == "all"


@for_each("name", ["", "a-b", "a b", "a\n", "é", None])
def test_bad_names(name: str) -> None:
    with pytest.raises(ConfigError, match=r"the name of a rule is made of A-Z, a-z, 0-9 and _; .* is not"):
        Rule(name, "*", Always(), Result.ACCEPT)


def test_bad_rules() -> None:
    with pytest.raises(ConfigError, match="the key of a rule is the name of an annotation"):
        Rule("a", "", Always(), Result.ACCEPT)
    with pytest.raises(ConfigError, match="the outcome of a rule is a Result, a Sample or a RateSample, not 'accept'"):
        Rule("a", "*", Always(), "accept")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="needs an annotation"):
        Rule("a", "*", Equals("x"), Result.ACCEPT)


@for_each("percent", [-1, 100.1, float("nan"), True, "10"])
def test_bad_percents(percent: float) -> None:
    with pytest.raises(ConfigError, match="percent must be a number from 0 to 100"):
        Sample(percent, Result.ACCEPT, Result.REJECT)


def test_names_are_given_once() -> None:
    rule = Rule("twice", "*", Always(), Result.ACCEPT)
    check_names([rule])
    with pytest.raises(ConfigError, match="rule 'twice': another rule has this name"):
        check_names([rule, rule])


def test_rules_are_values() -> None:
    assert Rule("a", "A", Equals("x"), TENTH) == Rule("a", "A", Equals("x"), TENTH)
    assert repr(Rule("a", "*", Always(), Result.ACCEPT)).startswith(
        "Rule(name='a', key='*', condition=Always(), outcome="
    )


# In a fresh checkout hypothesis first makes its table of all characters, which takes longer than it allows a test.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

anything = st.text(st.characters(exclude_categories=()))
names = st.sampled_from(
    [
        "BuildID",
        "HangID",
        "ProcessType",
        "ProductName",
        "SubmittedFromInfobar",
        "Version",
        "Android_PackageName",
        "Throttleable",
        "ipc_channel_error",
        "ReleaseChannel",
        "TelemetryEnvironment",
    ]
)
values = st.one_of(
    anything,
    st.sampled_from(["Firefox", "Fenix", "b2g", "esr", "release", "nightly", "52.0", "true", "20101010101010", "{}"]),
    st.from_regex(
        r'\{"system": ?\{"os": ?(\{"name": "Windows_NT", "windowsBuildNumber": [0-9]{1,5}\}|1|\[\])\}\}', fullmatch=True
    ),
)


SETS = [load_rules(spec) for spec in BUILTIN]


@pytest.mark.slow
@unhurried
@given(annotations=st.dictionaries(st.one_of(names, anything), values), roll=st.floats(0, 99.9))
def test_no_report_makes_it_raise(annotations: dict[str, str], roll: float) -> None:
    for rules in SETS:
        assert throttle(rules, annotations, lambda: roll, TODAY).result is not Result.CONTINUE
