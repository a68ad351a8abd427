"""
Judges stored crashes one after the other, as if they were received once more, for C{collectord throttle replay}.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from collectord.crashid import day_of
from collectord.model import RawCrash
from collectord.storage.filesystem.finder import FoundCrash
from collectord.throttle import Rule, Verdict
from collectord.throttle.counts import RateCounts
from collectord.throttle.explain import Judgement, annotations_in, judge, kept_after, traits_in
from collectord.throttle.results import Result


class Replay:
    """Applies rules to crashes, which are counted for rules with a rate when they came, as one process would."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self._now = 0.0
        self._counts = RateCounts(lambda: self._now)
        self._counts.use(rules)

    @property
    def counts_reports(self) -> bool:
        """Whether a rule has a rate, so that the order of the crashes matters."""
        return any(rule.rate is not None for rule in self._rules)

    def judge(self, crash_id: str, raw_crash: RawCrash, old: Verdict) -> Judgement:
        """
        Judge one crash.

        @param old: what was decided when it was received.
        """
        annotations = annotations_in(raw_crash)
        self._now = _time_of(crash_id, raw_crash)
        tally = self._counts.tally(traits_in(raw_crash, annotations, address=crash_id))
        judgement = judge(self._rules, annotations, day_of(crash_id), old, tally.count)
        for ticket in tally.tickets:
            if ticket.took and ticket.verdict.result is Result.CONTINUE:
                ticket.counts.take_back(ticket.group, 0, ticket.took - kept_after(judgement, ticket.verdict.rule))
        return judgement


def in_order(crashes: Iterable[FoundCrash]) -> Iterator[FoundCrash]:
    """Yield crashes in the order in which they came. All of them are read once before the first is given."""
    times = []
    for crash in crashes:
        try:
            raw_crash: RawCrash = crash.read()
        except (OSError, ValueError):
            raw_crash = {}
        times.append((_time_of(crash.crash_id, raw_crash), crash.crash_id, crash))
    times.sort(key=lambda each: each[:2])
    for _, _, crash in times:
        yield crash


def _time_of(crash_id: str, raw_crash: RawCrash) -> float:
    day = day_of(crash_id)
    try:
        came = datetime.fromisoformat(str(raw_crash.get("submitted_timestamp")))
    except ValueError:
        came = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return (came if came.tzinfo is not None else came.replace(tzinfo=UTC)).timestamp()
