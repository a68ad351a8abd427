"""
The daemon itself: which services run, and in which order they start and stop.
"""

import os
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from collectord import metrics
from collectord.concurrency.tasks import spawn
from collectord.concurrency.threadpool import ThreadPool
from collectord.daemon.admin import AdminPort
from collectord.daemon.backends import build_backends
from collectord.daemon.delivery import DeliveryPipeline, Share
from collectord.daemon.indexing import make_index
from collectord.daemon.ingest import IngestPipeline
from collectord.daemon.journal import make_journal
from collectord.daemon.lifecycle import CollectorService
from collectord.daemon.recall import recall
from collectord.daemon.reload import Reloader, ReplaceableDelivery
from collectord.daemon.retention import make_retention
from collectord.daemon.signals import StopOnce, act_on
from collectord.daemon.statecheck import check_state
from collectord.daemon.workers.spawning import longest_stop_s, wanted_workers
from collectord.daemon.workers.supervisor import Supervisor
from collectord.duplicates.table import KeptTable
from collectord.errors import ConfigError
from collectord.model import CrashEvent
from collectord.net.listeners import Listeners
from collectord.observe.aggregate import AggregatedRegistry
from collectord.observe.logging.events import LineObserver
from collectord.observe.process import ProcessMetrics
from collectord.observe.recent import RecentCrashes
from collectord.observe.sinks import SinkState
from collectord.observe.status import WorkerStatus
from collectord.observe.systemd import Notifier, WatchdogService
from collectord.settings.snapshot import SettingsSnapshot
from collectord.throttle.load import differences_in
from collectord.web.site import version_info


class CollectordService(MultiService):
    """
    The service that is the whole daemon. It makes all others from the settings, and starts and stops them.

    They start in the order in which they are attached here. A stop drains first, then stops all of them at the same
    time, each of which waits for what it has begun, and stops the index and the journal last, since things happen
    until then.

    @param load: reads the settings again at a reload. It may block.
    @param observer: makes the log lines; None if twistd does.
    @param out: takes what workers log; None if they write to the standard output themselves.
    @ivar snapshot: the settings that are in effect.
    @ivar listeners: the ports of the submissions, and those of the admin site.

    @raise ConfigError: the daemon can't be made from these settings; the text says why.
    """

    _log = Logger()

    def __init__(
        self,
        load: Callable[[], SettingsSnapshot],
        snapshot: SettingsSnapshot,
        observer: LineObserver | None,
        out: Callable[[bytes], object] | None,
        notifier: Notifier,
        reactor: Any,
    ) -> None:
        super().__init__()
        settings = snapshot.settings
        self.snapshot = snapshot
        self._observer = observer
        self._notifier = notifier
        self._reactor = reactor
        self._in_thread = ThreadPool("reload", 1, reactor.callFromThread)
        self._started = time.time()
        metrics.START_TIME.set(self._started)
        metrics.INFO.labels(version_info()["version"]).set(1)
        self._log_differences()
        self._backends, self._names = build_backends(settings, reactor)
        self._recent = RecentCrashes()
        self._kept = KeptTable(is_shared=settings.submission.workers > 1)
        self._aggregated = AggregatedRegistry(metrics.REGISTRY)
        self._journal = make_journal(settings, self._backends, reactor)
        self._roots = [backend.name for backend in self._backends]
        self._index = make_index(settings, self._roots, self._aggregated.collect, reactor)
        self._delivery = ReplaceableDelivery(self.new_delivery(snapshot), reactor)
        self._submission = Listeners(settings.submission.listen, "submission", reactor)
        self._ingest: IngestPipeline | None = None
        self._supervisor: Supervisor | None = None
        self._admin = self._new_admin()
        self.listeners = (self._submission, self._admin.listeners)
        self._reloader = Reloader(self, self._delivery, load, notifier, self._in_thread)
        self._attach(
            ProcessMetrics(reactor, None if observer is None else observer.writer),
            WatchdogService(notifier, self._is_hopeless, reactor),
            self._delivery,
            self._admin,
        )
        self._retain()
        if wanted_workers(settings):
            self._use_workers(out)
        else:
            self._ingest_here()

    def _attach(self, *services: Any) -> None:
        for service in services:
            service.setServiceParent(self)

    # Making the parts

    def new_delivery(self, snapshot: SettingsSnapshot) -> DeliveryPipeline:
        """As L{Reloadable.new_delivery<collectord.daemon.reload.Reloadable.new_delivery>}."""
        share: Share = "nothing" if self.snapshot.settings.crashmover.processes else "all"
        try:
            return DeliveryPipeline(
                snapshot.settings, self._backends, self._names, self._on_event, self._reactor, share=share
            )
        except ConfigError as e:
            raise e.about(snapshot.source) from e

    def _new_admin(self) -> AdminPort:
        return AdminPort(
            self.snapshot.settings,
            self._backends,
            self._aggregated,
            self._recent,
            delivery=lambda: self._delivery.pipeline,
            rules=lambda: self.snapshot.rules,
            workers=self._workers,
            movers=lambda: None if self._supervisor is None else self._supervisor.movers(),
            sinks=self._sinks,
            submission=self._submission,
            index=self._index.reader,
            reactor=self._reactor,
        )

    def _retain(self) -> None:
        """Let crashes expire: in this process alone, if there are workers, too."""
        retention = make_retention(lambda: self.snapshot.settings, self._backends, self._on_event, self._reactor)
        if retention is not None:
            self._attach(retention)

    def _ingest_here(self) -> None:
        snapshot = self.snapshot
        self._ingest = IngestPipeline(
            snapshot.settings,
            snapshot.rules,
            self._backends,
            self._on_event,
            self._index.note_seen,
            self._kept,
            self._reactor,
        )
        metrics.WORKERS.set(1)
        self._attach(
            *self._ingest.services,
            CollectorService(
                self._submission.open,
                self._ingest,
                self._reactor,
                ready=self._ready,
                stop=snapshot.settings.submission.stop_s,
            ),
        )

    def _use_workers(self, out: Callable[[bytes], object] | None) -> None:
        self._supervisor = Supervisor(
            wanted_workers(self.snapshot.settings),
            lambda: self.snapshot,
            self._submission,
            self._reactor,
            out=out,
            on_event=self._on_worker_event,
            on_tally=self._index.note_tally,
            table=self._kept,
            ready=self._ready,
            aggregated=self._aggregated,
            stop=longest_stop_s(self.snapshot.settings),
            now=time.time,
        )
        for backend in self._backends:  # who saves crashes here yields to those who send them
            backend.waited = partial(self._supervisor.waited, backend.name)
        self._attach(self._supervisor)

    # While it runs

    def _on_event(self, event: CrashEvent) -> None:
        if self._journal is not None:
            self._journal.note(event)
        self._index.note(event)
        self._recent.note(event)
        if event.kind == "kept":
            self._delivery.pipeline.wake(event.where)
        # Before the crash is removed from its store. One that is in another of our stores now can be looked for there.
        if event.kind == "moved" and all(backend.name != event.where for backend in self._backends):
            self._kept.set_moved(event.crash_id)

    def _on_worker_event(self, event: CrashEvent) -> None:
        self._on_event(event)
        if event.kind == "removed":
            self._delivery.pipeline.left(event.where)

    def _workers(self) -> Sequence[WorkerStatus]:
        here = [WorkerStatus(pid=os.getpid(), since=self._started)]
        return here if self._supervisor is None else self._supervisor.receivers()

    def _sinks(self) -> Sequence[SinkState]:
        others = self._supervisor.sinks() if self._supervisor is not None else ()
        return [*self._delivery.pipeline.sink_states(), *others]

    def _is_hopeless(self) -> bool:
        return self._supervisor is not None and self._supervisor.is_hopeless

    async def apply(self, snapshot: SettingsSnapshot) -> None:
        """As L{Reloadable.apply<collectord.daemon.reload.Reloadable.apply>}."""
        self._log_warnings(snapshot)
        self.snapshot = snapshot.keeping_restart_only(self.snapshot)
        self._log_differences()
        await self._admin.certificates.check()
        if self._observer is not None:
            self._observer.change(snapshot.settings.logging.format, snapshot.settings.logging.level)
        if self._ingest is not None:
            self._ingest.apply(snapshot.settings, snapshot.rules)
        if self._supervisor is not None:
            self._supervisor.reload()

    def _log_warnings(self, snapshot: SettingsSnapshot) -> None:
        for warning in snapshot.warnings:
            self._log.warn("{warning}", warning=warning)

    def _log_differences(self) -> None:
        for difference in differences_in(self.snapshot.rules):
            self._log.warn("{difference}", difference=difference)

    async def _restart_workers(self) -> None:
        if self._supervisor is None:
            self._log.warn("SIGUSR2 replaces workers, and there are none: [submission] workers is 1")
        else:
            await self._supervisor.restart()

    # Start and stop

    def startService(self) -> None:
        """Start all services. From here on the daemon acts on signals."""
        if self._journal is not None:
            self._journal.startService()
        self._index.startService()
        self._log_warnings(self.snapshot)
        recalling = ThreadPool("recall", 1, self._reactor.callFromThread)
        spawn(
            recall(self._kept, self.snapshot.settings, self._roots, recalling, self._reactor),
            self._log,
            "a defect of ours: what was kept before is not known",
        )
        super().startService()
        spawn(
            check_state(self.snapshot.settings, self._roots, self._in_thread),
            self._log,
            "the state directory could not be checked",
        )
        act_on(signal.SIGHUP, self._reloader.reload, self._reactor)
        act_on(signal.SIGUSR2, self._restart_workers, self._reactor)
        self._reactor.callWhenRunning(StopOnce)

    def _ready(self) -> None:
        listen = ", ".join(self._submission.descriptions)
        self._log.info("taking crash reports on {listen}", listen=listen)
        self._notifier.ready(f"takes crash reports on {listen}")

    def stopService(self) -> Deferred[None]:
        """Drain for as long as the settings say, then stop all services, and the journal last."""
        self._notifier.stopping()
        return Deferred.fromCoroutine(self._stop(super().stopService))

    async def _stop(self, stop_others: Callable[[], Any]) -> None:
        await self._drain()
        await stop_others()
        await self._index.stopService()
        if self._journal is not None:
            await self._journal.stopService()

    async def _drain(self) -> None:
        seconds = self.snapshot.settings.submission.drain_s
        intake = self._ingest or self._supervisor
        if seconds and intake is not None:
            intake.start_draining()
            await deferLater(self._reactor, seconds)
