"""
What docs/throttling.rst shows is right.
"""

import re
from pathlib import Path
from textwrap import dedent

from collectord.throttle import Result, Rule, parse_rules
from collectord.throttle.load import BUILTIN
from collectord.throttle.rulefile import CONDITIONS
from tests.support.cases import for_each

TEXT = (Path(__file__).parents[3] / "docs" / "throttling.rst").read_text("utf-8")
BLOCKS = re.findall(r"\.\. code-block:: (\w+)\n\n((?:   .*\n|\n)+)", TEXT)
ROWS = re.findall(r"^``((\w+) = .*?)``  ", TEXT, re.MULTILINE)


def test_every_condition_is_in_the_table() -> None:
    assert {name for _, name in ROWS} == set(CONDITIONS)


@for_each("example", [row[0] for row in ROWS])
def test_the_examples_of_conditions(example: str) -> None:
    parse_rules(f'[[rule]]\nname = "r"\nkey = "A"\n{example}\nresult = "accept"\n', "docs")


def test_the_rule_files() -> None:
    files = [dedent(block) for language, block in BLOCKS if language == "toml" and "[[rule]]" in block]
    assert [len(parse_rules(text, "docs")) for text in files] == [3, 1, 2, 3]


def test_the_rules_in_python() -> None:
    (source,) = [dedent(block) for language, block in BLOCKS if language == "python"]
    names: dict[str, list[Rule]] = {}
    exec(source, names)
    assert all(isinstance(rule, Rule) for rule in names["RULES"])


def test_the_results_and_the_sets_are_named() -> None:
    for name in [*(result.value for result in Result), *BUILTIN]:
        assert f"``{name}``" in TEXT
