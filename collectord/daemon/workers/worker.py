"""
The process of a worker, which takes submissions from ports that its parent has opened, or moves crashes, or both. It
reports what happens.

It is run as C{python -m collectord.daemon.workers.worker WORK NAME DESCRIPTOR:FAMILY ...}. The arguments are a value of
L{Work}; a name, such as C{worker 1}, with which its log lines begin; and the inherited ports: descriptor and address
family of each. The settings come by standard input.
"""

import gc
import json
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, cast

from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.stdio import StandardIO
from twisted.internet.task import LoopingCall
from twisted.logger import Logger, globalLogBeginner, globalLogPublisher

from collectord import __version__
from collectord.concurrency.tasks import spawn
from collectord.concurrency.threadpool import ThreadPool
from collectord.concurrency.timeouts import use_monotonic_clock
from collectord.daemon.backends import build_backends
from collectord.daemon.workers.channel import ParentChannel
from collectord.daemon.workers.messages import CHANNEL, TABLE, Counted, Ready, Work
from collectord.daemon.workers.moving import Moving
from collectord.daemon.workers.receiving import Receiving
from collectord.duplicates.table import KeptTable
from collectord.errors import ConfigError
from collectord.metrics import REGISTRY
from collectord.model import CrashEvent
from collectord.observe.aggregate import snapshot_of
from collectord.observe.logging.events import LineObserver
from collectord.observe.logging.sinks import descriptor_sink
from collectord.observe.process import ProcessMetrics
from collectord.observe.sentry import sentry_observer
from collectord.settings.snapshot import SettingsSnapshot, from_wire

_METRICS_S = 1.0
_FLUSH_S = 0.05


class WorkerPart(Protocol):
    """What a worker does, in all that taking submissions and moving crashes have in common."""

    services: Sequence[IService]

    def prepare(self, snapshot: SettingsSnapshot) -> Callable[[], Awaitable[None]]:
        """
        Make everything of other settings that can fail. This blocks, and changes nothing.

        @return: puts them into effect.
        """

    def report(self, *, last: bool) -> None:
        """Tell the parent how it goes, once a second, and when the worker ends."""


class WorkerMain:
    """
    All parts of a worker process.

    @param inherited: descriptor and address family of each port, in the order of the settings.
    @param table: the memory that all workers share.
    """

    _log = Logger()

    def __init__(
        self,
        work: Work,
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
        self._backends, names = build_backends(settings, reactor)
        self._parent = ParentChannel(
            reactor,
            reload=self._reload,
            drain=self._drain,
            hung=self._set_hung,
            kept=self._note_kept,
            pressed=self._press,
            stop=self._stop,
        )
        tell = self._parent.send
        self._receiving = self._moving = None
        if work.receives:
            self._receiving = Receiving(snapshot, self._backends, inherited, table, self._on_event, tell, reactor)
        if work.moves:
            is_apart = not work.receives
            self._moving = Moving(settings, self._backends, names, self._on_step, tell, reactor, is_apart=is_apart)
        self._parts = [part for part in cast(Sequence[WorkerPart | None], (self._receiving, self._moving)) if part]
        self._services = MultiService()
        for part in self._parts:
            for service in part.services:
                service.setServiceParent(self._services)
        ProcessMetrics(reactor, observer.writer, only_moves=not work.receives).setServiceParent(self._services)
        self._metrics = LoopingCall(self._report)
        self._metrics.clock = reactor
        self._stopping = False
        self._applying = DeferredLock()

    def start(self) -> None:
        """Start all services; to be called when the reactor runs. If one can't start, the process ends."""
        try:
            self._services.privilegedStartService()
            cast(Any, StandardIO)(self._parent, stdin=0, stdout=CHANNEL, reactor=self._reactor)
            self._services.startService()
            if self._receiving is None:
                gc.freeze()  # what was made by now stays until the end
                self._parent.send(Ready())
            self._metrics.start(_METRICS_S)
        except BaseException:
            self._log.failure("a worker can't start")
            self._reactor.stop()

    def _on_step(self, event: CrashEvent) -> None:
        """Note a step of a crash that is moved here."""
        self._parent.on_event(event)
        if event.kind == "moved":
            # Now, since the crash is removed next: if this process is killed then, only the parent can write the line.
            self._parent.send_events()
            # A crash that has left all our stores is marked here: the parent may hear of it too late for a duplicate.
            if all(backend.name != event.where for backend in self._backends):
                self._table.set_moved(event.crash_id)

    def _on_event(self, event: CrashEvent) -> None:
        """Note what has happened to a report that was received here."""
        self._parent.on_event(event)
        if event.kind == "kept":
            self._note_kept(event.where)

    def _note_kept(self, store: str, count: int = 1) -> None:
        if self._moving is not None:
            self._moving.kept(store, count)

    def _press(self, is_pressed: bool) -> None:
        if self._moving is not None:
            self._moving.press(is_pressed)

    def _drain(self) -> None:
        if self._receiving is not None:
            self._receiving.drain()

    def _set_hung(self, workers: int) -> None:
        if self._receiving is not None:
            self._receiving.set_hung(workers)

    def _report(self) -> None:
        """Send the metrics. They show the parent that this reactor runs, so an error must not keep or end them."""
        try:
            self._parent.send(Counted(snapshot_of(REGISTRY)))
            for part in self._parts:
                part.report(last=self._stopping)
        except Exception:
            self._log.failure("the metrics could not be sent to the parent")

    def _reload(self, line: bytes) -> None:
        spawn(self._apply(line), self._log, "a worker can't reload")

    async def _apply(self, line: bytes) -> None:
        async with self._applying:  # What one reload replaces, such as the loops of a mover, ends before the next one.
            snapshot, applied = await self._thread(lambda: self._prepare(line))
            self._observer.change(snapshot.settings.logging.format, snapshot.settings.logging.level)
            for apply in applied:
                await apply()

    def _prepare(self, line: bytes) -> tuple[SettingsSnapshot, Sequence[Callable[[], Awaitable[None]]]]:
        """Make everything that can fail. This blocks, and changes nothing."""
        snapshot = from_wire(line)
        return snapshot, [part.prepare(snapshot) for part in self._parts]

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
        self._reactor.callLater(_FLUSH_S, flushed.callback, None)
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
    work = Work(arguments[0])
    inherited = [(int(port.partition(":")[0]), int(port.partition(":")[2])) for port in arguments[2:]]
    # It is read without a buffer: what follows the first line is for the reactor.
    with open(0, "rb", buffering=0, closefd=False) as parent:
        wire = parent.readline()
    if not wire:
        return  # The parent has gone before it has sent the settings.
    logging = json.loads(wire)["settings"]["logging"]
    observer = LineObserver(descriptor_sink(1), logging["format"], logging["level"], process=arguments[1])
    observer.writer.start()
    globalLogBeginner.beginLoggingTo([observer], discardBuffer=True)
    try:
        worker = WorkerMain(work, from_wire(wire), observer, inherited, KeptTable(TABLE), reactor)
    except ConfigError as e:
        sys.exit(f"collectord: a worker can't start: {e}")
    reactor.callWhenRunning(worker.start)
    reactor.run(installSignalHandlers=False)


if __name__ == "__main__":
    main(sys.argv[1:])
