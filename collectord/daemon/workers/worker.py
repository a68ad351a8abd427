"""
The process of a worker, which takes submissions from ports that its parent has opened, and reports what happens.

It is run as C{python -m collectord.daemon.workers.worker DESCRIPTOR:FAMILY ...}. The arguments are the inherited ports:
descriptor and address family of each. The settings come by standard input.
"""

import json
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle
from typing import Any, cast

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.stdio import StandardIO
from twisted.internet.task import LoopingCall
from twisted.logger import Logger, globalLogBeginner, globalLogPublisher
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from collectord import __version__
from collectord.concurrency.tasks import spawn
from collectord.concurrency.threadpool import ThreadPool
from collectord.concurrency.timeouts import use_monotonic_clock
from collectord.daemon.delivery import DeliveryPipeline
from collectord.daemon.ingest import IngestPipeline, build_backends
from collectord.daemon.lifecycle import CollectorService
from collectord.daemon.reload import ReplaceableDelivery
from collectord.daemon.workers.messages import (
    CHANNEL,
    DRAIN,
    HUNG,
    RELOAD,
    STOP,
    TABLE,
    Counted,
    CrashEvents,
    Message,
    Ready,
    Seen,
    encode,
)
from collectord.duplicates.table import KeptTable
from collectord.errors import ConfigError
from collectord.index.tally import ReportTally
from collectord.metrics import DANGLING, REGISTRY, SINK_HEALTHY
from collectord.model import CrashEvent
from collectord.net.listeners import Listeners
from collectord.observe.aggregate import snapshot_of
from collectord.observe.logging.events import LineObserver
from collectord.observe.logging.sinks import descriptor_sink
from collectord.observe.process import ProcessMetrics
from collectord.observe.sentry import sentry_observer
from collectord.settings.schema import Settings
from collectord.settings.snapshot import SettingsSnapshot, from_wire

_SOON_S = 0.05
"""Seconds for which events are gathered, to be sent together."""
_METRICS_S = 1.0
_TALLY_EVERY = 5
"""Reports that were seen are sent with each fifth report of the metrics."""


class ParentChannel(LineOnlyReceiver):
    """
    The connection with the parent: receives its commands, and sends it messages.

    @param reload: called with the new settings, as a line.
    @param drain: called when the worker has to drain.
    @param hung: called with the number of workers that hang.
    @param stop: called when the worker has to stop, or when the parent is gone.
    """

    delimiter = b"\n"
    MAX_LENGTH = 64 * 1024 * 1024

    def __init__(
        self,
        clock: Any,
        *,
        reload: Callable[[bytes], object],
        drain: Callable[[], object],
        hung: Callable[[int], object],
        stop: Callable[[], object],
    ) -> None:
        self._clock = clock
        self._reload = reload
        self._drain = drain
        self._hung = hung
        self._stop = stop
        self._events: list[CrashEvent] = []
        self._flush: IDelayedCall | None = None

    def lineReceived(self, line: bytes) -> None:
        if line.startswith(RELOAD):
            self._reload(line.removeprefix(RELOAD))
        elif line == DRAIN:
            self._drain()
        elif line.startswith(HUNG):
            self._hung(int(line.removeprefix(HUNG)))
        elif line == STOP:
            self._stop()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._stop()

    def send(self, message: Message) -> None:
        """Send C{message}, after the events that are waiting to be sent."""
        self._send()
        self.sendLine(encode(message))

    def on_event(self, event: CrashEvent) -> None:
        """Send C{event} a little later, together with others."""
        self._events.append(event)
        if self._flush is None:
            self._flush = self._clock.callLater(_SOON_S, self._send)

    def _send(self) -> None:
        if self._flush is not None and self._flush.active():
            self._flush.cancel()
        self._flush = None
        if self._events:
            events, self._events = self._events, []
            self.sendLine(encode(CrashEvents(events)))


class WorkerMain:
    """
    All parts of a worker process.

    @param inherited: descriptor and address family of each port, in the order of the settings.
    @param table: the memory that all workers share.
    """

    _log = Logger()

    def __init__(
        self,
        snapshot: SettingsSnapshot,
        observer: LineObserver,
        inherited: Sequence[tuple[int, int]],
        table: KeptTable,
        reactor: Any,
    ) -> None:
        self._reactor = reactor
        self._table = table
        settings = snapshot.settings
        self._observer = observer
        sentry = sentry_observer(settings.sentry, __version__)
        if sentry is not None:
            globalLogPublisher.addObserver(sentry)
            reactor.addSystemEventTrigger("after", "shutdown", sentry.close)
        self._thread = ThreadPool("reload", 1, reactor.callFromThread)
        self._parent = ParentChannel(
            reactor, reload=self._reload, drain=self._drain, hung=self._set_hung, stop=self._stop
        )
        self._tally = ReportTally()
        self._tallies = cycle(range(_TALLY_EVERY))
        self._backends, self._names = build_backends(settings, reactor)
        self._ingest = IngestPipeline(
            settings, snapshot.rules, self._backends, self._on_event, self._tally.note, table, reactor
        )
        self._moving = settings.crashmover
        self._delivery = ReplaceableDelivery(self._new_delivery(settings), reactor)
        self._listeners = Listeners(settings.submission.listen, "submission", reactor)
        self._services = MultiService()
        for service in (*self._ingest.services, self._delivery):
            service.setServiceParent(self._services)
        ProcessMetrics(reactor, observer.writer).setServiceParent(self._services)
        CollectorService(
            partial(self._listeners.adopt, inherited=inherited),
            self._ingest,
            reactor,
            ready=self._ready,
            stop=settings.submission.stop_s,
        ).setServiceParent(self._services)
        self._metrics = LoopingCall(self._report)
        self._metrics.clock = reactor
        self._stopping = False

    def start(self) -> None:
        """Start all services; to be called when the reactor runs. If one can't start, the process ends."""
        try:
            self._services.privilegedStartService()
            cast(Any, StandardIO)(self._parent, stdin=0, stdout=CHANNEL, reactor=self._reactor)
            self._services.startService()
            self._metrics.start(_METRICS_S)
        except BaseException:
            self._log.failure("a worker can't start")
            self._reactor.stop()

    def _new_delivery(self, settings: Settings) -> DeliveryPipeline:
        """Make what moves crashes here. Only the parent moves those of fallback stores back to the primary."""
        return DeliveryPipeline(settings, self._backends, self._names, self._on_step, self._reactor, homes=False)

    def _on_step(self, event: CrashEvent) -> None:
        if event.kind == "moved":
            self._table.set_moved(event.crash_id)  # the parent hears of it too late: the crash is removed next
        self._parent.on_event(event)

    def _on_event(self, event: CrashEvent) -> None:
        self._parent.on_event(event)
        if event.kind == "kept":
            self._delivery.pipeline.wake(event.where)

    def _ready(self) -> None:
        self._parent.send(Ready())

    def _drain(self) -> None:
        self._ingest.start_draining()

    def _report(self) -> None:
        """Send the metrics. They show the parent that this reactor runs, so an error must not end the loop."""
        try:
            if self._stopping or not next(self._tallies):
                self._send_seen()
            self._parent.send(Counted(snapshot_of(REGISTRY)))
        except Exception:
            self._log.failure("the metrics could not be sent to the parent")

    def _send_seen(self) -> None:
        tally = self._tally.take()
        if tally[0]:
            self._parent.send(Seen(tally))

    def _set_hung(self, workers: int) -> None:
        self._ingest.public.hung_workers = workers

    def _reload(self, line: bytes) -> None:
        spawn(self._apply(line), self._log, "a worker can't reload")

    async def _apply(self, line: bytes) -> None:
        snapshot, renew, delivery = await self._thread(lambda: self._prepare(line))
        self._ingest.apply(snapshot.settings, snapshot.rules)
        self._observer.change(snapshot.settings.logging.format, snapshot.settings.logging.level)
        renew()
        if delivery is not None:
            self._moving = snapshot.settings.crashmover
            await self._delivery.replace(delivery)

    def _prepare(self, line: bytes) -> tuple[SettingsSnapshot, Callable[[], None], DeliveryPipeline | None]:
        """Make everything that can fail. This blocks, and changes nothing."""
        snapshot = from_wire(line)
        is_same = snapshot.settings.crashmover == self._moving
        delivery = None if is_same else self._new_delivery(snapshot.settings)
        return snapshot, self._listeners.renewed(), delivery

    def _stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            ended = spawn(self._end(), self._log, "a worker did not end in order")
            ended.addCallback(lambda _: self._reactor.stop())

    async def _end(self) -> None:
        await cast(Deferred[object], self._services.stopService())
        self._metrics.stop()
        self._report()
        # The reactor needs some more turns to write the last messages.
        flushed: Deferred[None] = Deferred()
        self._reactor.callLater(_SOON_S, flushed.callback, None)
        await flushed


def main(arguments: Sequence[str]) -> None:
    """Run a worker until its parent stops it, or is gone."""
    from twisted.internet import reactor as any_reactor

    reactor = cast(Any, any_reactor)
    use_monotonic_clock(reactor)
    # The parent gets these signals, too, and says what to do: a terminal sends SIGINT, and systemd sends SIGTERM, to
    # all processes at once.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    inherited = [(int(port.partition(":")[0]), int(port.partition(":")[2])) for port in arguments]
    # It is read without a buffer: what follows the first line is for the reactor.
    with open(0, "rb", buffering=0, closefd=False) as parent:
        wire = parent.readline()
    if not wire:
        return  # The parent has gone before it has sent the settings.
    logging = json.loads(wire)["settings"]["logging"]
    observer = LineObserver(descriptor_sink(1), logging["format"], logging["level"])
    observer.writer.start()
    globalLogBeginner.beginLoggingTo([observer], discardBuffer=True)
    try:
        worker = WorkerMain(from_wire(wire), observer, inherited, KeptTable(TABLE), reactor)
    except ConfigError as e:
        sys.exit(f"collectord: a worker can't start: {e}")
    for gauge in (SINK_HEALTHY, DANGLING):
        REGISTRY.unregister(gauge)  # the parent has them, too, and the sum would say nothing
    reactor.callWhenRunning(worker.start)
    reactor.run(installSignalHandlers=False)


if __name__ == "__main__":
    main(sys.argv[1:])
