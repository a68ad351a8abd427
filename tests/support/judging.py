"""
A judge that says what a test tells it.
"""

from collections.abc import Awaitable, Callable

from collectord.judge import Judged
from collectord.model import Annotations
from collectord.throttle.counts import RateCounts, ReportId
from collectord.throttle.rules import Verdict
from collectord.throttle.traits import Traits


def judging(
    verdict_on: Callable[[Annotations], Verdict],
) -> Callable[[Annotations, Traits, ReportId | None], Awaitable[Judged]]:
    """Make a judge that counts nothing."""

    async def judge(annotations: Annotations, traits: Traits, report_id: ReportId | None) -> Judged:
        return Judged(verdict_on(annotations), RateCounts(lambda: 0.0).tally(traits, report_id))

    return judge
