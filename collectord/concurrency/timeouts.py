"""
How long something may take.
"""

from collections.abc import Awaitable
from time import monotonic
from typing import Any, TypeVar

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

    return await Deferred.fromCoroutine(as_coroutine(work)).addTimeout(seconds, clock, too_long)


async def as_coroutine(work: Awaitable[T]) -> T:
    """C{work} as a coroutine, whatever else it is."""
    return await work
