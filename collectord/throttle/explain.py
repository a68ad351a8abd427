"""
What rules would say of a crash: step by step, and with all that chance may choose. Pure.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Literal

from attrs import frozen

from collectord.model import COLLECTOR_NAMES, Annotations, RawCrash, metadata_of
from collectord.throttle import NO_MATCH, Result, Rule, Verdict

BROKEN_RULE = "BROKEN_RULE"
"""The rule name of a crash that is kept because a rule of the operator's raised."""


@frozen(kw_only=True)
class Step:
    """
    A rule that was tried.

    @ivar said: whether it matched, or that it raised.
    @ivar error: what it raised.
    """

    rule: Rule
    said: Literal["matches", "does not match", "raises"]
    error: str = ""


@frozen(kw_only=True)
class Chance:
    """A verdict, and how likely it is, from 0 to 1: less than 1 only where there are samples."""

    result: Result
    rule: str
    share: float


@frozen(kw_only=True)
class Judgement:
    """
    @ivar steps: the rules that may be reached, in order.
    @ivar chances: they add up to 1.
    """

    steps: Sequence[Step]
    chances: Sequence[Chance]


def judge(rules: Sequence[Rule], annotations: Annotations, today: date, known: Verdict | None = None) -> Judgement:
    """
    @param known: what was decided when the crash came. The chance of that rule's sample is then known in part: a crash
        that was among 10 % is surely among 20 %, and is among 5 % half of the time.
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
    except Exception as e:  # of the operator's own module; the collector then keeps the crash
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
    """The annotations as the rules saw them, without those that are not kept; what is no text is its JSON."""
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in raw_crash.items()
        if name not in COLLECTOR_NAMES
    }


def verdict_in(raw_crash: RawCrash) -> Verdict:
    """What was decided when the crash came; only what is kept is there, so it is accept or defer."""
    rule = metadata_of(raw_crash).get("throttle_rule")
    percent = raw_crash.get("throttle_rate")
    return Verdict(
        Result.DEFER if raw_crash.get("legacy_processing") == 1 else Result.ACCEPT,
        rule if isinstance(rule, str) else "unknown",
        percent if isinstance(percent, int | float) else 100,
    )
