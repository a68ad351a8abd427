"""
Remembers what was counted in each of the last 24 hours, also after a restart: answers, decisions of rules, deliveries,
and how many crashes waited.
"""

import json
from collections.abc import Mapping, Sequence

from attrs import define, field, frozen

HOURS = 24
_HOUR_S = 3600
_LONGEST_S = 60.0
"""Between counts that are further apart the machine stood still, or the clock was set."""

Series = tuple[str, ...]
"""What is counted: its kind, and the labels that tell it from others of this kind."""


@frozen(kw_only=True)
class CountedNow:
    """
    What all processes together have counted, and what they show at the moment.

    @ivar counters: since the daemon started; they never fall.
    @ivar gauges: at the moment.
    """

    counters: Mapping[Series, float]
    gauges: Mapping[Series, float]


@frozen(kw_only=True)
class DayCounts:
    """
    What was counted in the last 24 hours. Hours begin at full hours of UTC, and the present one is the last.

    @ivar seconds: for how long the daemon has counted in these.
    @ivar counts: how much.
    @ivar hourly: the most that each gauge showed in each hour; None: not known.
    """

    seconds: float = 0.0
    counts: Mapping[Series, float] = field(factory=dict, repr=False)
    hourly: Mapping[Series, Sequence[float | None]] = field(factory=dict, repr=False)

    def of(self, *kind: str) -> Mapping[Series, float]:
        """Return the counts of the series that begin so, by the rest of their labels."""
        return {series[len(kind) :]: count for series, count in self.counts.items() if series[: len(kind)] == kind}


@define
class _Hour:
    seconds: float = 0.0
    counts: dict[Series, float] = field(factory=dict)
    most: dict[Series, float] = field(factory=dict)


class DayRecorder:
    """Adds up what is counted, by hours. None of it blocks."""

    def __init__(self) -> None:
        self._hours: dict[int, _Hour] = {}
        self._last: tuple[float, Mapping[Series, float]] | None = None

    def note(self, now: float, counted: CountedNow) -> None:
        """
        Take what was counted since the daemon started; call this every few seconds.

        @param now: in seconds since the epoch.
        """
        number = int(now // _HOUR_S)
        hour = self._hours.setdefault(number, _Hour())
        if self._last is not None:
            at, before = self._last
            hour.seconds += min(max(0.0, now - at), _LONGEST_S)
            for series, amount in counted.counters.items():
                if (came := amount - before.get(series, 0.0)) > 0:
                    hour.counts[series] = hour.counts.get(series, 0.0) + came
        for series, shown in counted.gauges.items():
            hour.most[series] = max(shown, hour.most.get(series, shown))
        self._last = (now, counted.counters)
        for old in [old for old in self._hours if not number - HOURS < old <= number]:
            del self._hours[old]

    def day(self, now: float) -> DayCounts:
        """Return what was counted in the 24 hours of which the one that has C{now} is the last."""
        last = int(now // _HOUR_S)
        hours = [self._hours.get(number) for number in range(last - HOURS + 1, last + 1)]
        counts: dict[Series, float] = {}
        for hour in hours:
            for series, amount in (hour.counts if hour else {}).items():
                counts[series] = counts.get(series, 0.0) + amount
        shown = {series for hour in hours if hour for series in hour.most}
        return DayCounts(
            seconds=sum(hour.seconds for hour in hours if hour),
            counts=counts,
            hourly={series: [hour.most.get(series) if hour else None for hour in hours] for series in shown},
        )

    def to_json(self) -> str:
        """Return all that is remembered, to be written to a file."""
        hours = [
            [number, round(hour.seconds, 3), _listed(hour.counts), _listed(hour.most)]
            for number, hour in self._hours.items()
        ]
        return json.dumps(hours)

    def read_json(self, text: str) -> None:
        """
        Remember what L{to_json} has returned, in another process.

        @raise ValueError: it can't be read, and nothing is remembered.
        """
        try:
            self._hours = {
                int(number): _Hour(float(seconds), _read(counts), _read(most))
                for number, seconds, counts, most in json.loads(text)
            }
        except TypeError as e:
            raise ValueError(str(e)) from e


def _listed(amounts: Mapping[Series, float]) -> Sequence[Sequence[object]]:
    return [[list(series), amount] for series, amount in amounts.items()]


def _read(rows: Sequence[tuple[Sequence[str], float]]) -> dict[Series, float]:
    return {tuple(map(str, series)): float(amount) for series, amount in rows}
