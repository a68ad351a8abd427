"""
Finds and loads the rules that C{[throttle]} in the settings names: built-in ones, a file, or a Python module.
"""

from collections.abc import Iterable, Sequence
from importlib import import_module
from importlib.resources import files
from pathlib import Path

from collectord.errors import ConfigError
from collectord.throttle.combine import ANY_KEY, Not, On, parts_of
from collectord.throttle.conditions import Matches, OneOf
from collectord.throttle.patterns import differences
from collectord.throttle.results import Result
from collectord.throttle.rulefile import parse_rules
from collectord.throttle.rules import Rule, check_names

BUILTIN = ("accept_all", "flood", "mozilla")
"""The names of the rule sets that come with collectord."""


def load_rules(spec: str, products: Sequence[str] = (), text: str | None = None) -> tuple[Rule, ...]:
    """
    Load the rules that C{spec} names.

    @param spec: one of L{BUILTIN}, the path of a file that ends with C{.toml}, or C{package.module:NAME}.
    @param products: only reports with one of these ProductNames are kept, and all others are rejected. If there are
        none here, reports of all products are kept.
    @param text: the content of the file, if it was read already.

    @raise ConfigError: there are no such rules, or they can't be used.
    """
    if spec in BUILTIN:
        rules = _builtin(spec)
    elif spec.endswith(".toml"):
        rules = parse_rules(read_rules(spec) if text is None else text, spec)
    elif ":" in spec:
        rules = _from_module(spec)
    else:
        raise ConfigError(
            f"throttle rules {spec!r} are unknown; write {', '.join(BUILTIN)}, a path that ends with .toml,"
            " or package.module:NAME"
        )
    if not products:
        return rules
    if spec == "mozilla" and any(product.casefold() == "b2g" for product in products):
        rules = tuple(rule for rule in rules if rule.name != "b2g")
    return _only(products, rules)


def differences_in(rules: Iterable[Rule]) -> list[str]:
    """
    List the regular expressions in C{rules} that mean something else to RE2 than to Python's C{re}.

    @return: a line of text for each difference, for the operator.
    """
    return [
        f"rule {rule.name!r}: matches = {condition.pattern.text!r}: {difference}"
        for rule in rules
        for _, condition in parts_of(rule.key, rule.condition)
        if isinstance(condition, Matches)
        for difference in differences(condition.pattern.text)
    ]


def _only(products: Sequence[str], rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    unsupported = Rule("unsupported_product", ANY_KEY, Not(On("ProductName", OneOf(*products))), Result.REJECT)
    if any(rule.name == unsupported.name for rule in rules):
        return tuple(unsupported if rule.name == unsupported.name else rule for rule in rules)
    return (unsupported, *rules)


def _builtin(name: str) -> tuple[Rule, ...]:
    text = (files("collectord.throttle") / "builtin" / f"{name}.toml").read_text("utf-8")
    return parse_rules(text, f"built-in rules {name}")


def read_rules(path: str) -> str:
    """
    Read the text of a rule file. This blocks.

    @raise ConfigError: the file can't be read.
    """
    try:
        return Path(path).read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: throttle rules must be UTF-8: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path}: the throttle rules can't be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: the throttle rules can't be read: {error}") from error


def _from_module(spec: str) -> tuple[Rule, ...]:
    module_name, _, name = spec.partition(":")
    try:
        module = import_module(module_name)
    except Exception as error:  # an operator's module may raise anything
        raise ConfigError(f"{spec}: {module_name} can't be imported: {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        raise ConfigError(f"{spec}: {module_name} has no {name!r}; write package.module:NAME")
    found = getattr(module, name)
    if not isinstance(found, Iterable):
        raise ConfigError(f"{spec}: must be a list of Rule, not {found!r}")
    rules = tuple(found)
    for number, rule in enumerate(rules, 1):
        if not isinstance(rule, Rule):
            raise ConfigError(f"{spec}: number {number} is not a Rule but {rule!r}")
    if not rules:
        raise ConfigError(f"{spec}: no rules; one is needed at least")
    try:
        check_names(rules)
    except ConfigError as error:
        raise ConfigError(f"{spec}: {error}") from error
    return rules
