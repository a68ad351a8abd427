import re

import pytest
from attrs import evolve

from collectord.errors import ConfigError
from collectord.throttle import (
    Absent,
    AllOf,
    Always,
    AnyOf,
    Condition,
    Contains,
    Equals,
    EqualsIgnoringCase,
    JsonAtMost,
    JsonEquals,
    Matches,
    Not,
    OlderThanDays,
    On,
    OneOf,
    Prefix,
    Present,
    RateSample,
    Result,
    Rule,
    Sample,
    TextAtMost,
    TextBelow,
    VersionAtLeast,
    VersionBelow,
    parse_rules,
)
from collectord.throttle.rulefile import CONDITIONS
from tests.support.cases import for_each

WRITTEN: list[tuple[str, Condition]] = [
    ('equals = "x"', Equals("x")),
    ('equals_ignoring_case = "x"', EqualsIgnoringCase("x")),
    ('one_of = ["x", "y"]', OneOf("x", "y")),
    ('prefix = "x"', Prefix("x")),
    ('prefix = ["x", "y"]', Prefix("x", "y")),
    ('contains = "x"', Contains("x")),
    (r"matches = '^x\d$'", Matches(r"^x\d$")),
    ('version_below = "45.0b2"', VersionBelow("45.0b2")),
    ('version_at_least = "45.0"', VersionAtLeast("45.0")),
    ('text_below = "2017"', TextBelow("2017")),
    ('text_at_most = "2017"', TextAtMost("2017")),
    ("older_than_days = 730", OlderThanDays(730)),
    ("present = true", Present()),
    ("absent = true", Absent()),
    ('json = { path = ["a", "b"], equals = "x" }', JsonEquals(("a", "b"), "x")),
    ('json = { path = ["a"], equals = true }', JsonEquals(("a",), True)),
    ('json = { path = ["a"], at_most = 5 }', JsonAtMost(("a",), 5)),
    ('all = [{ prefix = "x" }, { key = "B", present = true }]', AllOf(Prefix("x"), On("B", Present()))),
    ('any = [{ equals = "x" }, { absent = true }]', AnyOf(Equals("x"), Absent())),
    ('not = { key = "B", any = [{ equals = "x" }] }', Not(On("B", AnyOf(Equals("x"))))),
]


def written(body: str, name: str = "r", key: str = "A", result: str = 'result = "accept"') -> str:
    return f'[[rule]]\nname = "{name}"\nkey = "{key}"\n{body}\n{result}\n'


@for_each(("text", "condition"), WRITTEN, ids=[text for text, _ in WRITTEN])
def test_conditions(text: str, condition: Condition) -> None:
    assert parse_rules(written(text), "file") == (Rule("r", "A", condition, Result.ACCEPT),)


def test_every_condition_was_tried() -> None:
    assert {text.split()[0] for text, _ in WRITTEN} == set(CONDITIONS)


@for_each("result", Result)
def test_results(result: Result) -> None:
    text = written("present = true", result=f'result = "{result.value}"')
    assert parse_rules(text, "file") == (Rule("r", "A", Present(), result),)


@for_each("percent", [0, 10, 12.5, 100])
def test_samples(percent: float) -> None:
    text = written("", key="*", result=f'percent = {percent}\nbelow = "continue"\nabove = "reject"')
    sample = Sample(percent, Result.CONTINUE, Result.REJECT)
    assert parse_rules(text, "file") == (Rule("r", "*", Always(), sample),)


RATED = 'per = "fingerprint"\nfirst = 10\nevery = 1000\nhours = 1\nbelow = "continue"\nabove = "reject"'
RATE = RateSample(per="fingerprint", first=10, every=1000, hours=1, below=Result.CONTINUE, above=Result.REJECT)


@for_each(
    ("text", "rate"),
    [
        (RATED, RATE),
        (RATED.replace("every = 1000\n", ""), evolve(RATE, every=None)),
        (RATED.replace("hours = 1", "hours = 0.5"), evolve(RATE, hours=0.5)),
        *((RATED.replace("fingerprint", name), evolve(RATE, per=name)) for name in ("place", "address", "key")),
        (RATED.replace('"fingerprint"', '["fingerprint", "Version"]'), evolve(RATE, per=["fingerprint", "Version"])),
        (RATED.replace('"fingerprint"', '["ProductName"]'), evolve(RATE, per=["ProductName"])),
    ],
    ids=["all", "without every", "half an hour", "place", "address", "key", "list", "annotation"],
)
def test_rates(text: str, rate: RateSample) -> None:
    assert parse_rules(written("", key="*", result=text), "file") == (Rule("r", "*", Always(), rate),)


def test_the_order_of_the_file_stays() -> None:
    text = "".join(written("", name=name, key="*") for name in ["z", "a", "m"])
    assert [rule.name for rule in parse_rules(text, "file")] == ["z", "a", "m"]


FILES: list[tuple[str, str]] = [
    ("", "no rules; write at least one [[rule]] table"),
    ("# nothing\n", "no rules; write at least one [[rule]] table"),
    ("rule = []", "no rules; write at least one [[rule]] table"),
    ("rule = 5", "rule must be tables; begin each with [[rule]]"),
    ('[rule]\nname = "x"', "rule must be tables; begin each with [[rule]]"),
    ("rule = [1]", "rule must be tables; begin each with [[rule]]"),
    ("[[rules]]\nname = 1", "unknown key rules; a rule file has [[rule]] tables only"),
    ("[[rule]]\nname = \n", "not TOML: Invalid value (at line 2, column 8)"),
]


@for_each(("text", "problem"), FILES)
def test_broken_files(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_rules(text, "/etc/r.toml")
    assert str(raised.value) == f"/etc/r.toml: {problem}"


RULES: list[tuple[str, str]] = [
    (
        written("", key="*", result=""),
        "needs either result, or percent with below and above, or per with first and hours; found none of them",
    ),
    (
        written("", key="*", result="first = 10\nhours = 1"),
        "needs either result, or percent with below and above, or per with first and hours; found first, hours",
    ),
    (
        written('equal = "x"'),
        "unknown key equal; did you mean equals?",
    ),
    (
        written('equals = "x"\nprefix = "y"'),
        "found 2 conditions, equals, prefix, but only one is allowed; combine them with all",
    ),
    (written(""), "no condition; where any A will do, write present = true; the conditions are equals, "),
    (written("equals = 5"), "equals: it must be a string, not 5"),
    (written('one_of = "x"'), "one_of: it must be a list of strings, not 'x'"),
    (written("one_of = []"), "one_of: it must be a list of strings, not []"),
    (written('one_of = ["x", 5]'), "one_of: each of the strings in it must be a string, not 5"),
    (written("prefix = []"), "prefix: it must be a list of strings, not []"),
    (written("prefix = 5"), "prefix: it must be a list of strings, not 5"),
    (
        written("matches = '('"),
        "matches: not a regular expression: '(': missing )",
    ),
    (written('version_below = "new"'), "version_below: not a version: 'new'; write it like \"45.0b2\""),
    (written("version_at_least = 45.0"), "version_at_least: it must be a string, not 45.0"),
    (written("text_below = 2017"), "text_below: it must be a string, not 2017"),
    (written('older_than_days = "9"'), "older_than_days: it must be a whole number, not '9'"),
    (written("older_than_days = true"), "older_than_days: it must be a whole number, not True"),
    (written("older_than_days = -1"), "older_than_days: days must be a whole number, 0 or more, not -1"),
    (written("present = false"), "present: can only be true, not False; for the opposite write absent = true"),
    (written("absent = 1"), "absent: can only be true, not 1; for the opposite write present = true"),
    (written('json = "x"'), "json: must be a table of a path and one of equals and at_most; write { path = "),
    (
        written('json = { path = ["a"] }'),
        "json: must be a table of a path and one of equals and at_most; write { path = ",
    ),
    (
        written('json = { path = ["a"], equals = 1, at_most = 1 }'),
        "json: must be a table of a path and one of equals and",
    ),
    (written('json = { path = "a", equals = 1 }'), "json: path must be a list of strings, not 'a'"),
    (
        written('json = { path = ["a"], equals = 1.5 }'),
        "json: equals must be a string, a whole number, true or false; not",
    ),
    (written('json = { path = ["a"], at_most = "1" }'), "json: at_most must be a whole number, not '1'"),
    (written("all = []"), "all: must be a list of tables like { key = "),
    (written('all = { equals = "x" }'), "all: must be a list of tables like { key = "),
    (written('any = [{ equals = "x" }, 5]'), "any: number 2: must be a table like { key = "),
    (written('any = [{ equals = "x" }, { key = "B" }]'), "any: number 2: no condition; the conditions are equals, "),
    (written('any = [{ name = "x" }]'), "any: number 1: unknown key name; known here: key, equals, "),
    (
        written('all = [{ any = [{ matches = "[" }] }]'),
        "all: number 1: any: number 1: matches: not a regular expression",
    ),
    (written('not = [{ equals = "x" }]'), "not: must be a table like { key = "),
    (written('not = { key = "*", equals = "x" }'), "not: key: here it is the name of an annotation, not '*'"),
    (written('not = { key = 5, equals = "x" }'), "not: key must be a string, not 5"),
    (
        written('equals = "x"', key="*"),
        "Equals(wanted='x') needs an annotation to look at: give it a key other than '*'",
    ),
    (written('not = { equals = "x" }', key="*"), "Equals(wanted='x') needs an annotation to look at: give it a key"),
    (written("present = true", key=""), "the key of a rule is the name of an annotation"),
    (
        written("", key="*", result='result = "accept"\npercent = 5'),
        "needs either result, or percent with below and above, or per with first and hours; found percent, result",
    ),
    (
        written("", key="*", result='percent = 5\nabove = "accept"'),
        "needs either result, or percent with below and above, or per with first and hours; found above, percent",
    ),
    (
        written("", key="*", result='result = "ACCEPT"'),
        "result must be one of accept, defer, reject, fakeaccept, stop, ignore, continue; not 'ACCEPT'",
    ),
    (
        written("", key="*", result='percent = 5\nabove = "accept"\nbelow = []'),
        "below must be one of accept, defer, reject, fakeaccept, stop, ignore, continue; not []",
    ),
    *(
        (
            written("", key="*", result=f'percent = {percent}\nabove = "accept"\nbelow = "reject"'),
            f"percent must be a number from 0 to 100, not {shown}",
        )
        for percent, shown in [("-1", "-1"), ("100.5", "100.5"), ("nan", "nan"), ("true", "True"), ('"9"', "'9'")]
    ),
    (written("", key="*", result=RATED.replace("first = 10\n", "")), "per: first is missing; write first = 10"),
    (written("", key="*", result=RATED.replace("hours = 1\n", "")), "per: hours is missing; write hours = 1"),
    (
        written("", key="*", result=RATED.replace('above = "reject"', "")),
        'per: above is missing; write above = "reject"',
    ),
    (written("", key="*", result=f"{RATED}\npercent = 5"), "per: can't be together with percent"),
    (written("", key="*", result=f'{RATED}\nresult = "accept"'), "per: can't be together with result"),
    (
        written("", key="*", result=RATED.replace("fingerprint", "fingerprnt")),
        'per must be one of "fingerprint", "place", "address", "key", or a list of these and of names of annotations, '
        "not 'fingerprnt'",
    ),
    (written("", key="*", result=RATED.replace('"fingerprint"', "[]")), 'per must be one of "fingerprint", '),
    (written("", key="*", result=RATED.replace('"fingerprint"', "[5]")), 'per must be one of "fingerprint", '),
    (written("", key="*", result=RATED.replace('"fingerprint"', "5")), 'per must be one of "fingerprint", '),
    (written("", key="*", result=RATED.replace('"fingerprint"', '["a", "a"]')), "per has a name twice: a, a"),
    (
        written("", key="*", result=RATED.replace("first = 10", "first = 0")),
        "first must be a whole number, 1 or more, not 0",
    ),
    (
        written("", key="*", result=RATED.replace("every = 1000", "every = 0.5")),
        "every must be a whole number, 1 or more, not 0.5",
    ),
    (
        written("", key="*", result=RATED.replace("every = 1000", "every = true")),
        "every must be a whole number, 1 or more, not True",
    ),
    *(
        (
            written("", key="*", result=RATED.replace("hours = 1", f"hours = {hours}")),
            f"hours must be a number above 0, and 8784 at most, not {shown}",
        )
        for hours, shown in (
            ("0", "0"),
            ("inf", "inf"),
            ("nan", "nan"),
            ("9000", "9000"),
            ('"1"', "'1'"),
            ("true", "True"),
        )
    ),
    (written("", key="*", result=RATED.replace("reject", "refuse")), "above must be one of accept, defer, reject, "),
]


@for_each(("text", "problem"), RULES, ids=[problem[:50] for _, problem in RULES])
def test_broken_rules(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match="^" + re.escape(f"/etc/r.toml: rule 'r': {problem}")):
        parse_rules(text, "/etc/r.toml")


def test_a_broken_name_is_shown() -> None:
    with pytest.raises(ConfigError, match=r"^file: rule 'a b': the name of a rule is made of"):
        parse_rules(written("", name="a b", key="*"), "file")


def test_a_rule_without_a_name_goes_by_its_number() -> None:
    for name, problem in [("", 'name is missing; write name = "'), ("name = 5", "name must be a string, not 5")]:
        text = written("", key="*") + f'[[rule]]\n{name}\nkey = "*"\nresult = "accept"\n'
        with pytest.raises(ConfigError, match=f"^file: rule number 2: {problem}"):
            parse_rules(text, "file")


def test_a_rule_without_a_key() -> None:
    with pytest.raises(ConfigError, match=r"^file: rule 'r': key is missing; write key = "):
        parse_rules('[[rule]]\nname = "r"\nresult = "accept"\n', "file")


def test_a_name_given_twice() -> None:
    with pytest.raises(
        ConfigError, match=r"^file: rule 'r': rule number 2 has the name of an earlier rule; give each its own"
    ):
        parse_rules(written("", key="*") * 2, "file")
