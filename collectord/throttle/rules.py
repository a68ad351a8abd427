"""
Rules, and the function that tries them in order to decide what becomes of a report.
"""

import re
from collections.abc import Callable, Iterable
from datetime import date
from typing import TypeAlias

from attrs import field, frozen
from attrs.validators import instance_of

from collectord.errors import ConfigError
from collectord.model import Annotations
from collectord.throttle.combine import Condition, Test, bind
from collectord.throttle.rate import RateSample
from collectord.throttle.results import Result


@frozen
class Verdict:
    """
    A verdict is the result for one report, and the rule that decided.

    @ivar rule: the name of the rule.
    @ivar percent: the percentage of the rule's sample; 100 if it has no sample. By a rule with a rate, one of every
        1000 has 0.1.
    """

    result: Result
    rule: str
    percent: float


NO_MATCH = Verdict(Result.REJECT, "NO_MATCH", 0)
"""The verdict on a report that no rule matches."""


@frozen
class Sample:
    """A sample decides by chance: C{below} for C{percent} of the reports, and C{above} for the others."""

    percent: float = field()
    below: Result = field(validator=instance_of(Result))
    above: Result = field(validator=instance_of(Result))

    @percent.validator
    def _check(self, _attribute: object, percent: object) -> None:
        if isinstance(percent, bool) or not isinstance(percent, int | float) or not 0 <= percent <= 100:
            raise ConfigError(f"percent must be a number from 0 to 100, not {percent!r}")


Outcome: TypeAlias = Result | Sample | RateSample

_CONTINUE = Result.CONTINUE  # looking it up in its enum would take longer than most rules

_NAME = re.compile(r"[A-Za-z0-9_]+")


@frozen
class Rule:
    """
    A rule is a condition, and what becomes of the reports that match it.

    C{Rule("firefox", "ProductName", Equals("Firefox"), Sample(10, Result.ACCEPT, Result.REJECT))}

    @ivar key: the name of the annotation that C{condition} is about, or C{*} for the whole report.
    @ivar matches: tells whether annotations match on the given day.
    @ivar percent: the percentage of the sample, or None if the outcome does not depend on chance.
    @ivar rate: the rate, or None if the outcome does not depend on how many reports have come.
    @ivar below: the verdict if there is no sample, or if the random number is below C{percent}; and for the first
        reports of a rate.
    @ivar later: the verdict for one of many reports after the first ones of a rate.
    @ivar above: the verdict otherwise.

    @raise ConfigError: the name, the key or the condition can't be used.
    """

    name: str = field()
    key: str = field()
    condition: Condition
    outcome: Outcome = field()
    matches: Test = field(init=False, eq=False, repr=False)
    percent: float | None = field(init=False, eq=False, repr=False)
    rate: RateSample | None = field(init=False, eq=False, repr=False)
    below: Verdict = field(init=False, eq=False, repr=False)
    later: Verdict = field(init=False, eq=False, repr=False)
    above: Verdict = field(init=False, eq=False, repr=False)

    @name.validator
    def _check_name(self, _attribute: object, name: object) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigError(f"the name of a rule is made of A-Z, a-z, 0-9 and _; {name!r} is not")

    @key.validator
    def _check_key(self, _attribute: object, key: object) -> None:
        if not isinstance(key, str) or not key:
            raise ConfigError(f'the key of a rule is the name of an annotation, or "*"; not {key!r}')

    @outcome.validator
    def _check_outcome(self, _attribute: object, outcome: object) -> None:
        if not isinstance(outcome, Result | Sample | RateSample):
            raise ConfigError(f"the outcome of a rule is a Result, a Sample or a RateSample, not {outcome!r}")

    @matches.default
    def _bind(self) -> Test:
        return bind(self.key, self.condition)

    @percent.default
    def _sampled(self) -> float | None:
        return self.outcome.percent if isinstance(self.outcome, Sample) else None

    @rate.default
    def _rated(self) -> RateSample | None:
        return self.outcome if isinstance(self.outcome, RateSample) else None

    @below.default
    def _verdict_below(self) -> Verdict:
        outcome = self.outcome
        if isinstance(outcome, Sample):
            return Verdict(outcome.below, self.name, outcome.percent)
        return Verdict(outcome.below if isinstance(outcome, RateSample) else outcome, self.name, 100)

    @later.default
    def _verdict_later(self) -> Verdict:
        every = self.rate.every if self.rate is not None else None
        return self.below if every is None else Verdict(self.below.result, self.name, 100 / every)

    @above.default
    def _verdict_above(self) -> Verdict:
        outcome = self.outcome
        if isinstance(outcome, Sample):
            return Verdict(outcome.above, self.name, outcome.percent)
        return Verdict(outcome.above, self.name, 100) if isinstance(outcome, RateSample) else self.below


Counted: TypeAlias = Callable[[Rule, Annotations], Verdict | None]
"""
Counts the report that is being judged, for a rule with a rate that matches it; returns the rule's verdict on it. None:
the report lacks what the rule counts by, so the rule does not match after all.
"""


def _uncounted(rule: Rule, annotations: Annotations) -> Verdict:
    return rule.below


def throttle(
    rules: Iterable[Rule],
    annotations: Annotations,
    roll: Callable[[], float],
    today: date,
    counted: Counted = _uncounted,
) -> Verdict:
    """
    Judge a report: return the verdict of the first rule that matches it and does not say CONTINUE.

    @param roll: returns a random number in [0, 100). It is called anew for every sample, so that a sample of 10 % that
        continues to a sample of 10 % leaves 1 %.
    @param counted: counts it for each rule with a rate. Without this, each report is the first of its group.
    """
    return decide((rule for rule in rules if rule.matches(annotations, today)), annotations, roll, counted)


def decide(
    matching: Iterable[Rule], annotations: Annotations, roll: Callable[[], float], counted: Counted = _uncounted
) -> Verdict:
    """Judge a report as L{throttle}, once it is known which rules are C{matching}."""
    for rule in matching:
        verdict: Verdict | None
        if rule.rate is not None:
            verdict = counted(rule, annotations)
        else:
            verdict = rule.below if rule.percent is None or roll() < rule.percent else rule.above
        if verdict is not None and verdict.result is not _CONTINUE:
            return verdict
    return NO_MATCH


def check_names(rules: Iterable[Rule]) -> None:
    """
    Check that each rule has a name of its own.

    @raise ConfigError: two rules have the same name.
    """
    seen: set[str] = set()
    for rule in rules:
        if rule.name in seen:
            raise ConfigError(f"rule {rule.name!r}: another rule has this name; give each its own")
        seen.add(rule.name)
