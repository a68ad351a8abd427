"""
How often something happens a second, by how often it has happened so far.
"""

from collections import deque

_OVER = 10
"""Between the first and the last count of so many the rate is the mean."""


class RecentRate:
    """A recent rate is the mean over the last few counts."""

    def __init__(self) -> None:
        self._counts: deque[tuple[float, float]] = deque(maxlen=_OVER + 1)

    def note(self, at: float, total: float) -> None:
        """
        Take a count.

        @param at: in seconds by any clock.
        @param total: how often it has happened so far.
        """
        self._counts.append((at, total))

    @property
    def per_s(self) -> float | None:
        """How often it happens a second; None: that is not known yet."""
        (since, before), (until, total) = (self._counts[0], self._counts[-1]) if self._counts else ((0, 0), (0, 0))
        return max(0.0, total - before) / (until - since) if until > since else None
