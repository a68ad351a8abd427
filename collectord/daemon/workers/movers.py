"""
What a parent tells the workers that only move crashes: they can't see themselves what those that take submissions do.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from collectord.daemon.workers.messages import KEPT, PRESSED
from collectord.daemon.workers.process import WorkerProcess


class MoverCalls:
    """
    Tells movers of crashes that were kept, and whether crashes that are being kept wait for a disk.

    Each batch of kept crashes is told to one mover, to all of them in turn. If that one dies, a pass over all new
    crashes, which the others make every few seconds, finds them.

    @param workers: returns all workers that there are now.
    """

    def __init__(self, workers: Callable[[], Sequence[WorkerProcess]], clock: IReactorTime) -> None:
        self._workers = workers
        self._clock = clock
        self._kept = Counter[str]()
        self._call: IDelayedCall | None = None
        self._turn = 0
        self._is_pressed = False

    def kept(self, store: str) -> None:
        """Note that the store of that name has got a crash."""
        if not self._movers():
            return
        self._kept[store] += 1
        if self._call is None:
            self._call = self._clock.callLater(0, self._tell_kept)

    def _movers(self) -> Sequence[WorkerProcess]:
        return [worker for worker in self._workers() if not worker.work.receives]

    def _tell_kept(self) -> None:
        self._call = None
        kept, self._kept = self._kept, Counter()
        if able := [mover for mover in self._movers() if mover.answers]:
            self._turn += 1
            able[self._turn % len(able)].send(KEPT + json.dumps(kept).encode())

    def pressed(self) -> None:
        """Tell all movers, if crashes have begun or ceased to wait for a disk in a worker."""
        before, self._is_pressed = self._is_pressed, any(worker.is_pressed for worker in self._workers())
        if self._is_pressed is not before:
            for mover in self._movers():
                self.greet(mover)

    def greet(self, mover: WorkerProcess) -> None:
        """Tell C{mover} alone how that is at the moment."""
        mover.send(PRESSED + b"%d" % self._is_pressed)

    def stop(self) -> None:
        """Tell nothing more."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
