"""
All services of a daemon, and what holds them together: what happens is told on, and settings are read again.
"""

import os
import signal
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger

from collectord import metrics
from collectord.concurrency.threadpool import ThreadPool
from collectord.concurrency.timeouts import with_timeout
from collectord.daemon.admin import AdminPort
from collectord.daemon.delivery import DeliveryPipeline
from collectord.daemon.ingest import IngestPipeline, build_backends
from collectord.daemon.lifecycle import CollectorService
from collectord.daemon.signals import StopOnce, act_on
from collectord.daemon.workers.supervisor import Supervisor
from collectord.errors import ConfigError
from collectord.model import CrashEvent
from collectord.net.listeners import Listeners
from collectord.observe.aggregate import AggregatedRegistry
from collectord.observe.journal.writer import JournalWriter, directory_of
from collectord.observe.logging.events import LineObserver
from collectord.observe.process import ProcessMetrics
from collectord.observe.recent import RecentCrashes
from collectord.observe.status import WorkerStatus
from collectord.observe.systemd import Notifier, WatchdogService
from collectord.settings.snapshot import SettingsSnapshot, needs_restart
from collectord.storage.filesystem.devices import mount_of_its_own
from collectord.storage.filesystem.known import KnownStores, state_directory
from collectord.throttle.load import differences_in
from collectord.web.version import version

_CLOSE_S = 10.0
"""For letting go of the queues, beyond what moves may take."""


class CollectordService(MultiService):
    """
    @param load: reads the settings again, at a reload.
    @param observer: of the log lines; None: they are not ours to format.
    @param out: takes what workers log; None: they write to the standard output.

    @raise ConfigError: it can't be made of these settings.
    """

    _log = Logger()

    def __init__(
        self,
        load: Callable[[], SettingsSnapshot],
        loaded: SettingsSnapshot,
        observer: LineObserver | None,
        out: Callable[[bytes], object] | None,
        notifier: Notifier,
        reactor: Any,
    ) -> None:
        super().__init__()
        settings = loaded.settings
        self._load = load
        self._loaded = loaded
        self._observer = observer
        self._notifier = notifier
        self._reactor = reactor
        self._thread = ThreadPool("reload", 1, reactor.callFromThread)
        self._reloading = self._reload_wanted = False
        self._swapping: Deferred[None] = succeed(None)
        self._backends, self._names = build_backends(settings, reactor)
        self._recent = RecentCrashes()
        self._journal = self._make_journal()
        self._delivery = self._new_delivery(loaded)
        self._listeners = Listeners(settings.submission.listen, "submission", reactor)
        self._aggregated = AggregatedRegistry(metrics.REGISTRY)
        self._ingest: IngestPipeline | None = None
        self._supervisor: Supervisor | None = None
        self._started = time.time()
        metrics.START_TIME.set(self._started)
        for result in ("done", "refused", "failed"):
            metrics.RELOADS.labels(result)
        metrics.INFO.labels(version()["version"]).set(1)
        self._log_differences()
        log = None if observer is None else observer.writer
        watchdog = WatchdogService(notifier, self._is_hopeless, reactor)
        self._attach(ProcessMetrics(reactor, log), watchdog, self._delivery.service)
        self._admin = self._new_admin()
        self._attach(self._admin)
        if settings.submission.workers == 1:
            self._ingest_here()
        else:
            self._ingest_in_workers(out)

    def _new_delivery(self, loaded: SettingsSnapshot) -> DeliveryPipeline:
        try:
            return DeliveryPipeline(loaded.settings, self._backends, self._names, self._on_event, self._reactor)
        except ConfigError as e:
            raise ConfigError("\n".join(f"{loaded.source}: {line}" for line in str(e).splitlines())) from e

    def _attach(self, *services: Any) -> None:
        for service in services:
            if service is not None:
                service.setServiceParent(self)

    def _make_journal(self) -> JournalWriter | None:
        settings = self._loaded.settings
        if not settings.ledger.enabled:
            return None
        directory = directory_of(settings)
        checks = [backend.refuse_other for backend in self._backends if directory.is_relative_to(backend.name)]
        return JournalWriter(
            directory=directory,
            keep_days=settings.ledger.keep_days,
            clock=self._reactor,
            call_from_thread=self._reactor.callFromThread,
            now=partial(datetime.now, UTC),
            refuse_other=partial(_refuse_other, checks),
        )

    def _ingest_here(self) -> None:
        settings = self._loaded.settings
        self._ingest = IngestPipeline(settings, self._loaded.rules, self._backends, self._on_event, self._reactor)
        metrics.WORKERS.set(1)
        self._attach(
            *self._ingest.services,
            CollectorService(
                self._listeners.open,
                self._ingest,
                self._reactor,
                ready=self._ready,
                stop=settings.submission.stop_s,
            ),
        )

    def _ingest_in_workers(self, out: Callable[[bytes], object] | None) -> None:
        settings = self._loaded.settings
        self._supervisor = Supervisor(
            settings.submission.workers,
            lambda: self._loaded,
            self._listeners,
            self._reactor,
            out=out,
            on_event=self._on_event,
            ready=self._ready,
            aggregated=self._aggregated,
            stop=settings.submission.stop_s,
            now=time.time,
        )
        self._attach(self._supervisor)

    def _new_admin(self) -> AdminPort:
        return AdminPort(
            self._loaded.settings,
            self._backends,
            self._aggregated,
            self._recent,
            delivery=lambda: self._delivery,
            rules=lambda: self._loaded.rules,
            workers=self._workers,
            submission=self._listeners,
            reactor=self._reactor,
        )

    def _log_differences(self) -> None:
        for difference in differences_in(self._loaded.rules):
            self._log.warn("{difference}", difference=difference)

    def _on_event(self, event: CrashEvent) -> None:
        if self._journal is not None:
            self._journal.note(event)
        self._recent.note(event)
        if event.kind == "kept":
            self._delivery.wake(event.where)

    def _workers(self) -> Sequence[WorkerStatus]:
        if self._supervisor is not None:
            return self._supervisor.states()
        return [WorkerStatus(pid=os.getpid(), since=self._started)]

    def _is_hopeless(self) -> bool:
        return self._supervisor is not None and self._supervisor.is_hopeless

    def startService(self) -> None:
        """Start all of them; from here on signals are heard."""
        if self._journal is not None:
            self._journal.startService()
        self._warn(self._loaded)
        super().startService()
        self._try_state()
        act_on(signal.SIGHUP, self.reload, self._reactor)
        act_on(signal.SIGUSR2, self._restart_workers, self._reactor)
        self._reactor.callWhenRunning(StopOnce)

    def _warn(self, loaded: SettingsSnapshot) -> None:
        for warning in loaded.warnings:
            self._log.warn("{warning}", warning=warning)

    def _try_state(self) -> None:
        """Say what a daemon can't do that has no place to remember its stores, or one that goes with them."""
        state = KnownStores(state_directory(self._loaded.settings.state.directory, os.environ))

        def look() -> Sequence[str]:
            state.refuse_unwritable()
            own = mount_of_its_own(state.directory)
            return [backend.name for backend in self._backends if own and mount_of_its_own(backend.name) == own]

        def tell(beside: Sequence[str]) -> None:
            for store in beside:
                self._log.warn(
                    "{store} and what is remembered of it ({state}) are on one file system: without it nobody knows "
                    "that it is not mounted; see [state] directory, and require_mount",
                    store=store,
                    state=state.directory,
                )

        self._thread(look).addCallbacks(
            tell,
            lambda failure: self._log.warn(
                "{state} can't be written ({why}): stores are not remembered, and one that comes up without its file "
                "system is not noticed at a start; see [state] directory",
                state=state.directory,
                why=failure.value,
            ),
        )

    async def _restart_workers(self) -> None:
        if self._supervisor is None:
            self._log.warn("SIGUSR2 replaces workers, and there are none: [submission] workers is 1")
        else:
            await self._supervisor.restart()

    def _ready(self) -> None:
        self._log.info("taking crash reports on {listen}", listen=", ".join(self._listeners.descriptions))
        self._notifier.ready(f"takes crash reports on {', '.join(self._listeners.descriptions)}")

    async def reload(self) -> None:
        """Read the settings again, and live by them; where they are bad, nothing changes."""
        self._reload_wanted = True
        if self._reloading:
            return  # they may have changed since they were read: once more, after this
        self._reloading = True
        self._notifier.reloading()
        try:
            while self._reload_wanted and self.running:
                self._reload_wanted = False
                await self._reload_or_log()
        finally:
            self._reloading = False
            if self.running:
                self._notifier.ready()

    async def _reload_or_log(self) -> None:
        try:
            await self._reload()
        except ConfigError as e:
            metrics.RELOADS.labels("refused").inc()
            for line in str(e).splitlines():
                self._log.error("the settings are bad, and nothing changes: {why}", why=line)
        except Exception:
            metrics.RELOADS.labels("failed").inc()
            raise
        else:
            metrics.RELOADS.labels("done").inc()
            self._log.info("the settings were read again")

    async def _reload(self) -> None:
        loaded, renewed, delivery = await self._thread(self._read_again)
        for what in needs_restart(self._loaded.settings, loaded.settings):
            self._log.warn("{what} has changed: that takes a restart", what=what)
        self._warn(loaded)
        self._loaded = loaded.keeping_restart_only(self._loaded)
        self._log_differences()
        for renew in renewed:
            renew()
        await self._admin.certificates.look()
        if self._observer is not None:
            self._observer.change(loaded.settings.logging.format, loaded.settings.logging.level)
        if self._ingest is not None:
            self._ingest.apply(loaded.settings, loaded.rules)
        if self._supervisor is not None:
            self._supervisor.reload()
        if delivery is not self._delivery:
            await self._swap(delivery)

    def _read_again(self) -> tuple[SettingsSnapshot, Sequence[Callable[[], None]], DeliveryPipeline]:
        """All that reads files, and can fail; nothing changes by it."""
        loaded = self._load()
        renewed = [listeners.renewed() for listeners in (self._listeners, self._admin.listeners)]
        if loaded.settings.crashmover == self._loaded.settings.crashmover:
            return loaded, renewed, self._delivery
        return loaded, renewed, self._new_delivery(loaded)

    async def _swap(self, delivery: DeliveryPipeline) -> None:
        old, self._delivery = self._delivery, delivery
        if old.service is not None:
            self._swapping = Deferred.fromCoroutine(self._end_delivery(old))
            await self._swapping
        if self.running:
            self._attach(delivery.service)

    async def _end_delivery(self, delivery: DeliveryPipeline) -> None:
        try:
            stopped = delivery.service.disownServiceParent()  # type: ignore[union-attr]
            await with_timeout(stopped, delivery.stop_s + _CLOSE_S, self._reactor, "the crashmover of before")
        except Exception:
            self._log.failure("the crashmover of before did not end in order")

    def stopService(self) -> Deferred[Any]:
        """Drain, then stop all of them, each in order; the ledger last, for until then something happens."""
        self._notifier.stopping()
        return Deferred.fromCoroutine(self._stop(super().stopService))

    async def _drain(self) -> None:
        seconds = self._loaded.settings.submission.drain_s
        intake = self._ingest or self._supervisor
        if seconds and intake is not None:
            intake.stops()
            await deferLater(self._reactor, seconds)

    async def _stop(self, stop_others: Callable[[], Any]) -> None:
        await self._drain()
        await stop_others()
        await self._swapping
        if self._journal is not None:
            await self._journal.stopService()


def _refuse_other(stores: Sequence[Callable[[], None]]) -> None:
    for refuse_other in stores:
        refuse_other()
