"""
What is known of the crashes of a day, and what has become of them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, Literal

from attrs import evolve, field, frozen

from collectord.audit.locations import Places
from collectord.observe.journal.lines import Line, seconds_of

Fate = Literal["waiting", "stays", "quarantined", "moved", "arrived", "gone", "unaccounted"]

FATES: Final[Mapping[Fate, str]] = {
    "waiting": "in a store, waits to be moved",
    "stays": "in a store, for good",
    "quarantined": "in a quarantine",
    "moved": "confirmed by where it was moved to, and removed from its store",
    "arrived": "no line says that it was moved, but it is at a destination",
    "gone": "moved or quarantined, and no more in its store: removed by hand, or a line is missing",
    "unaccounted": "kept, and nobody knows where it is",
}

_FLUSHED_S = 1.0
"""The lines of the last moment before a stop were not written yet, let alone safe."""
_NOWHERE: frozenset[str] = frozenset()


@frozen(kw_only=True, eq=False)
class Known:
    """
    What is known of a crash: a million of them share a few of these.

    The first six are what the journal says, by stores and outlets; the others are where it lies now.
    """

    kept: frozenset[str] = _NOWHERE
    moved: frozenset[str] = _NOWHERE
    published: frozenset[str] = _NOWHERE
    removed: frozenset[str] = _NOWHERE
    quarantined: frozenset[str] = _NOWHERE
    rule: str = ""
    waits_in: frozenset[str] = _NOWHERE
    stays_in: frozenset[str] = _NOWHERE
    unlinked_in: frozenset[str] = _NOWHERE
    aside_in: frozenset[str] = _NOWHERE
    arrived_at: frozenset[str] = _NOWHERE


NOTHING = Known()


@lru_cache(maxsize=65536)
def known_with(known: Known, kind: str, where: str, rule: str = "") -> Known:
    """C{known}, and one thing more. @param kind: the name of one of its sets."""
    return evolve(known, **{kind: getattr(known, kind) | {where}, "rule": rule or known.rule})


@lru_cache(maxsize=65536)
def fate_of(known: Known, stores: frozenset[str]) -> Fate:
    """@param stores: their roots."""
    if known.aside_in:
        return "quarantined"
    if known.waits_in:
        return "waiting"
    if known.stays_in or known.unlinked_in:
        return "stays"
    away = known.moved - stores  # to another store means that it is kept there
    if known.removed and (away or known.kept | known.moved <= known.removed):
        return "moved"
    if away or known.quarantined:
        return "gone"
    return "arrived" if known.arrived_at else "unaccounted"


def is_unlinked(known: Known, stores: frozenset[str]) -> bool:
    """Whether it lies in a store, no link says that it is new, and no line says that it was moved."""
    seen = known.aside_in | known.waits_in | known.stays_in
    return bool(known.unlinked_in) and not seen and not known.moved - stores


@frozen(kw_only=True)
class Unclean:
    """A process that ended without a stop. Its lines are safe up to C{after}; until C{before} somebody else started."""

    process: str
    after: str
    before: str

    def may_explain(self, line: Line) -> bool:
        """Whether lines that should follow C{line} may have been lost with it."""
        return seconds_of(self.after) - _FLUSHED_S <= line.at and line.time <= self.before


@frozen(kw_only=True)
class Audit:
    """
    @ivar crashes: what is known of each, by its id.
    @ivar lines: of those that are C{unaccounted}, C{gone} or have C{arrived}; of the first 10,000.
    @ivar dangling: ids of links that lead to no crash, in no quarantine either.
    @ivar there: crashes of the day at each destination that is a file system; None: it can't be looked at.
    @ivar damaged: lines of the journal that can't be read.
    @ivar lost: lines that were never written.
    """

    day: str
    places: Places
    crashes: Mapping[str, Known] = field(repr=False)
    lines: Mapping[str, Sequence[Line]] = field(repr=False)
    dangling: Sequence[str]
    there: Mapping[str, int | None]
    damaged: int
    lost: int
    unclean: Sequence[Unclean]

    def fate(self, crash_id: str) -> Fate:
        """Of one crash."""
        return fate_of(self.crashes[crash_id], frozenset(self.places.stores))

    def of_fate(self, *fates: Fate) -> list[str]:
        """The ids of those crashes, sorted."""
        return sorted(crash_id for crash_id in self.crashes if self.fate(crash_id) in fates)

    def unlinked(self) -> list[str]:
        """The ids of crashes that nothing would move, though nobody says that they were moved; sorted."""
        stores = frozenset(self.places.stores)
        return sorted(crash_id for crash_id, known in self.crashes.items() if is_unlinked(known, stores))

    def fates(self) -> Mapping[Fate, int]:
        """How many have each."""
        counts: Counter[Fate] = Counter()
        for known, count in Counter(self.crashes.values()).items():
            counts[fate_of(known, frozenset(self.places.stores))] += count
        return {fate: counts[fate] for fate in FATES}

    def by_place(self, kind: str) -> Mapping[str, int]:
        """How many were C{kept}, C{moved}, C{published} and so on, by the places."""
        counts: Counter[str] = Counter()
        for known, count in Counter(self.crashes.values()).items():
            for where in getattr(known, kind):
                counts[where] += count
        return dict(sorted(counts.items()))

    def explained(self, crash_id: str) -> Unclean | None:
        """The unclean stop that may have lost lines of a crash."""
        last = max(self.lines.get(crash_id, ()), default=None)
        return next((unclean for unclean in self.unclean if last is not None and unclean.may_explain(last)), None)
