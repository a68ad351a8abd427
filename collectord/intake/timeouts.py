"""
How long a connection may take, and what a connection and its site ask of each other.
"""

from __future__ import annotations

from typing import Protocol

from attrs import define, frozen

from collectord.intake.request import RequestSite
from collectord.intake.states import State
from collectord.intake.turns import Turns

_LAST_CHANCE_S = 0.5
"""While the process stops: a client that has sent nothing for so long has probably not begun a request."""


@frozen(kw_only=True)
class ConnectionLimits:
    """
    How long a connection may take, and how much it may send after an early answer.

    @ivar idle: seconds without a byte; also the longest that the headers may take.
    @ivar keep_alive: seconds between an answer and the first byte of the next request, unless other clients wait. A
        proxy that sends a request when the connection is just being closed can't know whether it may repeat it. So
        this should be longer than proxies keep a connection that they don't use.
    @ivar min_rate: bytes per second of a body, over a window of C{idle} seconds; 0 turns it off.
    @ivar free: seconds at the beginning of a body in which its rate does not count, unless other clients wait.
    @ivar linger: seconds that the client may take to fetch an answer after which the connection is closed.
    @ivar linger_bytes: that the client may still send after an early answer.
    """

    idle: float
    keep_alive: float
    min_rate: int = 0
    free: float = 60.0
    linger: float = 10.0
    linger_bytes: int = 64 * 1024 * 1024


@define
class Progress:
    """
    What one connection has received, and when. All times are in seconds by the clock of the site.

    @ivar since: when the window began in which bytes are counted.
    @ivar received: bytes in that window.
    @ivar last_byte: when the last bytes came; C{since} where none came in the window.
    @ivar body_began: when the headers of the last request were complete.
    @ivar has_served: whether the connection has brought a request already.
    @ivar is_held: nothing is read because the client does not read its answers.
    """

    since: float
    last_byte: float
    body_began: float = 0.0
    received: int = 0
    has_served: bool = False
    is_held: bool = False

    def begin_body(self) -> None:
        """Note that the headers of a request are complete."""
        self.body_began = self.since
        self.has_served = True

    def restart(self, now: float) -> None:
        """Begin a new window, as if the client had just sent something."""
        self.received = 0
        self.since = self.last_byte = now

    def forgive(self, seconds: float) -> None:
        """Take time off in which this process read nothing."""
        self.since += seconds
        self.last_byte += seconds
        self.body_began += seconds

    def is_overdue(self, state: State, now: float, site: ConnectionSite) -> bool:
        """
        Whether the connection has been in C{state} for too long, or receives a body too slowly.

        There is no limit for the making of an answer: that is up to the stores.
        """
        limits = site.limits
        if state is State.WAITING:
            return now - self.since > self._longest_wait(limits, site)
        if state is State.RECEIVING:
            return now - self.last_byte > limits.idle or self._is_too_slow(now, limits, site.is_full)
        if state in (State.LINGERING, State.CLOSING):
            return now - self.since > limits.linger
        return state is State.TIMED_OUT

    def _longest_wait(self, limits: ConnectionLimits, site: ConnectionSite) -> float:
        if site.ending:
            return min(limits.idle, _LAST_CHANCE_S)
        if self.has_served and not self.received and not self.is_held:  # it is between two requests
            return min(limits.idle, limits.keep_alive) if site.is_full else limits.keep_alive
        return limits.idle

    def _is_too_slow(self, now: float, limits: ConnectionLimits, others_wait: bool) -> bool:
        # A body is judged when a window of limits.idle seconds is over. While other clients wait, no seconds are free.
        elapsed = now - self.since
        if not limits.min_rate or elapsed < limits.idle:
            return False
        judged_from = self.body_began if others_wait else self.body_began + limits.free
        if self.since >= judged_from and self.received < limits.min_rate * elapsed:
            return True
        if now >= judged_from:  # the next window begins
            self.received = 0
            self.since = now
        return False


class TimedConnection(Protocol):
    """What a site asks of one connection."""

    @property
    def state(self) -> State:
        """What it is doing."""

    def is_overdue(self, now: float) -> bool:
        """Whether the connection takes too long, judged by what has been read of it so far."""

    def end(self) -> None:
        """End the connection, since it is overdue."""

    def forgive(self, seconds: float) -> None:
        """Take time off in which this process read nothing."""

    def abort(self) -> None:
        """Cut the connection off at once."""


class ConnectionSite(RequestSite, Protocol):
    """What a connection asks of its site."""

    @property
    def limits(self) -> ConnectionLimits:
        """How long a connection may take, now: a reload changes it."""

    @property
    def turns(self) -> Turns:
        """How the connections share the reactor's time."""

    @property
    def is_full(self) -> bool:
        """Whether other clients may be waiting for a connection."""

    @property
    def is_last_answer(self) -> bool:
        """Whether the answer that is being sent is the last one of its connection."""

    @property
    def ending(self) -> bool:
        """Whether the process stops: a connection ends with the request that it has begun."""

    def connected(self, connection: TimedConnection) -> None:
        """A client has connected."""

    def disconnected(self, connection: TimedConnection) -> None:
        """A client has gone."""
