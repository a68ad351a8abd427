"""
What became of each crash of a day, by what the journal says of it and where it lies now.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, Literal

from attrs import evolve, field, frozen

from collectord.audit.locations import CrashLocations
from collectord.observe.journal.lines import Line, seconds_of

Fate = Literal["waiting", "stays", "quarantined", "moved", "expired", "erased", "arrived", "gone", "unaccounted"]

FATES: Final[Mapping[Fate, str]] = {
    "waiting": "in a store, waits to be moved",
    "stays": "in a store, for good",
    "quarantined": "in a quarantine",
    "moved": "confirmed by where it was moved to, and removed from its store",
    "expired": "removed from its store for good: by keep_days or keep_bytes, or by hand",
    "erased": "erased wherever it was",
    "arrived": "no line says that it was moved, but it is at a destination",
    "gone": "moved or quarantined, and no more in its store: removed by hand, or a line is missing",
    "unaccounted": "kept, and nobody knows where it is",
}
"""What can become of a crash, and what that means."""

_FLUSHED_S = 1.0
"""Lines of so many seconds before a process ended may be lost: they were not written yet."""
_OR = " or "
"""What is between the names of the destinations in a fallback, any of which may have a crash that was moved there."""
_NOWHERE: frozenset[str] = frozenset()


@frozen(kw_only=True, eq=False)
class Traces:
    """
    The traces are all that is known of one crash. Of a million crashes, most share a few of these values.

    The first seven say what the journal has: in which stores, destinations and publishers that happened to the crash.

    @ivar rule: the throttle rule by which it was kept.
    @ivar waits_in: the stores where it lies and is new.
    @ivar stays_in: the stores where it lies and is new, but out of which nothing is moved.
    @ivar unlinked_in: the stores where it lies and is not new.
    @ivar quarantined_in: the stores where it lies in the quarantine. C{quarantined} has the stores that put it there,
        by the journal; since then it may have been released.
    @ivar arrived_at: the destinations where it lies.
    """

    kept: frozenset[str] = _NOWHERE
    moved: frozenset[str] = _NOWHERE
    published: frozenset[str] = _NOWHERE
    removed: frozenset[str] = _NOWHERE
    quarantined: frozenset[str] = _NOWHERE
    expired: frozenset[str] = _NOWHERE
    erased: frozenset[str] = _NOWHERE
    rule: str = ""
    waits_in: frozenset[str] = _NOWHERE
    stays_in: frozenset[str] = _NOWHERE
    unlinked_in: frozenset[str] = _NOWHERE
    quarantined_in: frozenset[str] = _NOWHERE
    arrived_at: frozenset[str] = _NOWHERE


NOTHING = Traces()


@lru_cache(maxsize=65536)
def with_trace(traces: Traces, kind: str, where: str, rule: str = "") -> Traces:
    """
    Return C{traces} with one more. A C{duplicate} leaves none: it only says that the crash was acknowledged again.

    @param kind: the name of one of the sets: a kind of line in the journal, or how a crash lies where it was found.
    @param where: what is added to that set.
    """
    if kind == "duplicate":
        return traces
    return evolve(traces, **{kind: getattr(traces, kind) | {where}, "rule": rule or traces.rule})


@lru_cache(maxsize=65536)
def fate_of(traces: Traces, stores: frozenset[str]) -> Fate:
    """
    Say what became of a crash. L{FATES} has the meaning of each answer.

    @param stores: the roots of all stores.
    """
    if traces.quarantined_in:
        return "quarantined"
    if traces.waits_in:
        return "waiting"
    if traces.stays_in or traces.unlinked_in:
        return "stays"
    # A crash that was moved to another store is kept there.
    away = {where for where in traces.moved - stores if traces.erased.isdisjoint(where.split(_OR))}
    if away and (traces.removed or traces.expired or traces.erased):
        return "moved"
    if traces.erased:
        return "erased"
    if traces.expired:
        return "expired"
    if traces.removed and traces.kept | traces.moved <= traces.removed:
        return "moved"
    if away or traces.quarantined:
        return "gone"
    return "arrived" if traces.arrived_at else "unaccounted"


def is_unlinked(traces: Traces, stores: frozenset[str]) -> bool:
    """Tell whether a crash lies in a store, no link says that it is new, and no line says that it was moved."""
    elsewhere = traces.quarantined_in | traces.waits_in | traces.stays_in
    return bool(traces.unlinked_in) and not elsewhere and not traces.moved - stores


@frozen(kw_only=True)
class UncleanStop:
    """
    A process that was not stopped, but crashed or was killed.

    @ivar process: its name in the journal.
    @ivar after: the time up to which its lines are safe.
    @ivar before: the time when the next process noticed it. If none has, it is "now", which sorts after all times.
    """

    process: str
    after: str
    before: str

    def may_explain(self, line: Line) -> bool:
        """Tell whether lines that should follow C{line} may have been lost with this process."""
        return seconds_of(self.after) - _FLUSHED_S <= line.at and line.time <= self.before


@frozen(kw_only=True)
class Audit:
    """
    An audit is what was found out about the crashes of one day.

    @ivar day: C{yyyymmdd}.
    @ivar locations: where it looked.
    @ivar crashes: what is known of each crash, by its id.
    @ivar lines: the lines of the journal about the crashes that are C{unaccounted} or C{gone} or have C{arrived}, by
        their ids; of at most 10,000 crashes.
    @ivar dangling: the ids of links that lead to no crash, not even to one in a quarantine.
    @ivar at_destinations: how many of these crashes each destination has that is a file system, by its root; None: it
        is not there, or a different store is mounted there.
    @ivar damaged: how many lines of the journal can't be read.
    @ivar lost: how many lines were never written.
    @ivar unclean_stops: the processes that may have lost lines.
    """

    day: str
    locations: CrashLocations
    crashes: Mapping[str, Traces] = field(repr=False)
    lines: Mapping[str, Sequence[Line]] = field(repr=False)
    dangling: Sequence[str]
    at_destinations: Mapping[str, int | None]
    damaged: int
    lost: int
    unclean_stops: Sequence[UncleanStop]

    def fate(self, crash_id: str) -> Fate:
        """Say what became of one crash."""
        return fate_of(self.crashes[crash_id], frozenset(self.locations.stores))

    def of_fate(self, *fates: Fate) -> list[str]:
        """Return the ids of the crashes that had one of these fates, sorted."""
        return sorted(crash_id for crash_id in self.crashes if self.fate(crash_id) in fates)

    def unlinked(self) -> list[str]:
        """Return the ids of the crashes that lost their link: nobody moved them, and nobody will; sorted."""
        stores = frozenset(self.locations.stores)
        return sorted(crash_id for crash_id, traces in self.crashes.items() if is_unlinked(traces, stores))

    def fates(self) -> Mapping[Fate, int]:
        """Count the crashes that had each fate."""
        counts: Counter[Fate] = Counter()
        for traces, count in Counter(self.crashes.values()).items():
            counts[fate_of(traces, frozenset(self.locations.stores))] += count
        return {fate: counts[fate] for fate in FATES}

    def by_location(self, kind: str) -> Mapping[str, int]:
        """Count the crashes that were C{kept}, C{moved}, C{published} and so on, by where that was."""
        counts: Counter[str] = Counter()
        for traces, count in Counter(self.crashes.values()).items():
            for where in getattr(traces, kind):
                counts[where] += count
        return dict(sorted(counts.items()))

    def unclean_stop_of(self, crash_id: str) -> UncleanStop | None:
        """Return the unclean stop that may have lost lines about a crash; None: there was none."""
        lines = (line for line in self.lines.get(crash_id, ()) if line.kind != "duplicate")
        last = max(lines, default=None)
        return next((unclean for unclean in self.unclean_stops if last is not None and unclean.may_explain(last)), None)
