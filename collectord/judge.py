"""
The judge applies the throttle rules to one report at a time.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from random import Random

from attrs import frozen
from twisted.logger import Logger

from collectord.concurrency.threadpool import ThreadRunner, at_once
from collectord.metrics import RATED, series
from collectord.model import Annotations
from collectord.throttle.combine import ANY_KEY, Always
from collectord.throttle.counts import RateCounts, ReportId, Tally
from collectord.throttle.effort import Effort
from collectord.throttle.results import Result
from collectord.throttle.rules import Rule, Verdict, decide, throttle
from collectord.throttle.traits import Traits

_log = Logger()
_BROKEN = Rule("BROKEN_RULE", ANY_KEY, Always(), Result.ACCEPT)

_AT_ONCE = 2_000_000
"""Steps that the rules may take on the reactor thread: 15 ms at worst. Above it they are applied on a thread."""


@frozen
class Judged:
    """
    Judged is a report on which there is a verdict.

    @ivar tally: how rules with a rate have counted it. It is to be told if the crash can't be saved.
    """

    verdict: Verdict
    tally: Tally


class Judge:
    """
    Applies rules to reports. It is for the reactor thread.

    @param counts: counts reports, for the rules that have a rate.
    @param roll: returns a random number in [0, 100).
    @param today: returns the day, in UTC.
    @param in_thread: looks which rules match, if that may take long.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        counts: RateCounts,
        roll: Callable[[], float],
        today: Callable[[], date],
        in_thread: ThreadRunner = at_once,
    ) -> None:
        self._rules = rules
        self._counts = counts
        self._roll = roll
        self._today = today
        self._in_thread = in_thread
        self._effort = Effort.of(rules)

    async def judge(self, annotations: Annotations, traits: Traits, report_id: ReportId | None) -> Judged:
        """
        Judge a report. If a rule that is written in Python fails, the report is accepted.

        @param report_id: the same for a report that comes again; None: it would not be recognized.
        """
        tally = self._counts.tally(traits, report_id)
        today = self._today()
        if self._effort.over(annotations) > _AT_ONCE:
            matching = await self._in_thread(lambda: self._matching(annotations, today))
            verdict = decide(matching, annotations, self._roll, tally.count)
        else:
            verdict = self._throttle(annotations, today, tally)
        for rule, is_below in tally.added:
            series(RATED, rule, "below" if is_below else "above").inc()
        if verdict.result not in (Result.ACCEPT, Result.DEFER):
            tally.rejected()
        return Judged(verdict, tally)

    def _throttle(self, annotations: Annotations, today: date, tally: Tally) -> Verdict:
        try:
            return throttle(self._rules, annotations, self._roll, today, tally.count)
        except Exception:
            _log.failure("a throttle rule failed: the crash is kept")
            return _BROKEN.below

    def _matching(self, annotations: Annotations, today: date) -> Sequence[Rule]:
        """List the rules that match, so that nothing is left to do that takes long. This is run on a thread."""
        try:
            return [rule for rule in self._rules if rule.matches(annotations, today)]
        except Exception:
            _log.failure("a throttle rule failed: the crash is kept")
            return [_BROKEN]


def new_judge(rules: Sequence[Rule], counts: RateCounts, in_thread: ThreadRunner) -> Judge:
    """Make a judge that draws samples at random, and takes the day from the clock."""
    chance = Random()  # noqa: S311  (it draws samples, not secrets)
    return Judge(rules, counts, lambda: chance.random() * 100, lambda: datetime.now(UTC).date(), in_thread)
