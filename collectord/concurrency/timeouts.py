"""
Limits of time, and the clock that they go by.
"""

from collections.abc import Awaitable
from time import monotonic
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from collectord.errors import TimedOut

T = TypeVar("T")


def use_monotonic_clock(reactor: Any) -> None:
    """
    Make C{reactor} use a clock that is never set back.

    Twisted's own clock follows the system time. When that is set back, every time limit would last as much longer.
    """
    reactor.seconds = monotonic


async def with_timeout(work: Awaitable[T], seconds: float, clock: IReactorTime, who: str) -> T:
    """
    Wait for C{work}, but no longer than C{seconds}; then cancel it.

    To be called on the reactor thread.

    @param who: does the work; for the text of the error.
    @raise TimedOut: the work was cancelled.
    """

    def too_long(result: T | Failure, seconds: float) -> T:
        if isinstance(result, Failure):
            raise TimedOut(f"{who}: nothing for {seconds:g} s")
        return result  # it was done at the last moment, in spite of being cancelled

    deferred = work if isinstance(work, Deferred) else Deferred.fromCoroutine(as_coroutine(work))
    return await deferred.addTimeout(seconds, clock, too_long)


async def as_coroutine(work: Awaitable[T]) -> T:
    """C{work} as a coroutine, whatever else it is."""
    return await work
