"""
How late the reactor is: the time by which calls that are due have to wait for others.
"""

from twisted.internet.interfaces import IDelayedCall, IReactorTime

_EVERY_S = 0.05
_WEIGHT = 0.2
"""The weight of one measurement in the average; so it is over about the last quarter of a second."""


class Lateness:
    """
    Measures how late the reactor is, for as long as it runs.

    @ivar seconds: the average delay of the last quarter of a second.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._due = 0.0
        self._next: IDelayedCall | None = None
        self.seconds = 0.0

    def start(self) -> None:
        """Begin to measure."""
        self._due = self._clock.seconds() + _EVERY_S
        self._next = self._clock.callLater(_EVERY_S, self._measure)

    def stop(self) -> None:
        """Measure no more."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _measure(self) -> None:
        late = max(0.0, self._clock.seconds() - self._due)
        self.seconds += _WEIGHT * (late - self.seconds)
        self.start()
