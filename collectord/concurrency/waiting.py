"""
A limit of time for blocking work, for threads that have other things to do than to hang with it.
"""

import errno
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from collectord.concurrency.threadpool import start_thread

T = TypeVar("T")


class LimitedWait:
    """
    Waits for blocking work, but no longer than a limit. Any thread may call it, but for that of the reactor.

    Nothing can end work that hangs. So it stays behind on a thread of its own, and while it does, further work fails at
    once instead of hanging as well.

    @param seconds: the limit.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._hung: Future[Any] | None = None

    def __call__(self, work: Callable[[], T], what: str) -> T:
        """
        Return what C{work} returns, or raise what it raises.

        @param what: the file that it is about, for the error.

        @raise TimeoutError: the work did not end within the limit and may still go on, or earlier work still hangs.
        @raise OSError: the system allows no more threads now.
        """
        if self._hung is None or self._hung.done():
            done: Future[T] = Future()
            start_thread(lambda: _perform(work, done), "limited wait")
            wait([done], self._seconds)
            if done.done():
                return done.result()
            self._hung = done
        raise TimeoutError(errno.ETIMEDOUT, f"nothing for {self._seconds:g} s", what)


def _perform(work: Callable[[], T], done: Future[T]) -> None:
    try:
        done.set_result(work())
    except BaseException as e:
        done.set_exception(e)
