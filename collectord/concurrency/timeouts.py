"""
How long something may take, and waiting together for what is done once for all.
"""

from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from collectord.errors import StoreTimeout

T = TypeVar("T")


def use_monotonic_clock(reactor: Any) -> None:
    """Let C{reactor} go by a clock that nobody sets back: each limit and pause would last as much longer."""
    reactor.seconds = monotonic


async def with_timeout(work: Awaitable[T], seconds: float, clock: IReactorTime, who: str) -> T:
    """
    C{work} of C{who}, in its time.

    @raise StoreTimeout: it was cancelled.
    """

    def too_long(result: T | Failure, seconds: float) -> T:
        if isinstance(result, Failure):
            raise StoreTimeout(f"{who}: nothing for {seconds:g} s")
        return result  # it was done at the last moment

    return await Deferred.fromCoroutine(_coroutine(work)).addTimeout(seconds, clock, too_long)


async def _coroutine(work: Awaitable[T]) -> T:
    return await work


class SingleFlight(Generic[T]):
    """
    Work that is done once for all who ask for it meanwhile. Cancelling ends one's waiting, not the work.

    They are told in a loop: a lock that is handed on from one to the next recurses, and ends after a hundred.
    """

    def __init__(self, work: Callable[[], Awaitable[T]]) -> None:
        self._work = work
        self._busy = False
        self._waiters: dict[Deferred[T], None] = {}

    def __call__(self) -> Deferred[T]:
        waiter: Deferred[T] = Deferred(lambda waiter: self._waiters.pop(waiter, None))
        self._waiters[waiter] = None
        if not self._busy:
            self._busy = True
            Deferred.fromCoroutine(_coroutine(self._work())).addBoth(self._notify)
        return waiter

    def _notify(self, result: T | Failure) -> None:
        self._busy = False
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters:
            if not waiter.called:  # one may have cancelled another
                waiter.callback(result)


def shielded(work: Deferred[T]) -> Deferred[T]:
    """Cancelling what this returns does not cancel C{work}."""
    shield: Deferred[T] = Deferred()
    work.addCallbacks(shield.callback, shield.errback)
    return shield
