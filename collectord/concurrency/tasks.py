"""
Coroutines that run in the background, and several that run at the same time.
"""

from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, FirstError, ensureDeferred, gatherResults
from twisted.logger import Logger

T = TypeVar("T")


def spawn(work: Coroutine[Any, Any, object], log: Logger, message: str, **fields: Any) -> Deferred[None]:
    """
    Begin C{work} now and let it run in the background; if it fails, log C{message} with the failure.

    To be called on the reactor thread.

    @param fields: for the log line.

    @return: fires once the work has ended. It never fails, so it may be dropped, awaited, or returned from a
        C{LoopingCall}, which an error would end.
    """
    done: Deferred[Any] = Deferred.fromCoroutine(work)
    return done.addCallbacks(lambda _: None, lambda failure: log.failure(message, failure, **fields))


async def gather(works: Iterable[Deferred[T] | Coroutine[Any, Any, T]]) -> list[T]:
    """
    Run all of C{works} at the same time, and return their results in the order of the works.

    To be called on the reactor thread. Cancelling it cancels all of them. The first error is raised at once; the other
    works go on, and their results and errors are ignored.
    """
    try:
        return await gatherResults([ensureDeferred(work) for work in works], consumeErrors=True)
    except FirstError as e:
        failure = e.subFailure
    return failure.raiseException()
