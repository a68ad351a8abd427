"""
Shares the reactor's time between connections: one that has used up its share waits for its next turn.

A few kilobytes can inflate to megabytes, or hold thousands of requests. Without turns, one such client would hold up
all others.
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from collectord.intake.budget import Pausable

_SHARE_S = 0.005
"""How long one connection may work in one turn."""

_TURN_S = 0.01
"""How long all waiting connections may work before the reactor looks at its sockets again."""


class Connection(Pausable, Protocol):
    """A connection that can be paused, and that shares the reactor's time with others."""

    def rest(self, go_on: Callable[[], None]) -> bool:
        """
        Whether the connection has used up its share of the reactor's time.

        @param go_on: if so, is called when its next turn comes.
        """


class Turns:
    """The queue of a site's connections that wait for their next turn. All of it is for the reactor thread."""

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: deque[Callable[[], None]] = deque()
        self._called = False
        self._share_ends = 0.0

    def begin(self, now: float) -> None:
        """Begin the share of a connection that has something to do."""
        self._share_ends = now + _SHARE_S

    def is_over(self) -> bool:
        """Whether the connection that began last has used up its share."""
        return self._clock.seconds() > self._share_ends

    def wait(self, work: Callable[[], None]) -> None:
        """Call C{work} when its turn comes."""
        self._waiting.append(work)
        self._call()

    def _call(self) -> None:
        if self._waiting and not self._called:
            self._called = True
            self._clock.callLater(0, self._take_turns)

    def _take_turns(self) -> None:
        ends = self._clock.seconds() + _TURN_S
        for _ in range(len(self._waiting)):  # a connection that waits again meanwhile comes after all others
            now = self._clock.seconds()
            if now > ends:
                break
            self.begin(now)
            try:
                self._waiting.popleft()()
            except Exception:
                self._log.failure("the rest of the work of a connection failed")
        self._called = False
        self._call()
