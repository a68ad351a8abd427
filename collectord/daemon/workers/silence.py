"""
The watch over silent workers: a worker that has sent nothing for too long hangs, and is killed after a while.
"""

from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from collectord.daemon.workers.process import WorkerProcess

TICK_S = 0.5
HUNG_S = 5.0
"""Seconds of silence after which a worker counts as hung. It should send a message each second."""
START_S = 30.0
"""The same for a worker that is starting: it may have to import code and rules from a slow disk."""


class SilenceWatch:
    """
    Looks at the workers twice a second, and kills those that have been hung for too long.

    Only time in which this process itself was running counts as silence. After the machine has been suspended, or this
    process has been held up, the messages that came before have to be read first. So one look adds a second at most,
    however late it is, and the reactor reads all that has come between two looks.

    @param workers: returns the workers that there are now.
    @param timeout: returns the seconds of silence after which a worker is killed.
    @param changed: called when a worker has begun or ceased to hang.
    """

    _log = Logger()

    def __init__(
        self,
        workers: Callable[[], Sequence[WorkerProcess]],
        timeout: Callable[[], float],
        changed: Callable[[], None],
        clock: IReactorTime,
    ) -> None:
        self._workers = workers
        self._timeout = timeout
        self._changed = changed
        self._clock = clock
        self._last = 0.0
        self._unserved_s: float | None = None  # None until the first worker has answered.
        self._grace_until: float | None = None
        self._loop = LoopingCall(self._check_all)
        self._loop.clock = clock

    @property
    def is_hopeless(self) -> bool:
        """Whether no worker that takes submissions has answered for twice the time after which a hung one is killed."""
        return self._unserved_s is not None and self._unserved_s > 2 * self._timeout()

    def start(self) -> None:
        """Begin to look."""
        self._last = self._clock.seconds()
        self._loop.start(TICK_S, now=False)

    def hurry(self, seconds: float) -> None:
        """
        Be stricter, since the workers are stopping: one that is starting gets no extra time, and after C{seconds} one
        that hangs is killed at once.
        """
        self._grace_until = self._clock.seconds() + seconds

    def stop(self) -> None:
        """Stop looking. Calling it twice does no harm."""
        if self._loop.running:
            self._loop.stop()

    def _check_all(self) -> None:
        now = self._clock.seconds()
        passed = min(now - self._last, 2 * TICK_S)
        self._last = now
        workers = list(self._workers())
        if sum([self._check(worker, passed) for worker in workers]):
            self._changed()
        if any(worker.answers and worker.work.receives for worker in workers):
            self._unserved_s = 0.0
        elif self._unserved_s is not None:
            self._unserved_s += passed

    def _check(self, worker: WorkerProcess, passed: float) -> bool:
        """Add C{passed} seconds of silence to C{worker}; return whether it has begun or ceased to hang."""
        before = worker.is_hung
        worker.silent_s += passed
        hung_s, kill_s = self._limits(worker)
        worker.is_hung = worker.silent_s >= hung_s
        if worker.is_hung and not before:
            self._log_error("{worker} (pid {pid}) hangs: nothing was heard of it for {silent:.0f} s", worker)
        if before and not worker.is_hung:
            self._log.info("{worker} (pid {pid}) answers again", worker=worker.name, pid=worker.pid)
        if worker.is_hung and worker.silent_s >= kill_s and not worker.is_killed:
            self._log_error("{worker} (pid {pid}) is killed: nothing was heard of it for {silent:.0f} s", worker)
            worker.kill()
        return worker.is_hung is not before

    def _log_error(self, text: str, worker: WorkerProcess) -> None:
        self._log.error(text, worker=worker.name, pid=worker.pid, silent=worker.silent_s)

    def _limits(self, worker: WorkerProcess) -> tuple[float, float]:
        """Return the seconds of silence after which C{worker} counts as hung, and after which it is killed."""
        timeout = self._timeout()
        hung_s = min(HUNG_S, timeout)
        if self._grace_until is not None:
            return hung_s, hung_s if self._clock.seconds() >= self._grace_until else timeout
        if worker.is_heard:
            return hung_s, timeout
        return START_S, max(2 * START_S, timeout)
