"""
Work that several wait for: done once for all of them, or not cancelled with one who waits.
"""

from collections.abc import Awaitable, Callable, Sequence
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


class Batches(Generic[T]):
    """
    Work that is done for several items together: those that come while it runs are the next batch.

    @param work: does it for a batch, and returns what is wrong with each item; None: nothing.
    """

    def __init__(self, work: Callable[[Sequence[T]], Awaitable[Sequence[Exception | None]]]) -> None:
        self._work = work
        self._waiting: list[tuple[T, Deferred[None]]] = []
        self._busy = False

    def __call__(self, item: T) -> Deferred[None]:
        """
        Do the work for C{item}, soon.

        @return: fires when it is done. Cancelling ends the waiting, not the work.
        """
        done: Deferred[None] = Deferred()
        self._waiting.append((item, done))
        if not self._busy:
            self._begin()
        return done

    def _begin(self) -> None:
        self._busy = True
        batch, self._waiting = self._waiting, []
        work = Deferred.fromCoroutine(as_coroutine(self._work([item for item, _ in batch])))
        work.addBoth(self._notify, [done for _, done in batch])

    def _notify(self, result: Sequence[Exception | None] | Failure, waiters: Sequence[Deferred[None]]) -> None:
        errors = [result] * len(waiters) if isinstance(result, Failure) else result
        self._busy = False
        if self._waiting:
            self._begin()
        for waiter, error in zip(waiters, errors, strict=True):
            if waiter.called:  # it was cancelled
                continue
            if error is None:
                waiter.callback(None)
            else:
                waiter.errback(error)


def shielded(work: Deferred[T]) -> Deferred[T]:
    """Cancelling what this returns does not cancel C{work}."""
    shield: Deferred[T] = Deferred()
    work.addCallbacks(shield.callback, shield.errback)
    return shield
