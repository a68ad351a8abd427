"""
Explains what rules decide about a crash: which of them match, and with what chance each result follows.

The functions here are pure. C{collectord throttle} and the admin page show what they return.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Literal

from attrs import frozen

from collectord.model import COLLECTOR_NAMES, Annotations, RawCrash, metadata_of
from collectord.throttle import NO_MATCH, Result, Rule, Verdict

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


def judge(rules: Sequence[Rule], annotations: Annotations, today: date, known: Verdict | None = None) -> Judgement:
    """
    Work out what C{rules} may decide about a crash with these annotations.

    @param known: what was decided when the crash was received, if that is known. It tells something about the random
        number of that time: a crash that was in a sample of 10 % is surely in one of 20 %, and in one of 5 % with a
        chance of one half.
    """
    steps = []
    chances = []
    left = 1.0
    for rule in rules:
        step = _try(rule, annotations, today)
        steps.append(step)
        if step.said == "raises":
            chances.append(Chance(result=Result.ACCEPT, rule=BROKEN_RULE, share=left))
            left = 0.0
        elif step.said == "matches":
            going_on = 0.0
            for verdict, share in _branches(rule, known):
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
