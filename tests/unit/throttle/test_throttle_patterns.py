r"""
Regular expressions of RE2: what it refuses, what it means otherwise, and that no text makes one take for ever.
"""

import re
from time import thread_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectord.errors import ConfigError
from collectord.throttle import AllOf, Always, JsonAtMost, JsonEquals, Matches, Not, On, Prefix, Result, Rule
from collectord.throttle.effort import Effort
from collectord.throttle.load import differences_in
from collectord.throttle.patterns import Pattern, differences
from tests.support.cases import for_each


@for_each(
    ("pattern", "advice"),
    [
        ("(?=a)", "no look-around"),
        ("(?!a)b", "no look-around"),
        ("(?<=a)b", "no look-around"),
        ("(?<!a)b", "no look-around"),
        (r"(a)\1", "no back-references"),
        ("(?P<x>a)(?P=x)", "no back-references"),
        ("a++", "possessive"),
        ("a*+", "possessive"),
        ("a?+", "possessive"),
        ("a{2}+", "possessive"),
        ("(?>a)", "possessive or atomic"),
        (r"a\Z", r"write \z"),
        (r"\u20AC", r"\x{20AC}"),
        (r"\U0001F600", r"\x{20AC}"),
        (r"\N{BULLET}", r"\x{20AC}"),
        ("a{1001}", "1000 times"),
        ("(a{100}){100}", "1000 times"),
        ("a{2,1001}", "1000 times"),
        ("a{99999999999999999999}", "1000 times"),
        pytest.param(f"a{{{'9' * 5000}}}", "1000 times", id="5000 digits"),
        ("(?x)a", "no comments"),
        ("(?#c)a", "no comments"),
        ("(?(1)a|b)", "no conditional"),
        ("(?a)x", "leave the flag out"),
        ("(", "missing )"),
        ("[z-a]", "invalid character class range"),
        ("a\ud800", "not Unicode"),
    ],
)
def test_what_is_refused_says_what_would_be_right(pattern: str, advice: str) -> None:
    with pytest.raises(
        ConfigError, match=f"{re.escape(f'not a regular expression: {pattern!r}: ')}.*{re.escape(advice)}"
    ):
        Pattern(pattern)


def test_a_compiled_one_of_pythons_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"must be a string; flags are written as in \(\?i\)firefox"):
        Pattern(re.compile("a"))  # type: ignore[arg-type]


@for_each(
    ("pattern", "text", "found"),
    [
        (r"^\w+$", "Muller", True),
        (r"^\w+$", "Müller", False),
        (r"^[\pL\pN_]+$", "Müller", True),
        (r"\d", "٣", False),
        (r"\p{Nd}", "٣", True),
        (r"\s", "\u00a0", False),
        (r"[\s\v\pZ]", "\u00a0", True),
        ("a$", "a\n", False),
        (r"a\n?\z", "a\n", True),
        ("(?m)a$", "a\nb", True),
        ("^a{,3}$", "aa", False),
        ("^a{0,3}$", "aa", True),
        ("(?i)straße", "STRAßE", True),
        ("^.$", "😀", True),
        (r"\x{1F600}", "😀", True),
        (r"^\?$", "\ud800", True),
        ("(?P<x>a)(b)", "cab", True),
        ("a\0b", "a\0b", True),
    ],
)
def test_what_it_means(pattern: str, text: str, found: bool) -> None:
    assert Pattern(pattern).is_in(text) is found


@for_each(
    ("pattern", "reported"),
    [
        (r"^\d+x", [r"\d"]),
        (r"[^\d$]", [r"\d"]),
        (r"\w\W\s\S\b\B\D", [r"\w", r"\W", r"\s", r"\S", r"\b", r"\B", r"\D"]),
        ("^a$", ["$"]),
        ("(?i)^a$|b$", ["$"]),
        ("(?m)^a$", []),
        ("(?im:^a$)", []),
        (r"a\$", []),
        ("[a$]", []),
        ("[]$]", []),
        ("[^]$]", []),
        ("[[:alpha:]$]", []),
        ("[[:^alpha:]]$", ["$"]),
        ("a{,3}", ["{,3}"]),
        (r"a\{,3}", []),
        (r"\\d", []),
        (r"\Q\d$\E", []),
        (r"^1[0-9]+\.\z", []),
        ("é", []),
    ],
)
def test_differences_are_told(pattern: str, reported: list[str]) -> None:
    assert [difference.split(" ")[0] for difference in differences(pattern)] == reported


@for_each(
    "advised",
    [r"\p{Nd}", "[0-9]", r"\P{Nd}", "[^0-9]", "[A-Za-z0-9_]", r"[\pL\pN_]", r"[^\pL\pN_]", r"[ \t\r\n\f]", r"\n?\z"],
)
def test_what_is_advised_means_the_same(advised: str) -> None:
    assert Pattern(advised)
    assert differences(advised) == []
    assert any(advised in difference for difference in differences(r"\d\D\w\W\s\S$"))


def test_rules_tell_theirs_wherever_they_are() -> None:
    rules = [
        Rule("one", "A", Not(On("B", AllOf(Prefix("x"), Matches("a{,3}")))), Result.ACCEPT),
        Rule("two", "*", Always(), Result.ACCEPT),
    ]
    assert differences_in(rules) == ["rule 'one': matches = 'a{,3}': {,3} is no repetition; write {0,3}"]


PIECES = ["a", "b", "ab", "[ab]", "[^a]", ".", "(a|b)", "(?:ab)", "^", r"\.", "x"]
REPEATED = st.tuples(st.sampled_from(PIECES), st.sampled_from(["", "*", "+", "?", "{2}", "{1,2}", "*?"])).map("".join)


@given(st.lists(REPEATED, max_size=5).map("".join), st.text("abx.é"))
def test_what_both_know_means_the_same(pattern: str, text: str) -> None:
    if "^" in pattern[1:] or pattern[:2] in ("^*", "^+", "^?", "^{"):
        return  # what repeats an anchor is an error to one of them
    assert Pattern(pattern).is_in(text) == (re.search(pattern, text) is not None)


@pytest.mark.slow
def test_nested_repetitions_take_no_time() -> None:
    pattern, text = "(x+x+)+y", "x" * 24
    began = thread_time()
    assert re.search(pattern, text) is None
    assert thread_time() - began > 0.3, "a pattern that is slow for an engine that backtracks"
    began = thread_time()
    assert not Pattern(pattern).is_in(text)
    assert not Pattern(pattern).is_in("x" * 100_000)
    assert thread_time() - began < 0.05


def test_effort_is_known_before_a_report_is_judged() -> None:
    size = Pattern("a.{100}b").size
    rules = [
        Rule("one", "A", Not(On("B", AllOf(Prefix("x"), Matches("a.{100}b")))), Result.ACCEPT),
        Rule("two", "B", Matches("a.{100}b"), Result.ACCEPT),
        Rule("three", "C", JsonEquals(("a",), 1), Result.ACCEPT),
        Rule("four", "C", JsonAtMost(("a",), 1), Result.ACCEPT),
        Rule("five", "A", Prefix("x"), Result.ACCEPT),
        Rule("six", "*", lambda annotations: True, Result.ACCEPT),
    ]
    effort = Effort.of(rules)
    assert size > 100
    assert effort.over({"A": "x" * 1000}) == 0
    assert effort.over({"B": "x" * 1000}) == 2 * size * 1000
    assert effort.over({"B": "x", "C": "{}"}) == 2 * size + 2 * effort.steps["C"]
