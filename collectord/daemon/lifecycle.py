"""
The daemon's life: ports are opened, stores are tried, and at the end what is being kept is kept first.
"""

import gc
from collections.abc import Callable, Sequence
from contextlib import suppress

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IReactorTime
from twisted.logger import Logger

from collectord.concurrency.tasks import spawn
from collectord.concurrency.timeouts import with_timeout
from collectord.daemon.ingest import IngestPipeline
from collectord.errors import StoreTimeout
from collectord.intake.site import StreamingSite
from collectord.net.listeners import close_ports, take_waiting

_KEEP_S = 15.0
"""For what was received whole: a little longer than a crash waits for a store."""

_DISCARD_S = 5.0


class CollectorService(Service):
    """
    @param listen: opens the ports, and gives them.
    @param ready: is called once clients are let in.
    @param stop: seconds that what is being received may take at the end.
    """

    _log = Logger()

    def __init__(
        self,
        listen: Callable[[StreamingSite], Sequence[IListeningPort]],
        ingest: IngestPipeline,
        clock: IReactorTime,
        *,
        ready: Callable[[], None],
        stop: float,
    ) -> None:
        self._listen = listen
        self._site = ingest.site
        self._public = ingest.public
        self._stores = ingest.stores
        self._clock = clock
        self._ready = ready
        self._stop_s = stop
        self._ports: Sequence[IListeningPort] = ()

    def privilegedStartService(self) -> None:
        """Open the ports, but let nobody in."""
        super().privilegedStartService()
        self._ports = self._listen(self._site)
        for port in self._ports:
            self._site.guard(port)  # type: ignore[arg-type]

    def startService(self) -> None:
        """Try the stores, and let clients in: whatever is wrong with a store, the next one may do."""
        super().startService()
        spawn(self._start(), self._log, "collectord can't start")

    async def _start(self) -> None:
        for state in await self._stores.check_each():
            if state.problem:
                self._log.error("a store can't be used: {why}", why=state.problem)
            else:
                free = state.figures.get("free_bytes", "nobody knows how many")
                self._log.info("store {store}: {free} bytes are free", store=state.name, free=free)
        gc.freeze()  # what is there now stays: each full collection would walk through all of it
        if self.running:
            self._site.open()
            self._ready()

    async def _stop(self) -> None:
        take_waiting(self._ports, lambda: not self._site.is_full)
        await close_ports(self._ports)
        await self._site.drain(self._stop_s)
        try:
            await with_timeout(self._public.drained(), _KEEP_S, self._clock, "stop")
        except StoreTimeout:
            self._log.error("some crashes could not be kept in time; their clients were not told that they were")
        with suppress(StoreTimeout):  # the next start sweeps
            await with_timeout(self._stores.wait_for_discards(), _DISCARD_S, self._clock, "stop")

    def stopService(self) -> Deferred[None]:
        """Let nobody in any more, and wait for what is being received, and then kept."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())
