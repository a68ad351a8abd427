"""
Work that several wait for: done once for all of them, or not cancelled with one who waits.
"""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from collectord.concurrency.timeouts import as_coroutine

T = TypeVar("T")


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
            Deferred.fromCoroutine(as_coroutine(self._work())).addBoth(self._notify)
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
