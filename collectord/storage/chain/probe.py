"""
Probes the stores of a chain every second, whether or not crashes are received.
"""

from collections.abc import Iterator
from itertools import count

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from collectord.concurrency.tasks import spawn
from collectord.storage.chain.backend import Backend
from collectord.storage.chain.chain import FallbackCrashStorage

PROBE_INTERVAL_S = 1.0


class ProbeService(Service):
    """
    This service probes each store of a chain every second.

    So a store that has recovered is used again soon, and a store that is full or hangs is found before a crash is given
    to it. Each store has a loop of its own, so one that hangs does not hold up the others.
    """

    _log = Logger()

    def __init__(self, chain: FallbackCrashStorage, clock: IReactorTime) -> None:
        self._chain = chain
        self._loops: list[LoopingCall] = []
        for backend in chain.backends:
            loop = LoopingCall(self._tick, backend, count())
            loop.clock = clock
            self._loops.append(loop)

    def startService(self) -> None:
        super().startService()
        for loop in self._loops:
            loop.start(PROBE_INTERVAL_S, now=False)

    def stopService(self) -> None:
        super().stopService()
        for loop in self._loops:
            loop.stop()

    def _tick(self, backend: Backend, times: Iterator[int]) -> Deferred[None]:
        return spawn(self._chain.probe_backend(backend, next(times)), self._log, "a probe failed")
