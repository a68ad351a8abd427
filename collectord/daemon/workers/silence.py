"""
Which workers hang: those that have been silent for too long.
"""

from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from collectord.daemon.workers.process import WorkerProcess

TICK_S = 0.5
HUNG_S = 5.0
"""So long silent, while it should tell something each second."""
START_S = 30.0
"""For a start: to import the code, and rules that lie on a slow disk."""


class SilenceWatch:
    """
    Looks at the workers twice a second, and kills those that hang for too long.

    Only time in which this process ran counts: after the machine has stood still, what they told before has to be read
    first. So each look adds little, however late it is, and between two of them all that has come is read.

    @param workers: those of now.
    @param timeout: seconds until a worker that hangs is killed.
    @param changed: is called when others hang than before.
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
        self._unserved_s: float | None = None  # nobody expects an answer before the first worker has started
        self._grace_until: float | None = None
        self._loop = LoopingCall(self._check_all)
        self._loop.clock = clock

    @property
    def is_hopeless(self) -> bool:
        """No worker answers, and none has for twice the time in which another should have taken its place."""
        return self._unserved_s is not None and self._unserved_s > 2 * self._timeout()

    def start(self) -> None:
        """Look from now on."""
        self._last = self._clock.seconds()
        self._loop.start(TICK_S, now=False)

    def hurry(self, seconds: float) -> None:
        """It is a stop: from now on even who only starts is to be heard, and after C{seconds} who hangs is killed."""
        self._grace_until = self._clock.seconds() + seconds

    def stop(self) -> None:
        """Look no more."""
        if self._loop.running:
            self._loop.stop()

    def _check_all(self) -> None:
        now = self._clock.seconds()
        passed = min(now - self._last, 2 * TICK_S)
        self._last = now
        workers = list(self._workers())
        if sum([self._check(worker, passed) for worker in workers]):
            self._changed()
        if any(worker.answers for worker in workers):
            self._unserved_s = 0.0
        elif self._unserved_s is not None:
            self._unserved_s += passed

    def _check(self, worker: WorkerProcess, passed: float) -> bool:
        """Whether it hangs, and did not before, or the other way round."""
        before = worker.is_hung
        worker.silent_s += passed
        hung_s, kill_s = self._limits(worker)
        worker.is_hung = worker.silent_s >= hung_s
        if worker.is_hung and not before:
            self._log_error("worker {pid} hangs: nothing of it for {silent:.0f} s", worker)
        if before and not worker.is_hung:
            self._log.info("worker {pid} answers again", pid=worker.pid)
        if worker.is_hung and worker.silent_s >= kill_s and not worker.is_killed:
            self._log_error("worker {pid} is killed: nothing of it for {silent:.0f} s", worker)
            worker.kill()
        return worker.is_hung is not before

    def _log_error(self, text: str, worker: WorkerProcess) -> None:
        self._log.error(text, pid=worker.pid, silent=worker.silent_s)

    def _limits(self, worker: WorkerProcess) -> tuple[float, float]:
        """Seconds of silence until it counts as hung, and until it is killed."""
        timeout = self._timeout()
        hung_s = min(HUNG_S, timeout)
        if self._grace_until is not None:
            return hung_s, hung_s if self._clock.seconds() >= self._grace_until else timeout
        if worker.is_heard:
            return hung_s, timeout
        return START_S, max(2 * START_S, timeout)
