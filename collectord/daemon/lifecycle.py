"""
The life of what takes submissions: it opens ports, tries the stores, and at a stop first saves what it has received.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IReactorTime
from twisted.logger import Logger

from collectord.concurrency.tasks import spawn
from collectord.concurrency.timeouts import with_timeout
from collectord.daemon.garbage import collect_less
from collectord.daemon.ingest import IngestPipeline
from collectord.errors import TimedOut
from collectord.intake.site import StreamingSite
from collectord.net.listeners import close_ports, take_waiting
from collectord.units import size_in_words

_KEEP_S = 15.0
"""Seconds at a stop to save what was received whole: a little longer than one try of a store may take."""

_DISCARD_S = 5.0
"""Seconds at a stop to remove the staged dumps of uploads that were cut off."""


class CollectorService(Service):
    """
    Takes submissions from start to stop, in one process.

    @param listen: opens the ports for a site, and returns them.
    @param ready: called once clients are let in.
    @param stop: seconds that uploads which have begun may take at a stop.
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
        self._duplicates = ingest.duplicates
        self._clock = clock
        self._ready = ready
        self._stop_s = stop
        self._ports: Sequence[IListeningPort] = ()

    def privilegedStartService(self) -> None:
        """Open the ports, but let no client in yet."""
        super().privilegedStartService()
        self._ports = self._listen(self._site)
        for port in self._ports:
            self._site.guard(port)  # type: ignore[arg-type]

    def startService(self) -> None:
        """Try the stores, then let clients in, also if stores have problems: a store that works may be enough."""
        super().startService()
        spawn(self._start(), self._log, "collectord can't start")

    async def _start(self) -> None:
        for state in await self._stores.check_each():
            if state.problem:
                self._log.error("a store can't be used: {why}", why=state.problem)
            else:
                free = state.figures.get("free_bytes")
                room = "how much is free is not known" if free is None else f"{size_in_words(free)} are free"
                self._log.info("store {store}: {room}", store=state.name, room=room, free=free)
        await self._duplicates.filled()
        collect_less()
        if self.running:
            self._site.open()
            self._ready()

    async def _stop(self) -> None:
        take_waiting(self._ports, lambda: not self._site.is_full)
        await close_ports(self._ports)
        self._stores.waiting_room.end()
        await self._site.drain(self._stop_s)
        try:
            await with_timeout(self._public.drained(), _KEEP_S, self._clock, "stop")
        except TimedOut:
            self._log.error("some crashes could not be kept in time; their clients were not told that they were")
        with suppress(TimedOut):  # The next start sweeps what is left.
            await with_timeout(self._stores.wait_for_discards(), _DISCARD_S, self._clock, "stop")

    def stopService(self) -> Deferred[None]:
        """
        Close the ports, wait for the uploads that have begun, and then for the crashes that are being saved.

        None of these waits any more until a store works again: a stop can't take so long.
        """
        super().stopService()
        return Deferred.fromCoroutine(self._stop())
