"""
All loops of a daemon's crashmover together, with the destinations and publishers that they share.
"""

from collections.abc import Sequence

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from collectord.concurrency.lateness import Lateness
from collectord.concurrency.tasks import gather, spawn
from collectord.concurrency.threadpool import ThreadPool
from collectord.concurrency.timeouts import with_timeout
from collectord.crashmover.sink import Sink
from collectord.errors import TimedOut
from collectord.interfaces import ICrashPublisher, ICrashStorage

_CLOSE_S = 5.0
"""Seconds that a destination or publisher may take to let go of its threads and connections."""
_REVIVE_S = 1.0
"""Seconds between two looks for sinks that have failed and are due for another try."""


class Crashmovers(MultiService):
    """
    This service runs the loops over all sources of a daemon, which are its child services.

    @param sinks: all destinations and publishers of the loops.
    @param closable: the destinations and publishers that are closed once all loops have stopped.
    @param threads: the thread pools of the sources, which are closed at the same time.
    @param lateness: measures how late the reactor is; it runs while the loops do.
    """

    _log = Logger()

    def __init__(
        self,
        sinks: Sequence[Sink],
        closable: Sequence[ICrashStorage | ICrashPublisher],
        threads: Sequence[ThreadPool],
        lateness: Lateness,
        clock: IReactorTime,
    ) -> None:
        super().__init__()
        self._sinks = sinks
        self._closable = closable
        self._threads = threads
        self._lateness = lateness
        self._clock = clock
        self._reviving = LoopingCall(self._revive)
        self._reviving.clock = clock

    def startService(self) -> None:
        """Start the loops, and check the sinks, so that the log says now what is wrong and not with the first crash."""
        super().startService()
        self._lateness.start()
        for sink in self._sinks:
            spawn(sink.try_out(), self._log, "{sink} could not be checked", sink=sink.name)
        self._reviving.start(_REVIVE_S, now=False)

    def _revive(self) -> None:
        """Check the sinks whose pause after a failure is over. While others take the crashes, nobody else does."""
        for sink in self._sinks:
            spawn(sink.try_again(), self._log, "{sink} could not be checked", sink=sink.name)

    def stopService(self) -> Deferred[None]:
        """Stop the loops, then close all destinations and publishers, even if one of them fails to close."""
        self._lateness.stop()
        if self._reviving.running:
            self._reviving.stop()
        return Deferred.fromCoroutine(self._stop(super().stopService()))

    async def _stop(self, stopped: Deferred[object]) -> None:
        await stopped
        for threads in self._threads:
            threads.close()
        await gather(
            spawn(self._close(each), self._log, "{name} could not be closed", name=each.name) for each in self._closable
        )

    async def _close(self, each: ICrashStorage | ICrashPublisher) -> None:
        try:
            await with_timeout(each.close(), _CLOSE_S, self._clock, each.name)
        except TimedOut as e:
            self._log.warn("could not be closed in time, and may leave threads or connections behind: {why}", why=e)
