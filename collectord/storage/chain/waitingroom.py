"""
How long a crash waits while no store takes it, or a duplicate for the same report that is being saved; and how many may
wait at the same time.

A client gives up some time after it has begun to send. So the wait is counted from there, however long the sending
took.
"""

from collections.abc import Callable

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from collectord.concurrency.backoff import backoff_delay
from collectord.errors import AllStoresFailed
from collectord.storage.chain.breaker import TRIES

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0
_LATE_S = 10.0
"""A crash that has waited for so many seconds is likely to be refused."""
_REFUSING_S = 10.0
"""After some crashes in a row that were late or refused, the chain counts as refusing for so many seconds."""
_OVERHEAD = 16 * 1024
"""Bytes that a crash which waits takes besides its dumps, roughly: its annotations, its request, its connection."""


@define(eq=False)
class Waiter:
    """
    One crash, or one piece of a dump, for as long as it is tried in the stores.

    @ivar began: when its client began to send it, in seconds by the clock of the chain.
    @ivar size: returns the bytes of dumps that it holds in memory.
    """

    began: float
    size: Callable[[], int]
    taken: int = field(default=0, init=False)  # what is counted of these bytes
    rounds: int = field(default=0, init=False)
    failing_since: float | None = field(default=None, init=False)
    is_late: bool = field(default=False, init=False)


@define(eq=False)
class WaitingRoom:
    """
    Crashes wait here while no store takes them, and these are the rules. It is used on the reactor thread only.

    @ivar seconds: so long after its client began to send it, a crash waits no longer.
    @ivar limit: bytes that the crashes which wait may take in memory. Beyond it no others may wait.
    """

    _clock: IReactorTime
    seconds: float
    limit: int
    _taken: int = field(default=0, init=False)
    _pauses: set[IDelayedCall] = field(factory=set, init=False)
    _ended: bool = field(default=False, init=False)
    _late: int = field(default=0, init=False)  # how many in a row
    _late_at: float = field(default=0.0, init=False)

    @property
    def refuses(self) -> bool:
        """Whether several crashes in a row were refused lately, or are likely to be."""
        return self._late >= TRIES and self._clock.seconds() - self._late_at <= _REFUSING_S

    async def wait(self, waiter: Waiter) -> None:
        """
        Wait a little before C{waiter} is tried in all stores again.

        @raise AllStoresFailed: it has waited long enough, or may not wait.
        """
        now = self._clock.seconds()
        if waiter.failing_since is None:
            waiter.failing_since = now
        why = self._refusal(waiter, now)
        if why or now - waiter.failing_since >= _LATE_S:
            self._late += not waiter.is_late
            self._late_at = now
            waiter.is_late = True
        if why:
            raise AllStoresFailed(why)
        waiter.rounds += 1
        pause = backoff_delay(waiter.rounds, first=_FIRST_PAUSE_S, longest=_LONGEST_PAUSE_S)
        await self._sleep(min(pause, waiter.began + self.seconds - now))

    async def pause(self, waiter: Waiter, seconds: float) -> bool:
        """
        Wait for something else than a store, for so many seconds at most.

        @return: False, and at once, if C{waiter} has waited long enough, or may not wait.
        """
        now = self._clock.seconds()
        if self._refusal(waiter, now):
            return False
        await self._sleep(min(seconds, waiter.began + self.seconds - now))
        return True

    def _refusal(self, waiter: Waiter, now: float) -> str:
        """Say why C{waiter} may not wait now; if it may, count its memory and return nothing."""
        if self._ended or now >= waiter.began + self.seconds:
            return "every store failed"
        if not waiter.taken:
            size = _OVERHEAD + waiter.size()
            if self._taken + size > self.limit and self._taken:  # one may always wait
                return "every store failed, and other crashes that wait take all the memory for that"
            waiter.taken = size
            self._taken += size
        return ""

    async def _sleep(self, seconds: float) -> None:
        over: Deferred[None] = Deferred(lambda over: pause.cancel())
        pause = self._clock.callLater(seconds, over.callback, None)
        self._pauses.add(pause)
        try:
            await over
        finally:
            self._pauses.remove(pause)

    def leave(self, waiter: Waiter) -> None:
        """Note that C{waiter} is not tried any more. This has to be called for every waiter."""
        self._taken -= waiter.taken

    def succeeded(self) -> None:
        """Note that a store has taken something."""
        self._late = 0

    def end(self) -> None:
        """Let nothing wait from now on, since the process stops. What waits is tried once more, now."""
        self._ended = True
        for pause in self._pauses:
            pause.reset(0)
