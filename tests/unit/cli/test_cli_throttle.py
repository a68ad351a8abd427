import json
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectord.throttle import (
    Absent,
    AllOf,
    Always,
    AnyOf,
    Equals,
    Not,
    On,
    OneOf,
    Present,
    Result,
    Rule,
    Sample,
    Verdict,
    load_rules,
    parse_rules,
)
from collectord.throttle import throttle as decide
from collectord.throttle.explain import annotations_in, judge, verdict_in
from collectord.throttle.wording import condition_in_words, keys_of, outcome_in_words
from tests.support.cases import for_each
from tests.unit.cli.command import CRASH_ID, NEIGHBOUR, STRANGER, files_below, keep, raw_crash_of, run

RULES = """
[[rule]]
name = "old"
key = "BuildID"
older_than_days = 10
result = "reject"

[[rule]]
name = "no_comment"
key = "Comments"
absent = true
result = "continue"

[[rule]]
name = "fenix"
key = "ProductName"
equals = "Fenix"
percent = 25
below = "accept"
above = "defer"

[[rule]]
name = "rest"
key = "*"
result = "ignore"
"""
TODAY = date(2016, 6, 22)


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.toml"
    path.write_text(RULES)
    return path


def explained(*args: object, stdin: str | None = None) -> dict[str, list[dict[str, object]]]:
    result = run("throttle", "explain", "--json", *args, stdin=stdin)
    assert result.exit_code == 0, result.stderr
    found: dict[str, list[dict[str, object]]] = json.loads(result.stdout)
    return found


# ——— explain ———


def test_explain_annotations(rules: Path) -> None:
    result = run("throttle", "explain", "-", "--rules", rules, stdin='{"ProductName": "Fenix"}')
    assert result.exit_code == 0
    rows = [line.split("  ") for line in result.stdout.splitlines() if line.strip()]
    words = {row[0].strip(): " ".join(part.strip() for part in row[1:] if part.strip()) for row in rows}
    assert words["old"] == "BuildID is a build id of more than 10 days ago BuildID is absent does not match"
    assert words["no_comment"] == "Comments is absent Comments is absent matches: continue"
    assert words["fenix"] == 'ProductName is "Fenix" ProductName is "Fenix" matches: 25 %: accept, else defer'
    assert "rest" not in words
    assert result.stdout.splitlines()[-2:] == ["accept by fenix (25.00%)", "defer by fenix (75.00%)"]


def test_explain_for_scripts(rules: Path) -> None:
    found = explained("-", "--rules", rules, stdin='{"ProductName": "Firefox", "Comments": 5}')
    assert found["verdicts"] == [{"result": "ignore", "rule": "rest", "share": 1.0}]
    assert [(step["rule"], step["said"]) for step in found["steps"]] == [
        ("old", "does not match"),
        ("no_comment", "does not match"),
        ("fenix", "does not match"),
        ("rest", "matches"),
    ]
    assert found["steps"][1]["annotations"] == {"Comments": "5"}
    assert found["steps"][3]["outcome"] == "ignore"


@pytest.mark.parametrize("command", ["explain", "replay", "check-config"])
def test_a_pattern_that_means_something_else_is_told(command: str, root: Path, tmp_path: Path) -> None:
    rules = tmp_path / "patterns.toml"
    rules.write_text('[[rule]]\nname = "digits"\nkey = "Version"\nmatches = \'^\\d\'\nresult = "accept"\n')
    settings = tmp_path / "settings.toml"
    settings.write_text(f'[throttle]\nrules = "{rules}"\n[[storage]]\nroot = "{root}"\n')
    if command == "explain":
        result = run("throttle", "explain", "-", "--rules", rules, "-c", settings, stdin='{"Version": "45"}')
    elif command == "replay":
        result = run("throttle", "replay", rules, "-c", settings)
    else:
        result = run("check-config", "-c", settings)
        as_json = json.loads(run("check-config", "-c", settings, "--json").stdout)
        assert [note[:14] for note in as_json["notes"]] == ["rule 'digits':"]
    assert result.exit_code == 0, result.stderr
    output = result.stdout if command == "check-config" else result.stderr
    assert r"note: rule 'digits': matches = '^\\d': \d is 0-9 alone" in output


def test_explain_a_file(rules: Path, tmp_path: Path) -> None:
    (tmp_path / "crash.json").write_text(json.dumps(raw_crash_of(ProductName="Firefox")))
    assert explained(tmp_path / "crash.json", "--rules", rules)["verdicts"][0]["rule"] == "rest"


def test_explain_a_stored_crash_as_of_the_day_it_came(root: Path, rules: Path) -> None:
    keep(root, raw_crash_of(BuildID="20160615000000"))
    assert [verdict["rule"] for verdict in explained(f"bp-{CRASH_ID}", "--rules", rules)["verdicts"]] == ["fenix"] * 2
    [verdict] = explained(CRASH_ID, "--rules", rules, "--as-of", "20160701")["verdicts"]
    assert verdict == {"result": "reject", "rule": "old", "share": 1.0}


def test_explain_by_the_rules_products_and_aliases_of_the_settings(rules: Path, tmp_path: Path) -> None:
    settings = tmp_path / "collectord.toml"
    settings.write_text(f"[throttle]\nrules = {json.dumps(str(rules))}\nproducts = ['Fenix']\n")
    for annotations, rule in (
        ('{"prod": "Fenix"}', "fenix"),
        ('{"prod": "Firefox"}', "unsupported_product"),
        ('{"prod": "Firefox", "ProductName": "Fenix"}', "fenix"),
        ('{"prod": "Firefox", "_productName": "Fenix", "version": 2}', "fenix"),
    ):
        found = explained("-", "--config", settings, stdin=annotations)
        assert found["verdicts"][0]["rule"] == rule


def test_explain_no_match(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('[[rule]]\nname = "a"\nkey = "A"\npresent = true\nresult = "accept"\n')
    [verdict] = explained("-", "--rules", tmp_path / "r.toml", stdin="{}")["verdicts"]
    assert verdict == {"result": "reject", "rule": "NO_MATCH", "share": 1.0}


@pytest.mark.parametrize(
    ("args", "stdin", "output"),
    [
        (["-"], "{", "-: not JSON"),
        (["-"], "[" * 100_000, "-: not JSON"),
        (["-"], "[]", "-: has to be a JSON object"),
        (["-", "--rules", "nowhere.toml"], "{}", "nowhere.toml"),
        (["-", "--rules", "unheard_of"], "{}", "unheard_of"),
        (["-", "--as-of", "soon"], "{}", "'soon' is not a day"),
        (["nowhere.json"], "", "not a crash id"),
        ([CRASH_ID], "", "not in"),
    ],
)
def test_what_can_not_be_explained(root: Path, args: list[str], stdin: str, output: str) -> None:
    result = run("throttle", "explain", *args, stdin=stdin)
    assert (result.exit_code, result.stdout) == (2, "")
    [line] = result.stderr.splitlines()
    assert line.startswith("collectord: ")
    assert output in line


def test_explain_shows_hostile_values_harmlessly(rules: Path) -> None:
    result = run("throttle", "explain", "-", "--rules", rules, stdin='{"ProductName": "\\u001b[31m[red]x\\ud800"}')
    assert '"\\x1b[31m[red]x\\ud800"' in result.stdout
    assert "\x1b" not in result.stdout


RATED = """
[[rule]]
name = "flood"
key = "ProductName"
equals = "Fenix"
per = ["fingerprint", "address"]
first = 2
every = 3
hours = 1
below = "continue"
above = "reject"

[[rule]]
name = "rest"
key = "*"
result = "accept"
"""
BY_FINGERPRINT = RATED.replace('["fingerprint", "address"]', '"fingerprint"')


def counted_crash(number: int, fingerprint: str | None = "1:0123456789abcdef", **changed: object) -> dict[str, object]:
    """A raw crash of a day, received at the so manyth minute."""
    raw_crash = raw_crash_of(f"{0xFFFFFFFF - number:08x}{CRASH_ID[8:]}")
    raw_crash["submitted_timestamp"] = f"2016-06-22T{number // 60:02}:{number % 60:02}:00+00:00"
    metadata = raw_crash["metadata"]
    assert isinstance(metadata, dict)
    if fingerprint is not None:
        metadata["fingerprint"] = fingerprint
    return {**raw_crash, **changed}


@pytest.fixture
def rated(tmp_path: Path) -> Path:
    path = tmp_path / "rated.toml"
    path.write_text(RATED)
    return path


@pytest.mark.parametrize(
    ("nth", "rule"), [(None, "rest"), (2, "rest"), (3, "flood"), (4, "flood"), (5, "rest"), (8, "rest"), (9, "flood")]
)
def test_explain_the_nth_of_its_group(root: Path, rated: Path, nth: int | None, rule: str) -> None:
    keep(root, {**counted_crash(0), "uuid": CRASH_ID})
    found = explained(CRASH_ID, "--rules", rated, *(() if nth is None else ("--nth", nth)))
    assert [verdict["rule"] for verdict in found["verdicts"]] == [rule]
    assert (found["steps"][0]["said"], found["steps"][0]["outcome"]) == (
        "matches",
        "the first 2 of each fingerprint and address in 1 h, then 1 of 3: continue, else reject",
    )
    assert found["steps"][0]["annotations"] == {
        "ProductName": "Fenix",
        "fingerprint": "1:0123456789abcdef",
        "address": "not kept with a crash",
    }


def test_explain_a_crash_that_has_not_what_is_counted_by(rated: Path) -> None:
    result = run("throttle", "explain", "-", "--rules", rated, "--nth", 99, stdin='{"ProductName": "Fenix"}')
    assert "fingerprint is absent" in result.stdout
    assert result.stdout.splitlines()[-1] == "accept by rest"
    assert "note: rule 'flood': no crash keeps the address" in result.stderr
    found = explained("-", "--rules", rated, stdin='{"ProductName": "Fenix"}')
    assert [(step["rule"], step["said"]) for step in found["steps"]] == [
        ("flood", "does not match"),
        ("rest", "matches"),
    ]


def test_explain_the_zeroth(rated: Path) -> None:
    assert run("throttle", "explain", "-", "--rules", rated, "--nth", 0, stdin="{}").exit_code == 2


# ——— replay ———


def replayed(rules: Path, text: str) -> dict[str, float]:
    """How many crashes each rule decides about, among those that were kept."""
    rules.write_text(text)
    found = json.loads(run("throttle", "replay", rules, "--json").stdout)
    rules_of = {row["new_rule"] for row in found["rows"]}
    return {rule: sum(row["crashes"] for row in found["rows"] if row["new_rule"] == rule) for rule in rules_of}


def test_replay_counts_crashes_in_the_order_in_which_they_came(root: Path, rated: Path) -> None:
    for number in range(20):
        keep(root, counted_crash(number))
    for number in range(70, 74):
        keep(root, counted_crash(number))
    keep(root, counted_crash(30, fingerprint="1:fedcba9876543210"))
    keep(root, counted_crash(31, fingerprint=None))
    # Of 20 the numbers 1, 2, 5, 8, 11, 14, 17 and 20, of the 4 of the next hour 1 and 2, and both others.
    assert replayed(rated, BY_FINGERPRINT) == {"rest": 12, "flood": 14}
    assert replayed(rated, RATED) == {"rest": 26}


def test_replay_counts_by_the_chance_to_come_to_a_rule(root: Path, rated: Path) -> None:
    for number in range(50):
        keep(root, counted_crash(number))
    half = '[[rule]]\nname = "half"\nkey = "*"\npercent = 50\nbelow = "reject"\nabove = "continue"\n'
    # 25 come to the rule, of which 2 are kept at first, and of the other 23 one of 3.
    assert replayed(rated, half + BY_FINGERPRINT) == {"half": 25, "rest": 9.5, "flood": 15.5}


def test_replay_knows_that_what_a_later_rule_rejects_uses_up_nothing(root: Path, rated: Path) -> None:
    for number in range(50):
        keep(root, counted_crash(number))
    first = BY_FINGERPRINT.partition('[[rule]]\nname = "rest"')[0]
    tenth = '[[rule]]\nname = "tenth"\nkey = "*"\npercent = 10\nbelow = "accept"\nabove = "reject"\n'
    # Not one of three is kept, so all come to the rule that keeps one of ten; with one of 20 half of the rest.
    assert replayed(rated, first + tenth)["tenth"] == pytest.approx(50)
    assert replayed(rated, first.replace("every = 3", "every = 20") + tenth)["tenth"] == pytest.approx(35, abs=1)


def test_replay_of_crashes_that_tell_no_time(root: Path, rated: Path) -> None:
    place = keep(root, counted_crash(0))
    Path(place.raw_crash).write_text(json.dumps(counted_crash(0, submitted_timestamp="soon")))
    Path(keep(root, counted_crash(1)).raw_crash).write_text("{")
    assert replayed(rated, BY_FINGERPRINT) == {"rest": 1}


def test_replay(root: Path, rules: Path) -> None:
    keep(root, raw_crash_of(CRASH_ID))
    keep(root, raw_crash_of(NEIGHBOUR, ProductName="Firefox"))
    keep(root, raw_crash_of(STRANGER, BuildID="20160101000000"))
    before = files_below(root)
    replayed = run("throttle", "replay", rules)
    assert replayed.exit_code == 0
    assert replayed.stdout.splitlines()[-1] == ("3 crashes: about 2.8 would get another result, 2 would not be kept")
    found = json.loads(run("throttle", "replay", rules, "--json").stdout)
    old = {"old_rule": "accept_everything", "old_result": "accept"}
    assert found == {
        "crashes": 3,
        "unreadable": 0,
        "changed": 2.75,
        "rows": [
            {**old, "new_rule": "fenix", "new_result": "accept", "crashes": 0.25},
            {**old, "new_rule": "fenix", "new_result": "defer", "crashes": 0.75},
            {**old, "new_rule": "old", "new_result": "reject", "crashes": 1.0},
            {**old, "new_rule": "rest", "new_result": "ignore", "crashes": 1.0},
        ],
    }
    assert files_below(root) == before


def test_replay_by_day(root: Path) -> None:
    keep(root, raw_crash_of(CRASH_ID))
    keep(root, raw_crash_of(STRANGER))
    found = json.loads(run("throttle", "replay", "accept_all", "--per-day", "--json").stdout)
    assert [(row["day"], row["crashes"]) for row in found["rows"]] == [("20160622", 1.0), ("20160623", 1.0)]
    assert found["changed"] == 0
    assert "20160623" in run("throttle", "replay", "accept_all", "--per-day").stdout
    assert json.loads(run("throttle", "replay", "accept_all", "--day", "20160623", "--json").stdout)["crashes"] == 1


def test_replay_leaves_out_what_can_not_be_read(root: Path, rules: Path) -> None:
    Path(keep(root).raw_crash).write_text("{")
    replayed = run("throttle", "replay", rules)
    assert (replayed.exit_code, replayed.stdout.splitlines()[-1][:10]) == (0, "0 crashes:")
    assert "left out, since they can't be read: 1 raw crash" in replayed.stderr


def test_replay_of_no_rules(root: Path) -> None:
    result = run("throttle", "replay", "nowhere.toml")
    assert result.exit_code == 2
    assert result.stderr.startswith("collectord: nowhere.toml")


# ——— judging ———


def test_what_is_known_of_a_sample() -> None:
    def accepted(percent: float, known: Verdict) -> float:
        [*_, rest] = [Rule("s", "*", Always(), Sample(percent, Result.ACCEPT, Result.REJECT))]
        chances = judge([rest], {}, TODAY, known).chances
        return sum(chance.share for chance in chances if chance.result is Result.ACCEPT)

    was_among_ten = Verdict(Result.ACCEPT, "s", 10)
    assert accepted(10, was_among_ten) == 1
    assert accepted(20, was_among_ten) == 1
    assert accepted(5, was_among_ten) == 0.5
    assert accepted(5, Verdict(Result.ACCEPT, "other", 10)) == 0.05
    assert accepted(5, Verdict(Result.DEFER, "s", 10)) == 0.05


def test_a_rule_that_raises_keeps_the_crash() -> None:
    def broken(value: str) -> bool:
        raise RuntimeError("oh")

    judgement = judge([Rule("b", "A", broken, Result.REJECT)], {"A": "1"}, TODAY)
    assert [(step.said, step.error) for step in judgement.steps] == [("raises", "RuntimeError: oh")]
    assert [(chance.result, chance.rule, chance.share) for chance in judgement.chances] == [
        (Result.ACCEPT, "BROKEN_RULE", 1.0)
    ]


CONDITIONS = st.sampled_from([Always(), On("A", Present()), On("A", Absent()), On("A", Equals("1"))])
OUTCOMES = st.sampled_from(list(Result)) | st.builds(
    Sample, st.integers(0, 100), st.sampled_from(list(Result)), st.sampled_from(list(Result))
)


@given(st.lists(st.tuples(CONDITIONS, OUTCOMES), max_size=6), st.sampled_from([{}, {"A": "1"}, {"A": "2"}]), st.data())
def test_judging_agrees_with_the_collector(
    made: list[tuple[Always, Result | Sample]], annotations: dict[str, str], data: st.DataObject
) -> None:
    rules = [Rule(f"r{number}", "*", condition, outcome) for number, (condition, outcome) in enumerate(made)]
    judgement = judge(rules, annotations, TODAY)
    assert sum(chance.share for chance in judgement.chances) == pytest.approx(1)
    roll = data.draw(st.floats(0, 100, exclude_max=True))
    verdict = decide(rules, annotations, lambda: roll, TODAY)
    assert (verdict.result, verdict.rule) in [(chance.result, chance.rule) for chance in judgement.chances]


def test_what_the_collector_wrote_is_no_annotation() -> None:
    assert annotations_in(raw_crash_of(n=5)) == {"ProductName": "Fenix", "Version": "1.0", "n": "5"}


def test_what_was_decided() -> None:
    assert verdict_in(raw_crash_of(rule="r", rate=10)) == Verdict(Result.ACCEPT, "r", 10)
    assert verdict_in(raw_crash_of(rule="r", deferred=True)) == Verdict(Result.DEFER, "r", 100)
    assert verdict_in({"metadata": 5, "throttle_rate": "x"}) == Verdict(Result.ACCEPT, "unknown", 100)


# ——— words ———


def is_short(value: str) -> bool:
    return len(value) < 3


class Weird:
    def __call__(self, annotations: object) -> bool:
        return True

    def __repr__(self) -> str:
        return "Weird()"


@for_each(
    ("toml", "words"),
    [
        ('equals = "a"', 'K is "a"'),
        ('equals_ignoring_case = "A"', 'K is "A" in any case'),
        ('one_of = ["b", "a"]', 'K is one of "a", "b"'),
        ('prefix = ["1.", "2."]', 'K begins with "1." or "2."'),
        ('contains = "a"', 'K contains "a"'),
        ('matches = "a+"', 'K matches "a+"'),
        ('version_below = "45.0b2"', "K is a version below 45.0b2"),
        ('version_at_least = "45"', "K is version 45 or later"),
        ('text_below = "a"', 'K is below "a" in the order of text'),
        ('text_at_most = "a"', 'K is at most "a" in the order of text'),
        ("older_than_days = 7", "K is a build id of more than 7 days ago"),
        ("present = true", "K is there"),
        ("absent = true", "K is absent"),
        ('json = { path = ["a", "b"], equals = true }', "K has a.b = true"),
        ('json = { path = ["a"], at_most = 5 }', "K has a at most 5"),
        ('not = { key = "L", equals = "a" }', 'not (L is "a")'),
        ('all = [{ equals = "a" }, { key = "L", any = [{ absent = true }, { equals = "b" }] }]',
         'K is "a" and (L is absent or L is "b")'),
    ],
)  # fmt: skip
def test_words(toml: str, words: str) -> None:
    [rule] = parse_rules(f'[[rule]]\nname = "r"\nkey = "K"\n{toml}\nresult = "accept"\n', "here")
    assert condition_in_words(rule.key, rule.condition) == words


def test_words_of_python() -> None:
    assert condition_in_words("K", is_short) == "K passes is_short"
    assert condition_in_words("*", Weird()) == "the report passes Weird()"
    assert condition_in_words("*", Always()) == "every report"
    assert outcome_in_words(Rule("r", "*", Always(), Result.ACCEPT)) == "accept"
    assert outcome_in_words(Rule("r", "*", Always(), Sample(2.5, Result.ACCEPT, Result.CONTINUE))) == (
        "2.5 %: accept, else continue"
    )


def test_keys() -> None:
    condition = AllOf(On("A", Present()), AnyOf(On("B", Absent()), Not(On("A", OneOf("x")))))
    assert keys_of(Rule("r", "*", condition, Result.ACCEPT)) == ["A", "B"]
    assert keys_of(Rule("r", "K", Equals("x"), Result.ACCEPT)) == ["K"]


@for_each("name", ["accept_all", "mozilla"])
def test_all_built_in_rules_have_words(name: str) -> None:
    for rule in load_rules(name):
        assert "object at" not in condition_in_words(rule.key, rule.condition)
        assert "passes" not in condition_in_words(rule.key, rule.condition)
