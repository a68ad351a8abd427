"""
The only way to threads: blocking work goes in, a Deferred comes out.

The threads are daemon threads: one that hangs on a dead mount does not keep the process from ending.
"""

import errno
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred, execute, fail
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


def start_thread(run: Callable[[], object], name: str) -> Thread:
    """
    Start a daemon thread.

    @raise OSError: the system allows no more threads now.
    """
    thread = Thread(target=run, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as e:
        raise OSError(errno.EAGAIN, str(e)) from e
    return thread


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
        self._results: deque[tuple[Deferred[Any], Any]] = deque()
        self._will_deliver = False

    def do(self, work: Callable[[], None]) -> None:
        """
        Run C{work}, which must not raise, on one of the threads.

        @raise OSError: there is no thread, and none can be started now.
        """
        if self._started < self._count:
            try:
                start_thread(self._run, f"{self._name}-{self._started + 1}")
                self._started += 1
            except OSError:
                if not self._started:
                    raise
        self._queue.put(work)

    def __call__(self, work: Callable[[], T], /) -> Deferred[T]:
        done: Deferred[T] = Deferred()

        def perform() -> None:
            try:
                result: T | Failure = work()
            except BaseException:
                result = Failure()
            self._results.append((done, result))
            if not self._will_deliver:
                self._will_deliver = True
                self._call_from_thread(self._deliver)

        try:
            self.do(perform)
        except OSError:
            return fail()
        return done

    def _deliver(self) -> None:
        """
        Give the results to those who wait. Those of several threads wake the reactor once, which takes some time.

        What comes meanwhile waits for the next turn, since whoever gets a result may ask for more work at once: threads
        that are as fast as that would never let the reactor go on.
        """
        self._will_deliver = False  # from here on another result wakes it again
        for _ in range(len(self._results)):
            done, result = self._results.popleft()
            done.callback(result)

    def close(self) -> None:
        """End the threads once they have done all work that was given to them. It does not wait for that."""
        for _ in range(self._started):
            self._queue.put(None)
        self._started = 0

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            work()
