"""
How many crashes are moved at the same time: as many as the machine has time for, and in the long run no fewer than come
in.
"""

import math
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

STEP_S = 0.25
"""Seconds from one change of the pace to the next."""
_LONG_S = 5.0
"""What came in is averaged over about so many seconds. So in a burst of less, clients come first."""
_SHORT_S = 1.0
"""What was moved is averaged over about so many seconds."""
_AHEAD = 1.1
"""Under pressure, so many crashes are moved for each that comes in: then what has waited for longer goes down, too."""


class Rate:
    """
    The rate at which something has happened lately, in times per second.

    @param seconds: about how long an event counts.
    """

    def __init__(self, seconds: float, clock: IReactorTime) -> None:
        self._seconds = seconds
        self._clock = clock
        self._value = 0.0
        self._at = clock.seconds()

    def count(self, times: int = 1) -> None:
        """Note that it has happened, so many times."""
        self._value = self.now() + times / self._seconds

    def now(self) -> float:
        """Return the rate at this moment."""
        now = self._clock.seconds()
        self._value *= math.exp((self._at - now) / self._seconds)
        self._at = now
        return self._value


class Pace:
    """
    The pace of the moves out of one store.

    @param most: crashes that may be moved at the same time at all.
    @param is_pressed: tells whether those who take crashes in need the machine at this moment.
    """

    def __init__(self, most: int, is_pressed: Callable[[], bool], clock: IReactorTime) -> None:
        self._most = most
        self._is_pressed = is_pressed
        self._clock = clock
        self._came, self._went = Rate(_LONG_S, clock), Rate(_SHORT_S, clock)
        self._width = most
        self._rests = False
        self._stepped = clock.seconds()

    def came(self, count: int = 1) -> None:
        """Note that the store has got so many crashes."""
        self._came.count(count)

    def went(self) -> None:
        """Note that a crash has left the store."""
        self._went.count()

    def width(self) -> int:
        """Return how many crashes may be moved at the same time now: one at least."""
        if self._clock.seconds() - self._stepped >= STEP_S:
            self._stepped = self._clock.seconds()
            self._step()
        return self._width

    def rest_after(self, seconds: float) -> float:
        """Return for how long nothing is to be moved after one move that took C{seconds}."""
        return min(seconds, 1.0) if self._rests and self._width == 1 else 0.0

    def _step(self) -> None:
        if not self._is_pressed():
            self._rests = False
            self._width = min(self._most, 2 * self._width)
        elif self._went.now() < _AHEAD * self._came.now():
            self._rests = False
            self._width = min(self._most, self._width + 1)
        else:
            self._rests = self._width == 1
            self._width = max(1, self._width // 2)
