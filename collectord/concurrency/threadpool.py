"""
The only way to threads: blocking work goes in, a Deferred comes out.

The threads are daemon threads: one that hangs on a dead mount does not keep the process from ending.
"""

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred, execute
from twisted.python.failure import Failure

T = TypeVar("T")

CallFromThread = Callable[..., Any]
"""C{reactor.callFromThread}"""


class ThreadRunner(Protocol):
    """Runs blocking work on a thread."""

    def __call__(self, work: Callable[[], T], /) -> Deferred[T]:
        """
        Run C{work} on another thread. To be called on the reactor thread.

        @return: fires on the reactor thread with the result or the error. Cancelling ends the waiting, not the work.
        """


def at_once(work: Callable[[], T], /) -> Deferred[T]:
    """Run C{work} here and now: a L{ThreadRunner} without a thread, for work that does not block."""
    return execute(work)


class ThreadPool:
    """
    A pool of threads, which is a L{ThreadRunner}. Its methods are for the reactor thread.

    @param name: of the threads, which get a number each.
    @param count: the most threads that it starts; they are started as they are needed.
    @param call_from_thread: calls a function on the reactor thread.
    """

    def __init__(self, name: str, count: int, call_from_thread: CallFromThread) -> None:
        self._name = name
        self._count = count
        self._call_from_thread = call_from_thread
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()  # None ends a thread
        self._started = 0

    def do(self, work: Callable[[], None]) -> None:
        """Run C{work}, which must not raise, on one of the threads."""
        self._queue.put(work)
        if self._started < self._count:
            self._started += 1
            Thread(target=self._run, name=f"{self._name}-{self._started}", daemon=True).start()

    def __call__(self, work: Callable[[], T], /) -> Deferred[T]:
        done: Deferred[T] = Deferred()

        def perform() -> None:
            try:
                result: T | Failure = work()
            except BaseException:
                result = Failure()
            self._call_from_thread(done.callback, result)

        self.do(perform)
        return done

    def close(self) -> None:
        """End the threads once they have done all work that was given to them. It does not wait for that."""
        for _ in range(self._started):
            self._queue.put(None)
        self._started = 0

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            work()
