"""
Describes throttle rules in words, for the admin page and the commands.
"""

from collections.abc import Sequence
from typing import Any

from collectord.throttle import (
    Absent,
    AllOf,
    Always,
    AnyOf,
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
)
from collectord.throttle.combine import ANY_KEY, parts_of


def condition_in_words(key: str, condition: Any) -> str:
    """Describe C{condition}, such as C{ProductName is "Fenix" and Version begins with "1."}"""
    match condition:
        case Always():
            return "every report"
        case On(inner_key, inner):
            return condition_in_words(inner_key, inner)
        case AllOf(conditions):
            return _joined(key, conditions, " and ")
        case AnyOf(conditions):
            return _joined(key, conditions, " or ")
        case Not(inner):
            return f"not ({condition_in_words(key, inner)})"
        case _ if key == ANY_KEY:
            return f"the report passes {_name(condition)}"
        case _:
            return f"{key} {_of_value(condition)}"


def outcome_in_words(rule: Rule) -> str:
    """
    Describe what a rule decides, such as C{accept}, C{10 %: accept, else reject}, or C{the first 10 of each fingerprint
    in 1 h, then 1 of 1000: continue, else reject}.
    """
    outcome = rule.outcome
    if isinstance(outcome, Sample):
        return f"{outcome.percent:g} %: {outcome.below.value}, else {outcome.above.value}"
    if isinstance(outcome, RateSample):
        of = f"the first {outcome.first} of each {' and '.join(outcome.per)} in {outcome.hours:g} h"
        later = "" if outcome.every is None else f", then 1 of {outcome.every}"
        return f"{of}{later}: {outcome.below.value}, else {outcome.above.value}"
    return outcome.value


_KEPT = (Result.ACCEPT, Result.DEFER)


def result_in_words(rule: Rule) -> str:
    """
    Say shortly what a rule does, for a table of rules: C{accept}, C{1 of 10 kept}, or C{the first 10 of each
    fingerprint in 1 h, then 1 of 1000 kept}.
    """
    outcome = rule.outcome
    if isinstance(outcome, Sample):
        return f"{one_of(outcome.percent)} {_those(outcome)}"
    if isinstance(outcome, RateSample):
        later = "" if outcome.every is None else f", then 1 of {outcome.every}"
        first = f"the first {outcome.first} of each {' and '.join(outcome.per)} in {outcome.hours:g} h"
        return f"{first}{later} {_those(outcome)}"
    return outcome.value


def one_of(percent: float) -> str:
    """Write a percentage as C{1 of 100} if it is such a part, else as C{12.3 %}."""
    number = round(100 / percent) if percent else 0
    return f"1 of {number}" if number and abs(100 / number - percent) < 1e-9 * percent else f"{percent:g} %"


def _those(outcome: Sample | RateSample) -> str:
    if outcome.below in _KEPT and outcome.above not in _KEPT:
        return "kept"
    below = "tried by the next rules" if outcome.below is Result.CONTINUE else outcome.below.value
    above = "tried by the next rules" if outcome.above is Result.CONTINUE else outcome.above.value
    return f"{below}, else {above}"


def keys_of(rule: Rule) -> list[str]:
    """
    List the annotations that a rule looks at, and what it counts by. What a Python function looks at in a whole report
    is not known.
    """
    keys = [key for key, _ in parts_of(rule.key, rule.condition) if key != ANY_KEY]
    return list(dict.fromkeys([*keys, *(rule.rate.per if rule.rate is not None else ())]))


def _joined(key: str, conditions: Sequence[Any], word: str) -> str:
    return word.join(_part(key, part) if len(conditions) > 1 else condition_in_words(key, part) for part in conditions)


def _part(key: str, condition: Any) -> str:
    match condition:
        case On(inner_key, inner):
            return _part(inner_key, inner)
        case AllOf() | AnyOf():
            return f"({condition_in_words(key, condition)})"
        case _:
            return condition_in_words(key, condition)


def _of_value(condition: Any) -> str:
    match condition:
        case Present():
            return "is there"
        case Absent():
            return "is absent"
        case OneOf(wanted):
            return f"is one of {_texts(sorted(wanted))}"
        case Prefix(prefixes):
            return f"begins with {_texts(prefixes, ' or ')}"
        case OlderThanDays(days):
            return f"is a build id of more than {days} days ago"
        case JsonEquals(path, wanted):
            return f"has {'.'.join(path)} = {_text(wanted)}"
        case JsonAtMost(path, limit):
            return f"has {'.'.join(path)} at most {limit}"
        case Matches(pattern):
            return f"matches {_text(pattern.text)}"
        case Equals(wanted):
            return f"is {_text(wanted)}"
        case EqualsIgnoringCase():
            return f"is {_text(condition.wanted)} in any case"
        case Contains(part):
            return f"contains {_text(part)}"
        case TextBelow(limit):
            return f"is below {_text(limit)} in the order of text"
        case TextAtMost(limit):
            return f"is at most {_text(limit)} in the order of text"
        case VersionBelow():
            return f"is a version below {condition.limit}"
        case VersionAtLeast():
            return f"is version {condition.limit} or later"
        case _:
            return f"passes {_name(condition)}"


def _text(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


def _texts(values: Sequence[str], word: str = ", ") -> str:
    return word.join(map(_text, values))


def _name(condition: Any) -> str:
    return str(getattr(condition, "__qualname__", None) or repr(condition))
