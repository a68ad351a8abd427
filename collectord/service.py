"""
The daemon's life: ports are opened, stores are tried, and at the end what is being kept is kept first.
"""

import gc
from collections.abc import Mapping
from contextlib import suppress

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IReactorTime, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from collectord.errors import TookTooLong
from collectord.intake.site import StreamingSite
from collectord.patience import within
from collectord.storage.fallback import FallbackCrashStorage
from collectord.web.site import PublicSite

_KEEP_S = 15.0
"""For what was received whole: a little longer than the patience of the stores."""

_SETTLE_S = 5.0


class CantListen(SystemExit, Exception):
    """
    Ends the start with one line and no traceback.

    As an C{Exception}, too: of nothing else does a twistd that became a daemon tell its parent, which waits for ever.
    """


class CollectorService(Service):
    """
    @param endpoints: where reports are taken, by their descriptions.
    @param stop: seconds that what is being received may take at the end.
    """

    _log = Logger()

    def __init__(
        self,
        endpoints: Mapping[str, IStreamServerEndpoint],
        site: StreamingSite,
        public: PublicSite,
        stores: FallbackCrashStorage,
        clock: IReactorTime,
        *,
        stop: float,
    ) -> None:
        self._stop_s = stop
        self._endpoints = endpoints
        self._site = site
        self._public = public
        self._stores = stores
        self._clock = clock
        self._ports: list[IListeningPort] = []

    def privilegedStartService(self) -> None:
        """Open the ports, but let nobody in."""
        super().privilegedStartService()
        for description, endpoint in self._endpoints.items():
            failures: list[Failure] = []
            endpoint.listen(self._site).addCallbacks(self._opened, failures.append)
            if failures:
                raise CantListen(f"collectord: can't listen on {description}: {failures[0].getErrorMessage()}")

    def _opened(self, port: IListeningPort) -> None:
        self._ports.append(port)
        self._site.guard(port)  # type: ignore[arg-type]

    def startService(self) -> None:
        """Try the stores, and let clients in: whatever is wrong with a store, the next one may do."""
        super().startService()
        Deferred.fromCoroutine(self._start()).addErrback(
            lambda failure: self._log.failure("collectord can't start", failure)
        )

    async def _start(self) -> None:
        for state in await self._stores.check_each():
            if state.problem:
                self._log.error("a store can't be used: {why}", why=state.problem)
            else:
                self._log.info("store {store}: {free_bytes} bytes are free", store=state.name, **state.figures)
        gc.freeze()  # what is there now stays: each full collection would walk through all of it
        if self.running:
            self._site.open()
            self._log.info("taking crash reports on {listen}", listen=", ".join(self._endpoints))

    async def _stop(self) -> None:
        for port in self._ports:
            stopped = port.stopListening()
            if isinstance(stopped, Deferred):
                await stopped
        await self._site.drain(self._stop_s)
        try:
            await within(self._public.drained(), _KEEP_S, self._clock, "stop")
        except TookTooLong:
            self._log.error("some crashes could not be kept in time; their clients were not told that they were")
        with suppress(TookTooLong):  # the next start sweeps
            await within(self._stores.settled(), _SETTLE_S, self._clock, "stop")

    def stopService(self) -> Deferred[None]:
        """Let nobody in any more, and wait for what is being received, and then kept."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())
