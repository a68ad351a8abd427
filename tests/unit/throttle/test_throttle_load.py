from datetime import date
from pathlib import Path

import pytest

from collectord.errors import ConfigError
from collectord.model import Annotations
from collectord.throttle import BUILTIN, Always, Equals, Result, Rule, Verdict, load_rules, throttle
from tests.support.cases import for_each

TODAY = date(2024, 3, 1)
EVERYTHING = Rule("accept_everything", "*", Always(), Result.ACCEPT)


def judge(rules: tuple[Rule, ...], annotations: Annotations) -> Verdict:
    return throttle(rules, annotations, lambda: 50.0, TODAY)


def test_accept_all() -> None:
    assert load_rules("accept_all") == (EVERYTHING,)


@for_each("spec", BUILTIN)
def test_built_in_sets_load(spec: str) -> None:
    assert load_rules(spec)[-1] == EVERYTHING


@for_each("spec", ["", "acceptall", "mozilla.rules", "/etc/rules"])
def test_an_unknown_name(spec: str) -> None:
    with pytest.raises(
        ConfigError, match=f"^throttle rules '{spec}' are unknown; write accept_all, flood, mozilla, a path"
    ):
        load_rules(spec)


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text('[[rule]]\nname = "é"\nkey = "*"\nresult = "accept"\n', "utf-8")
    with pytest.raises(ConfigError, match=f"^{path}: rule 'é': the name of a rule"):
        load_rules(str(path))
    path.write_text('[[rule]]\nname = "accept_everything"\nkey = "*"\nresult = "accept"\n')
    assert load_rules(str(path)) == (EVERYTHING,)


def test_a_file_that_can_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    with pytest.raises(ConfigError, match=rf"^{path}: the throttle rules can't be read: .*No such file"):
        load_rules(str(path))
    path.mkdir()
    with pytest.raises(ConfigError, match=rf"^{path}: the throttle rules can't be read: .*Is a directory"):
        load_rules(str(path))
    with pytest.raises(ConfigError, match="the throttle rules can't be read: embedded null"):
        load_rules("\0.toml")


def test_a_file_that_is_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_bytes(b"# \xff")
    with pytest.raises(ConfigError, match=rf"^{path}: throttle rules must be UTF-8: "):
        load_rules(str(path))


MODULE = """
from collectord.throttle import Equals, Result, Rule

FIREFOX = Rule("firefox", "ProductName", Equals("Firefox"), Result.ACCEPT)
LIST = [FIREFOX]
NUMBER = 5
TEXT = "x"
MIXED = [FIREFOX, "accept"]
NONE = []
TWICE = [FIREFOX, FIREFOX]

def __getattr__(name):
    if name == "LAZY":
        return (rule for rule in LIST)
    raise AttributeError(name)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "throttle_rules_of_a_test.py").write_text(MODULE)
    (tmp_path / "throttle_rules_broken.py").write_text("1 / 0\n")
    (tmp_path / "throttle_rules_needy.py").write_text("import throttle_rules_nowhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    return "throttle_rules_of_a_test"


def test_a_module(module: str) -> None:
    expected = (Rule("firefox", "ProductName", Equals("Firefox"), Result.ACCEPT),)
    assert load_rules(f"{module}:LIST") == expected
    assert load_rules(f"{module}:LAZY") == expected


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "throttle_rules_of_a_test has no ''; write package.module:NAME"),
        ("RULES", "throttle_rules_of_a_test has no 'RULES'; write package.module:NAME"),
        ("NUMBER", "must be a list of Rule, not 5"),
        ("FIREFOX", "must be a list of Rule, not Rule"),
        ("TEXT", "number 1 is not a Rule but 'x'"),
        ("MIXED", "number 2 is not a Rule but 'accept'"),
        ("NONE", "no rules; one is needed at least"),
        ("TWICE", "rule 'firefox': another rule has this name"),
    ],
)
def test_a_module_without_rules(module: str, name: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=f"^{module}:{name}: {problem}"):
        load_rules(f"{module}:{name}")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("throttle_rules_nowhere", "ModuleNotFoundError: No module named 'throttle_rules_nowhere'"),
        ("throttle_rules_broken", "ZeroDivisionError: division by zero"),
        ("throttle_rules_needy", "ModuleNotFoundError: No module named 'throttle_rules_nowhere'"),
        ("", "ValueError: Empty module name"),
        (".relative", "TypeError: "),
    ],
)
@pytest.mark.usefixtures("module")
def test_a_module_that_can_not_be_imported(name: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}:RULES: {name} can't be imported: {problem}"):
        load_rules(f"{name}:RULES")


def test_products_come_first() -> None:
    rules = load_rules("accept_all", ["Firefox", "Thunderbird"])
    assert [rule.name for rule in rules] == ["unsupported_product", "accept_everything"]
    for product, result in [("Firefox", Result.ACCEPT), ("Thunderbird", Result.ACCEPT), ("firefox", Result.REJECT)]:
        assert judge(rules, {"ProductName": product}).result is result
    assert judge(rules, {}) == Verdict(Result.REJECT, "unsupported_product", 100)


def test_products_take_the_place_of_the_rule_of_that_name() -> None:
    rules = load_rules("mozilla", ["SeaMonkey"])
    assert [rule.name for rule in rules] == [rule.name for rule in load_rules("mozilla")]
    assert judge(rules, {"ProductName": "SeaMonkey"}).result is Result.ACCEPT
    assert judge(rules, {"ProductName": "Firefox"}).rule == "unsupported_product"
    assert judge(rules, {"ProductName": "B2G"}) == Verdict(Result.FAKEACCEPT, "b2g", 100)


@for_each("b2g", ["B2G", "b2g"])
def test_b2g_as_a_supported_product(b2g: str) -> None:
    rules = load_rules("mozilla", ["Firefox", b2g])
    assert judge(rules, {"ProductName": b2g}) == Verdict(Result.ACCEPT, "accept_everything", 100)
    assert "b2g" not in [rule.name for rule in rules]


def test_a_rule_b2g_of_the_operators_own_stays(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text('[[rule]]\nname = "b2g"\nkey = "*"\nresult = "defer"\n')
    assert [rule.name for rule in load_rules(str(path), ["B2G"])] == ["unsupported_product", "b2g"]
