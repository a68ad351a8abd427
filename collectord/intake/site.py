"""
The factory of connections: it counts them, accepts no more while there are too many, and ends those that are too slow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.web.resource import IResource
from twisted.web.server import Site

from collectord.concurrency.timeouts import with_timeout
from collectord.errors import TimedOut
from collectord.intake.channel import StreamingChannel
from collectord.intake.request import BodyFor, StreamingRequest
from collectord.intake.states import State
from collectord.intake.timeouts import ConnectionLimits, TimedConnection
from collectord.intake.turns import Turns

_DRAIN_SWEEP_S = 0.1


class PausablePort(Protocol):
    """A listening port that can be told to accept no connections for a while."""

    def stopReading(self) -> None:
        """Accept no more connections. New clients wait in the kernel's accept queue."""

    def startReading(self) -> None:
        """Accept connections again."""


class StreamingSite(Site):
    """
    The public port's factory of connections, which limits how many there are and how long each may take.

    All of it is for the reactor thread.

    @param resource: answers the requests.
    @param body_for: finds what takes the body of a request.
    @param limits: how long a connection may take. It may be replaced at any time, and so may C{max_connections}.
    @param max_connections: while there are so many, new clients wait in the kernel's accept queue.
    @param clock: tells the time, and calls back.
    @ivar draining: each answer ends its connection, so that a load balancer sends the next request to another host.
    """

    noisy = False
    displayTracebacks = False
    _log = Logger()

    def __init__(
        self,
        resource: IResource,
        body_for: BodyFor,
        *,
        limits: ConnectionLimits,
        max_connections: int,
        clock: IReactorTime,
    ) -> None:
        super().__init__(
            resource, requestFactory=StreamingRequest, parsePOSTFormSubmission=False, timeout=None, reactor=clock
        )
        self.body_for = body_for
        self.limits = limits
        self.now: Callable[[], float] = clock.seconds
        self.max_connections = max_connections
        self.turns = Turns(clock)
        self._channels: set[TimedConnection] = set()
        self._overdue: set[TimedConnection] = set()  # were overdue in the sweep, and are looked at once more
        self._ports: list[PausablePort] = []
        self._opened = False
        self._shut = False
        self._drained: Deferred[None] | None = None
        self.draining = False
        self._sweep = LoopingCall(self._sweep_all)
        self._sweep.clock = clock
        self._interval = self._swept = 0.0
        self._clock = clock

    def protocol(self) -> StreamingChannel:  # type: ignore[override]
        """Plain HTTP/1 without Twisted's wrapper for HTTP/2, which no crash reporter speaks."""
        return StreamingChannel()

    def startFactory(self) -> None:
        """Begin to look for connections that take too long. Twisted calls this when the first port opens."""
        if not self._sweep.running:
            self._sweep_every(1.0)

    def _sweep_every(self, seconds: float) -> None:
        self._stop_sweep()
        self._interval = max(0.05, min(seconds, self.limits.idle / 4, self.limits.keep_alive / 4))
        self._swept = self.now()
        self._sweep.start(self._interval, now=False)

    def stopFactory(self) -> None:
        """Stop looking. Twisted calls this when the last port is closed, so the ports are forgotten."""
        self._ports.clear()
        self._stop_sweep()

    def _stop_sweep(self) -> None:
        if self._sweep.running:
            self._sweep.stop()

    def log(self, request: object) -> None:
        """Write no access log: what happens to a crash has a log line of its own."""

    def guard(self, port: PausablePort) -> None:
        """Let C{port} accept nothing until L{open} is called, and later while there are too many connections."""
        self._ports.append(port)
        if not self._opened:
            port.stopReading()

    def open(self) -> None:
        """Accept connections. Until then clients wait in the kernel's accept queue."""
        self._opened = True
        for port in self._ports:
            port.startReading()

    def connected(self, channel: TimedConnection) -> None:
        """A client has connected."""
        self._channels.add(channel)
        if len(self._channels) >= self.max_connections and not self._shut:
            self._shut = True
            self._log.warn("open connections: {count}; new ones wait until one ends", count=len(self._channels))
            for port in self._ports:
                port.stopReading()

    def disconnected(self, channel: TimedConnection) -> None:
        """A client has gone."""
        self._channels.discard(channel)
        if self._shut:
            self._shut = False
            for port in self._ports:
                port.startReading()
        if self._drained is not None and not self._channels and not self._drained.called:
            self._drained.callback(None)

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._channels)

    @property
    def is_full(self) -> bool:
        """Whether other clients may be waiting for a connection."""
        return self._shut

    @property
    def receiving(self) -> int:
        """How many connections are receiving the body of a request."""
        return sum(channel.state is State.RECEIVING for channel in self._channels)

    @property
    def ending(self) -> bool:
        """Whether the process stops: a connection ends with the request that it has begun."""
        return self._drained is not None

    @property
    def is_last_answer(self) -> bool:
        """Whether the answer that is being sent is the last one of its connection."""
        return self.draining or self._drained is not None

    async def drain(self, seconds: float) -> None:
        """
        Wait until every request that has begun is answered. The ports must be closed by now.

        @param seconds: how long to wait. Connections that are still there then are cut off without an answer.
        """
        self._drained = Deferred()
        if self._channels:
            self._sweep_every(_DRAIN_SWEEP_S)
            try:
                await with_timeout(self._drained, seconds, self._clock, "stop")
            except TimedOut:
                await self._cut_off()
        self._stop_sweep()

    async def _cut_off(self) -> None:
        self._log.warn("the process stops; connections cut off: {count}", count=len(self._channels))
        self._drained = Deferred()
        for channel in list(self._channels):
            channel.abort()
        await self._drained

    def _sweep_all(self) -> None:
        now = self.now()
        late = now - self._swept - self._interval
        self._swept = now
        if late > self._interval:  # the process stood still and read nothing, which is no client's fault
            for channel in self._channels:
                channel.forgive(late)
        overdue = [c for c in self._channels if self._is_overdue(c, now) and c not in self._overdue]
        if overdue:
            self._overdue.update(overdue)
            # What they have sent may still wait in the kernel. The reactor reads from all sockets before it calls this.
            self._clock.callLater(0, self._look_again, overdue)

    def _look_again(self, overdue: Sequence[TimedConnection]) -> None:
        for channel in overdue:  # a turn each, since there may be thousands
            self.turns.wait(partial(self._end, channel))

    def _end(self, channel: TimedConnection) -> None:
        self._overdue.discard(channel)
        if channel in self._channels and self._is_overdue(channel, self.now()):
            channel.end()

    def _is_overdue(self, channel: TimedConnection, now: float) -> bool:
        try:
            return channel.is_overdue(now)
        except Exception:
            self._log.failure("it can't be told whether a connection takes too long")
            return False
