"""
Remembers how often each fingerprint was seen in the last ten minutes, in slots of five seconds.

It is in memory only, for the file of the index counts no less than five minutes.
"""

from collections import deque
from collections.abc import Sequence

from collectord.index.intake import SLOTS
from collectord.index.tally import Tally
from collectord.index.values import SeenKept, TrendSlot

_SLOTS, STEP_S = SLOTS["10min"]
_TALLY_S = 5
"""A tally tells of so many seconds before it is taken."""
_MOST = 100_000
"""Fingerprints in all tallies that are remembered; with more, the oldest tallies are forgotten."""

_Counts = dict[str, SeenKept]


class RecentTrends:
    """
    Remembers tallies of the last ten minutes. None of it blocks.

    @param since: when it begins to count, in seconds since the epoch.
    """

    def __init__(self, since: float) -> None:
        self._since = since
        self._tallies: deque[tuple[float, _Counts]] = deque()
        self._size = 0

    def note(self, now: float, tally: Tally) -> None:
        """Take what one process has seen in the last five seconds."""
        counts: _Counts = {}
        for fingerprint, _, _, seen, kept in tally[0]:
            if fingerprint:
                counts[fingerprint] = counts.get(fingerprint, SeenKept()) + SeenKept(seen, kept)
        self._tallies.append((now, counts))
        self._size += len(counts)
        while self._tallies[0][0] < now - _SLOTS * STEP_S - _TALLY_S:
            self._forget()
        while self._size > _MOST and len(self._tallies) > 1:
            self._since = self._forget()

    def _forget(self) -> float:
        at, counts = self._tallies.popleft()
        self._size -= len(counts)
        return at

    def trend(self, now: float, fingerprint: str) -> Sequence[TrendSlot]:
        """Return how often a fingerprint was seen, oldest first; the last slot is the present one."""
        first = int(now // STEP_S) - _SLOTS + 1
        counts = [SeenKept()] * _SLOTS
        for at, tally in self._tallies:
            found = tally.get(fingerprint)
            if found is not None:
                slot = int((at - _TALLY_S) // STEP_S) - first
                # It is divided among the two slots in which these seconds are.
                early = 1 - (at % STEP_S) / STEP_S
                before = SeenKept(round(found.seen * early), round(found.kept * early))
                after = SeenKept(found.seen - before.seen, found.kept - before.kept)
                for number, part in ((slot, before), (slot + 1, after)):
                    if 0 <= number < _SLOTS:
                        counts[number] += part
        known = int(self._since // STEP_S) - first
        return [
            TrendSlot(at=float((first + number) * STEP_S), counts=count if number >= known else None)
            for number, count in enumerate(counts)
        ]
