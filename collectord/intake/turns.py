"""
Sharing the reactor's time: what one connection has still to do when its share is used up waits for its next turn.

Without this a few kilobytes, which unpack to megabytes or hold thousands of requests, would hold up everybody else.
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from collectord.intake.budget import Pausable

_SHARE_S = 0.005
"""Of one connection."""

_TURN_S = 0.01
"""Of all connections that wait for their turns, until the reactor looks at its sockets again."""


class Connection(Pausable, Protocol):
    """A connection that can be paused, and that shares the reactor's time with others."""

    def rest(self, go_on: Callable[[], None]) -> bool:
        """
        Whether its share of the time is used up.

        @param go_on: is called when its next turn comes, if so.
        """


class Turns:
    """The turns of all connections of one site, in order."""

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: deque[Callable[[], None]] = deque()
        self._called = False
        self._share_ends = 0.0

    def begin(self, now: float) -> None:
        """A connection has something to do: its share begins."""
        self._share_ends = now + _SHARE_S

    def is_over(self) -> bool:
        """Whether the connection that began last has used its share up."""
        return self._clock.seconds() > self._share_ends

    def wait(self, work: Callable[[], None]) -> None:
        """Do C{work} when its turn comes."""
        self._waiting.append(work)
        self._call()

    def _call(self) -> None:
        if self._waiting and not self._called:
            self._called = True
            self._clock.callLater(0, self._take_turns)

    def _take_turns(self) -> None:
        ends = self._clock.seconds() + _TURN_S
        for _ in range(len(self._waiting)):  # who waits again meanwhile has its next turn after all others
            now = self._clock.seconds()
            if now > ends:
                break
            self.begin(now)
            try:
                self._waiting.popleft()()
            except Exception:
                self._log.failure("what a connection had still to do failed")
        self._called = False
        self._call()
