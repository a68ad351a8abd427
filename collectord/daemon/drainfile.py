"""
Draining by a file: while it is there, load balancers are told to send no more. Reports that come are still taken.
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
    Looks once a second whether the file is there by which an operator lets the daemon drain.

    @param path: returns the path of the file, or None if the settings name no file.
    @param notify: called after each look with whether the file is there.
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
