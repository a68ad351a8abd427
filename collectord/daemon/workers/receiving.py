"""
The part of a worker that takes submissions, from ports that its parent has opened.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import cycle
from typing import Any

from twisted.application.service import IService

from collectord.daemon.ingest import IngestPipeline
from collectord.daemon.lifecycle import CollectorService
from collectord.daemon.workers.messages import Message, Ready, Saving, Seen
from collectord.duplicates.table import KeptTable
from collectord.index.tally import ReportTally
from collectord.model import CrashEvent
from collectord.net.listeners import Listeners
from collectord.settings.snapshot import SettingsSnapshot
from collectord.storage.chain.backend import Backend

_TALLY_EVERY = 5
"""Reports that were seen are sent with each fifth report of the metrics."""


class Receiving:
    """
    Takes submissions.

    @param inherited: descriptor and address family of each port, in the order of the settings.
    @param table: the memory that all workers share.
    @param on_event: called with each crash that is kept, and each duplicate.
    @param tell: sends a message to the parent.
    @ivar services: the services that do the work.
    """

    def __init__(
        self,
        snapshot: SettingsSnapshot,
        backends: Sequence[Backend],
        inherited: Sequence[tuple[int, int]],
        table: KeptTable,
        on_event: Callable[[CrashEvent], None],
        tell: Callable[[Message], None],
        reactor: Any,
    ) -> None:
        settings = snapshot.settings
        self._backends = backends
        self._tell = tell
        self._is_saving = False
        self._tally = ReportTally()
        self._tallies = cycle(range(_TALLY_EVERY))
        self._ingest = IngestPipeline(settings, snapshot.rules, backends, on_event, self._tally.note, table, reactor)
        self._listeners = Listeners(settings.submission.listen, "submission", reactor)
        collector = CollectorService(
            partial(self._listeners.adopt, inherited=inherited),
            self._ingest,
            reactor,
            ready=lambda: self._tell(Ready()),
            stop=settings.submission.stop_s,
        )
        self.services: Sequence[IService] = (*self._ingest.services, collector)

    def drain(self) -> None:
        """Drain from now on, since the daemon is about to stop."""
        self._ingest.start_draining()

    def set_hung(self, workers: int) -> None:
        """Note how many workers hang, since this one answers the heartbeat."""
        self._ingest.public.hung_workers = workers

    def prepare(self, snapshot: SettingsSnapshot) -> Callable[[], Awaitable[None]]:
        """As L{WorkerPart.prepare<collectord.daemon.workers.worker.WorkerPart.prepare>}."""
        renew = self._listeners.renewed()

        async def apply() -> None:
            self._ingest.apply(snapshot.settings, snapshot.rules)
            renew()

        return apply

    def report(self, *, last: bool) -> None:
        """As L{WorkerPart.report<collectord.daemon.workers.worker.WorkerPart.report>}."""
        waited = {backend.name: seconds for backend in self._backends if (seconds := backend.waited())}
        if waited or self._is_saving:
            self._tell(Saving(waited))
        self._is_saving = bool(waited)
        if not next(self._tallies) or last:
            tally = self._tally.take()
            if tally[0]:
                self._tell(Seen(tally))
