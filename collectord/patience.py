"""
How long something may take.
"""

from collections.abc import Awaitable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from collectord.errors import TookTooLong

T = TypeVar("T")


async def within(work: Awaitable[T], seconds: float, clock: IReactorTime, who: str) -> T:
    """
    C{work} of C{who}, in its time.

    @raise TookTooLong: it was cancelled.
    """

    def too_long(result: T | Failure, seconds: float) -> T:
        if isinstance(result, Failure):
            raise TookTooLong(f"{who}: nothing for {seconds:g} s")
        return result  # it was done at the last moment

    return await Deferred.fromCoroutine(_coroutine(work)).addTimeout(seconds, clock, too_long)


async def _coroutine(work: Awaitable[T]) -> T:
    return await work
