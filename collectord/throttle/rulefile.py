"""
Parses rule files. They are TOML, and C{docs/throttling.rst} describes them for operators.

A rule is a C{[[rule]]} table of C{name}, C{key}, one condition, and C{result}, a sample or a rate. The condition may be
left out if the key is C{*}: the rule then matches every report. Each part of C{all}, C{any} or C{not} is a table of one
condition. It may have a C{key}; otherwise it has that of the rule.
"""

import tomllib
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, TypeAlias

from collectord.errors import ConfigError
from collectord.nearest import known_in_words
from collectord.throttle.combine import ANY_KEY, Absent, AllOf, Always, AnyOf, Condition, Not, On, Present
from collectord.throttle.conditions import (
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
    VersionAtLeast,
    VersionBelow,
)
from collectord.throttle.rate import RateSample
from collectord.throttle.results import Result
from collectord.throttle.rules import Outcome, Rule, Sample

_Table: TypeAlias = Mapping[str, object]

_OUTCOME_KEYS = ("result", "percent", "per", "first", "every", "hours", "below", "above")
_RULE_KEYS = ("name", "key", *_OUTCOME_KEYS)


def parse_rules(text: str, source: str) -> tuple[Rule, ...]:
    """
    Parse the text of a rule file.

    @param source: the name of the file in error messages.

    @raise ConfigError: the text can't be used; the message names the source, the rule, and what is wrong with it.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source}: not TOML: {error}") from error
    tables = document.pop("rule", None)
    if document:
        raise ConfigError(f"{source}: unknown key {_names(document)}; a rule file has [[rule]] tables only")
    if tables is None or tables == []:
        raise ConfigError(f"{source}: no rules; write at least one [[rule]] table")
    if not _is_list_of_tables(tables):
        raise ConfigError(f"{source}: rule must be tables; begin each with [[rule]]")
    rules: dict[str, Rule] = {}
    for number, table in enumerate(tables, 1):
        name = table.get("name")
        where = f"{source}: rule {name!r}" if isinstance(name, str) else f"{source}: rule number {number}"
        try:
            rule = _rule(table)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error
        if rule.name in rules:
            raise ConfigError(f"{where}: rule number {number} has the name of an earlier rule; give each its own")
        rules[rule.name] = rule
    return tuple(rules.values())


def _rule(table: _Table) -> Rule:
    _check_known(table, (*_RULE_KEYS, *CONDITIONS))
    for required, example in [("name", '"has_comments"'), ("key", '"Comments", or "*" for the whole report')]:
        if required not in table:
            raise ConfigError(f"{required} is missing; write {required} = {example}")
    key = _text(table["key"], "key")
    return Rule(_text(table["name"], "name"), key, _rule_condition(table, key), _outcome(table))


def _outcome(table: _Table) -> Outcome:
    given = {key for key in _OUTCOME_KEYS if key in table}
    if given == {"result"}:
        return _result(table, "result")
    if given == {"percent", "below", "above"}:
        return _sample(table)
    if "per" in given:
        return _rate(table, given)
    found = f"found {_names(sorted(given))}" if given else "found none of them"
    raise ConfigError(f"needs either result, or percent with below and above, or per with first and hours; {found}")


def _sample(table: _Table) -> Sample:
    percent = table["percent"]
    if isinstance(percent, bool) or not isinstance(percent, int | float):
        raise ConfigError(f"percent must be a number from 0 to 100, not {percent!r}")
    return Sample(percent, _result(table, "below"), _result(table, "above"))


def _rate(table: _Table, given: Set[str]) -> RateSample:
    if other := sorted(given & {"result", "percent"}):
        raise ConfigError(f"per: can't be together with {_names(other)}")
    for required, example in [("first", "10"), ("hours", "1"), ("below", '"continue"'), ("above", '"reject"')]:
        if required not in given:
            raise ConfigError(f"per: {required} is missing; write {required} = {example}")
    rate: dict[str, Any] = {key: table[key] for key in ("per", "first", "every", "hours") if key in given}
    return RateSample(**rate, below=_result(table, "below"), above=_result(table, "above"))


def _result(table: _Table, key: str) -> Result:
    for result in Result:
        if result.value == table[key]:
            return result
    raise ConfigError(f"{key} must be one of {_names([result.value for result in Result])}; not {table[key]!r}")


def _rule_condition(table: _Table, key: str) -> Condition:
    if any(name in CONDITIONS for name in table):
        return _condition(table)
    if key == ANY_KEY:
        return Always()
    raise ConfigError(
        f"no condition; where any {key} will do, write present = true; the conditions are {_names(CONDITIONS)}"
    )


def _condition(table: _Table) -> Condition:
    found = [name for name in table if name in CONDITIONS]
    if not found:
        raise ConfigError(f"no condition; the conditions are {_names(CONDITIONS)}")
    if len(found) > 1:
        raise ConfigError(
            f"found {len(found)} conditions, {_names(found)}, but only one is allowed; combine them with all or any"
        )
    name = found[0]
    try:
        return CONDITIONS[name](table[name])
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from error


def _part(value: object) -> Condition:
    """Parse a part of C{all}, C{any} or C{not}: a table of one condition and perhaps a key."""
    if not isinstance(value, dict):
        raise ConfigError(f'must be a table like {{ key = "ProductName", equals = "Firefox" }}, not {value!r}')
    _check_known(value, ("key", *CONDITIONS))
    condition = _condition(value)
    if "key" not in value:
        return condition
    key = _text(value["key"], "key")
    if key in ("", ANY_KEY):
        raise ConfigError(f"key: here it is the name of an annotation, not {key!r}")
    return On(key, condition)


def _parts(value: object) -> list[Condition]:
    if not isinstance(value, list) or not value:
        raise ConfigError(f'must be a list of tables like {{ key = "ProductName", equals = "Firefox" }}, not {value!r}')
    parts = []
    for number, part in enumerate(value, 1):
        try:
            parts.append(_part(part))
        except ConfigError as error:
            raise ConfigError(f"number {number}: {error}") from error
    return parts


def _json(value: object) -> Condition:
    right = 'write { path = ["system", "os", "name"], equals = "Linux" }, or at_most = 5 for equals'
    if not isinstance(value, dict) or set(value) not in ({"path", "equals"}, {"path", "at_most"}):
        raise ConfigError(f"must be a table of a path and one of equals and at_most; {right}")
    path = tuple(_texts(value["path"], "path"))
    if "equals" in value:
        if not isinstance(value["equals"], str | int):
            raise ConfigError(f"equals must be a string, a whole number, true or false; not {value['equals']!r}")
        return JsonEquals(path, value["equals"])
    return JsonAtMost(path, _whole(value["at_most"], "at_most"))


def _text(value: object, what: str = "it") -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{what} must be a string, not {value!r}")
    return value


def _texts(value: object, what: str = "it") -> list[str]:
    if not isinstance(value, list) or not value:
        raise ConfigError(f"{what} must be a list of strings, not {value!r}")
    return [_text(text, f"each of the strings in {what}") for text in value]


def _whole(value: object, what: str = "it") -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{what} must be a whole number, not {value!r}")
    return value


def _true(value: object, other: str) -> None:
    if value is not True:
        raise ConfigError(f"can only be true, not {value!r}; for the opposite write {other} = true")


def _present(value: object) -> Condition:
    _true(value, "absent")
    return Present()


def _absent(value: object) -> Condition:
    _true(value, "present")
    return Absent()


def _is_list_of_tables(value: object) -> bool:
    return isinstance(value, Sequence) and all(isinstance(table, dict) for table in value)


def _check_known(table: _Table, known: Sequence[str]) -> None:
    unknown = [key for key in table if key not in known]
    if unknown:
        raise ConfigError(f"unknown key {_names(unknown)}; {known_in_words(unknown[0], known)}")


def _names(names: Mapping[str, object] | Sequence[str]) -> str:
    return ", ".join(names)


CONDITIONS: Mapping[str, Callable[[object], Condition]] = {
    "equals": lambda value: Equals(_text(value)),
    "equals_ignoring_case": lambda value: EqualsIgnoringCase(_text(value)),
    "one_of": lambda value: OneOf(*_texts(value)),
    "prefix": lambda value: Prefix(*([value] if isinstance(value, str) else _texts(value))),
    "contains": lambda value: Contains(_text(value)),
    "matches": lambda value: Matches(_text(value)),
    "version_below": lambda value: VersionBelow(_text(value)),
    "version_at_least": lambda value: VersionAtLeast(_text(value)),
    "text_below": lambda value: TextBelow(_text(value)),
    "text_at_most": lambda value: TextAtMost(_text(value)),
    "older_than_days": lambda value: OlderThanDays(_whole(value)),
    "present": _present,
    "absent": _absent,
    "json": _json,
    "all": lambda value: AllOf(*_parts(value)),
    "any": lambda value: AnyOf(*_parts(value)),
    "not": lambda value: Not(_part(value)),
}
"""Functions that make a condition of its value in a rule file, by the name of the condition there."""
