"""
Explains what rules decide about a crash: which of them match, and with what chance each result follows.

The functions here are pure. C{collectord throttle} and the admin page show what they return.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from typing import Literal, TypeAlias

from attrs import frozen

from collectord.model import COLLECTOR_NAMES, Annotations, CrashFacts, RawCrash, metadata_of
from collectord.throttle import NO_MATCH, Result, Rule, Verdict
from collectord.throttle.traits import Traits, grouping_of

BROKEN_RULE = "BROKEN_RULE"
"""The name that stands for a rule when a crash is kept because a rule written in Python raised an exception."""


@frozen(kw_only=True)
class Step:
    """
    A step is one rule that was tried.

    @ivar said: whether the rule matches; or that it raised an exception, if it is written in Python.
    @ivar error: the exception that it raised, or empty.
    """

    rule: Rule
    said: Literal["matches", "does not match", "raises"]
    error: str = ""


@frozen(kw_only=True)
class Chance:
    """
    A chance is a possible result, the rule that decides it, and how likely it is.

    @ivar share: from 0 to 1. It is less than 1 only if a rule with a sample matches.
    """

    result: Result
    rule: str
    share: float


@frozen(kw_only=True)
class Judgement:
    """
    A judgement is everything that rules may decide about one crash.

    @ivar steps: the rules that may be reached, in order.
    @ivar chances: the possible results; their shares add up to 1.
    """

    steps: Sequence[Step]
    chances: Sequence[Chance]


Counted: TypeAlias = Callable[[Rule, Annotations, float], Verdict | None]
"""
Returns the verdict of a rule with a rate that matches, given the share of cases in which the rule is reached. None: the
crash lacks what the rule counts by.
"""


def as_nth(number: int, traits: Traits) -> Counted:
    """Take a crash for the so manyth of its group, for each rule with a rate. The first one has the number 1."""

    def counted(rule: Rule, annotations: Annotations, share: float) -> Verdict | None:
        rate = rule.rate
        if rate is None or grouping_of(rate)(traits, annotations) is None:
            return None
        if number <= rate.first:
            return rule.below
        return rule.later if rate.every is not None and (number - rate.first) % rate.every == 0 else rule.above

    return counted


_AS_FIRST = as_nth(1, Traits())


def judge(
    rules: Sequence[Rule],
    annotations: Annotations,
    today: date,
    known: Verdict | None = None,
    counted: Counted = _AS_FIRST,
) -> Judgement:
    """
    Work out what C{rules} may decide about a crash with these annotations.

    @param known: what was decided when the crash was received, if that is known. It tells something about the random
        number of that time: a crash that was in a sample of 10 % is surely in one of 20 %, and in one of 5 % with a
        chance of one half.
    @param counted: counts it, for rules with a rate. Without this, nothing is known to count it by.
    """
    steps = []
    chances = []
    left = 1.0
    for rule in rules:
        step = _try(rule, annotations, today)
        rated = counted(rule, annotations, left) if step.said == "matches" and rule.rate is not None else None
        if step.said == "matches" and rule.rate is not None and rated is None:
            step = Step(rule=rule, said="does not match")
        steps.append(step)
        if step.said == "raises":
            chances.append(Chance(result=Result.ACCEPT, rule=BROKEN_RULE, share=left))
            left = 0.0
        elif step.said == "matches":
            going_on = 0.0
            for verdict, share in _branches(rule, known) if rated is None else [(rated, 1.0)]:
                if verdict.result is Result.CONTINUE:
                    going_on += share
                elif share:
                    chances.append(Chance(result=verdict.result, rule=rule.name, share=left * share))
            left *= going_on
        if not left:
            break
    if left:
        chances.append(Chance(result=NO_MATCH.result, rule=NO_MATCH.rule, share=left))
    return Judgement(steps=steps, chances=chances)


def _try(rule: Rule, annotations: Annotations, today: date) -> Step:
    try:
        matches = rule.matches(annotations, today)
    except Exception as e:  # the rule is an operator's Python function; the collector keeps the crash in this case
        return Step(rule=rule, said="raises", error=f"{type(e).__name__}: {e}")
    return Step(rule=rule, said="matches" if matches else "does not match")


def _branches(rule: Rule, known: Verdict | None) -> Iterator[tuple[Verdict, float]]:
    if rule.percent is None:
        yield rule.below, 1.0
        return
    share = rule.percent / 100
    if known is not None and known.rule == rule.name and known.result is rule.below.result and known.percent > 0:
        share = min(1.0, rule.percent / known.percent)
    yield rule.below, share
    yield rule.above, 1 - share


def kept_after(judgement: Judgement, name: str) -> float:
    """Return with what share a crash is kept by rules that come after the rule C{name}."""
    places = {step.rule.name: place for place, step in enumerate(judgement.steps)}
    kept = [chance for chance in judgement.chances if chance.result in (Result.ACCEPT, Result.DEFER)]
    return sum(chance.share for chance in kept if places.get(chance.rule, len(places)) > places[name])


def traits_in(raw_crash: RawCrash, annotations: Annotations, address: str) -> Traits:
    """
    Return what rules counted the report of C{raw_crash} by when it was received.

    @param address: is taken for that of its client, which is not kept.
    """
    fingerprint, place = (metadata_of(raw_crash).get(name) for name in ("fingerprint", "crash_place"))
    return Traits.of(annotations, CrashFacts(fingerprint=_text(fingerprint), place=_text(place)), address)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def annotations_in(raw_crash: Mapping[str, object]) -> Annotations:
    """
    Return the annotations in C{raw_crash}, as the rules saw them when the crash was received.

    The annotations that were removed before it was saved are missing. Values that are no text are given as JSON.
    """
    return as_texts({name: value for name, value in raw_crash.items() if name not in COLLECTOR_NAMES})


def as_texts(values: Mapping[str, object]) -> Annotations:
    """Return C{values} as annotations: what is no text is given as JSON."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}


def verdict_in(raw_crash: RawCrash) -> Verdict:
    """
    Return what the rules decided when the crash was received.

    The result is ACCEPT or DEFER, since no other crash is kept.
    """
    rule = metadata_of(raw_crash).get("throttle_rule")
    percent = raw_crash.get("throttle_rate")
    return Verdict(
        Result.DEFER if raw_crash.get("legacy_processing") == 1 else Result.ACCEPT,
        rule if isinstance(rule, str) else "unknown",
        percent if isinstance(percent, int | float) else 100,
    )
