"""
The admin port, and all that is looked at for it; the metrics that are sent elsewhere.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred

from collectord.admin.site import AdminSite
from collectord.concurrency.threadpool import ThreadPool
from collectord.daemon.certificates import CertificateWatch
from collectord.daemon.delivery import DeliveryPipeline
from collectord.daemon.monitor import StoreMonitor
from collectord.daemon.status import StatusReporter
from collectord.net.listeners import Listeners, close_ports
from collectord.observe.aggregate import AggregatedRegistry
from collectord.observe.journal.lines import events_of
from collectord.observe.journal.writer import directory_of
from collectord.observe.recent import RecentCrashes
from collectord.observe.statsd import StatsdService
from collectord.observe.status import JournalEntry, SinkStatus, WorkerStatus
from collectord.settings.schema import Settings
from collectord.storage.chain.backend import Backend
from collectord.throttle.rules import Rule


def admin_listeners(settings: Settings, reactor: Any) -> Listeners:
    """
    The ports of the admin site: whoever reaches them may look, unless there is a token.

    @raise ConfigError: one can't be used, or is open to other hosts, and nobody said that it is meant.
    """
    admin = settings.admin
    return Listeners(admin.listen, "admin", reactor, local=not admin.token and not admin.allow_open)


class AdminPort(MultiService):
    """
    @param delivery: the crashmover of now.
    @param rules: those of now.
    @param workers: those that live.
    @param submission: the ports of the submissions.
    @ivar listeners: the ports.
    @ivar certificates: of them, and of the submissions'.
    """

    def __init__(
        self,
        settings: Settings,
        backends: Sequence[Backend],
        aggregated: AggregatedRegistry,
        recent: RecentCrashes,
        *,
        delivery: Callable[[], DeliveryPipeline],
        rules: Callable[[], Sequence[Rule]],
        workers: Callable[[], Sequence[WorkerStatus]],
        submission: Listeners,
        reactor: Any,
    ) -> None:
        super().__init__()
        self._settings = settings
        self._delivery = delivery
        watch = StoreMonitor(
            backends,
            [store.min_free_bytes for store in settings.storage],
            lambda store: delivery().moves(store),
            time.time,
            reactor,
        )
        self.listeners = admin_listeners(settings, reactor)
        self.certificates = CertificateWatch(
            lambda: [*submission.validities(), *self.listeners.validities()], time.time, reactor
        )
        reporter = StatusReporter(
            aggregated,
            recent,
            roots=[backend.name for backend in backends],
            destinations=lambda: delivery().roots,
            rules=rules,
            stores=watch.stores,
            sinks=self._sinks,
            workers=workers,
            certificates=self.certificates.certificates,
            events=self._events,
            now=time.time,
            reactor=reactor,
        )
        site = AdminSite(
            reporter,
            token=settings.admin.token,
            hosts=settings.admin.hosts,
            clock=reactor,
            in_thread=ThreadPool("pages", 1, reactor.callFromThread),
        )
        services = [watch, reporter, self.certificates, AdminService(site, self.listeners)]
        if settings.metrics.statsd:
            services.append(_statsd(settings, aggregated, reactor))
        for service in services:
            service.setServiceParent(self)

    def _sinks(self) -> Sequence[SinkStatus]:
        return [
            SinkStatus(
                name=sink.name,
                kind="destination" if sink.kind == "moved" else "publisher",
                problem=sink.problem,
                given=sink.delivered,
                failures=sink.failed,
                resumes_in_s=sink.resumes_in,
                cautions=sink.cautions(),
            )
            for sink in self._delivery().sinks
        ]

    def _events(self, crash_id: str) -> Sequence[JournalEntry]:
        return events_of(directory_of(self._settings), crash_id) if self._settings.ledger.enabled else []


def _statsd(settings: Settings, aggregated: AggregatedRegistry, reactor: Any) -> StatsdService:
    return StatsdService(
        settings.metrics.statsd,
        settings.metrics.statsd_interval_s,
        aggregated.collect,
        ThreadPool("statsd", 1, reactor.callFromThread),
        reactor,
        tags=settings.metrics.statsd_tags,
    )


class AdminService(Service):
    """Opens the port of the admin site."""

    def __init__(self, site: AdminSite, listeners: Listeners) -> None:
        self._site = site
        self._listeners = listeners

    def privilegedStartService(self) -> None:
        super().privilegedStartService()
        self._listeners.open(self._site.factory())

    async def _stop(self) -> None:
        self._site.close()
        await close_ports(self._listeners.ports)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())
