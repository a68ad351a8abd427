"""
Draining: load balancers are told to send no more, while reports that come nevertheless are taken as ever.
"""

from collections.abc import Callable
from functools import partial
from os.path import exists
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from collectord.concurrency.tasks import spawn
from collectord.concurrency.threadpool import ThreadPool

INTERVAL_S = 1.0


class DrainFileWatch(Service):
    """
    Looks each second whether the operator's file is there: while it is, the daemon drains.

    @param path: of the file; None: there is none to look for.
    @param notify: is told each time whether it is there.
    """

    _log = Logger()

    def __init__(self, path: Callable[[], Path | None], notify: Callable[[bool], object], reactor: Any) -> None:
        self._path = path
        self._notify = notify
        self._thread = ThreadPool("drain file", 1, reactor.callFromThread)
        self._loop = LoopingCall(self._tick)
        self._loop.clock = reactor

    def startService(self) -> None:
        super().startService()
        self._loop.start(INTERVAL_S)

    def stopService(self) -> None:
        super().stopService()
        self._loop.stop()

    def _tick(self) -> Deferred[None]:
        return spawn(self._check(), self._log, "the drain file could not be looked for")

    async def _check(self) -> None:
        path = self._path()
        self._notify(path is not None and await self._thread(partial(exists, path)))
