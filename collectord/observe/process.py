"""
Metrics about this process itself: how late its reactor is, CPU time, memory, and log lines that were lost.
"""

import os
from pathlib import Path

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from collectord.metrics import CPU_SECONDS, LOG_LINES_LOST, REACTOR_LAG, RESIDENT_BYTES
from collectord.observe.logging.writer import LogWriter

INTERVAL_S = 0.5
_STATM = Path("/proc/self/statm")  # The kernel answers from memory, so reading it does not block the reactor.
_PAGE = os.sysconf("SC_PAGE_SIZE")


class ProcessMetrics(Service):
    """
    Updates the metrics about this process twice a second, on the reactor.

    @param log: the writer of the log, whose lost lines are counted; None if twistd writes the log.
    @param only_moves: whether this process moves crashes and does nothing else. It may be late, and no client waits.
    """

    def __init__(self, clock: IReactorTime, log: LogWriter | None = None, *, only_moves: bool = False) -> None:
        self._clock = clock
        self._lag = REACTOR_LAG.labels("move" if only_moves else "receive")
        self._log = log
        self._lost = 0
        self._next: IDelayedCall | None = None
        self._due = 0.0
        self._cpu = 0.0

    def startService(self) -> None:
        """Begin to look."""
        super().startService()
        self._schedule()

    def stopService(self) -> None:
        """Stop measuring the process."""
        super().stopService()
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _schedule(self) -> None:
        self._due = self._clock.seconds() + INTERVAL_S
        self._next = self._clock.callLater(INTERVAL_S, self._measure)

    def _measure(self) -> None:
        self._lag.observe(max(0.0, self._clock.seconds() - self._due))
        self._schedule()
        times = os.times()
        CPU_SECONDS.inc(times.user + times.system - self._cpu)
        self._cpu = times.user + times.system
        RESIDENT_BYTES.set(int(_STATM.read_text().split()[1]) * _PAGE)
        if self._log is not None:
            # The writer can't do this itself. A signal handler may log while the lock of the metric is held.
            lost = self._log.lost
            LOG_LINES_LOST.inc(lost - self._lost)
            self._lost = lost
