"""
The admin port of a daemon with everything that gathers what it shows; also the metrics that are sent to statsd.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from collectord.admin.site import AdminSite
from collectord.concurrency.threadpool import ThreadPool
from collectord.daemon.certificates import CertificateWatch
from collectord.daemon.delivery import DeliveryPipeline
from collectord.daemon.monitor import StoreMonitor
from collectord.daemon.status import StatusReporter
from collectord.index.asking import Index
from collectord.net.listeners import Listeners, close_ports
from collectord.net.localurl import url_of
from collectord.observe.aggregate import AggregatedRegistry
from collectord.observe.crashpage import JournalEntry
from collectord.observe.journal.reader import events_of
from collectord.observe.journal.writer import directory_of
from collectord.observe.recent import RecentCrashes
from collectord.observe.sinks import SinkState, together
from collectord.observe.statsd import StatsdService
from collectord.observe.status import SinkStatus, WorkerStatus
from collectord.settings.schema import Settings
from collectord.storage.chain.backend import Backend
from collectord.throttle.rules import Rule

_CONFIRMED = ("collectord_move_seconds", "collectord_publish_seconds")
"""The metrics that count what destinations and publishers have confirmed."""
_FAILED = "collectord_outlet_failures"
_DAY_S = 24 * 3600.0


def admin_listeners(settings: Settings, reactor: Any) -> Listeners:
    """
    Make the ports of the admin site. Without a token in the settings, everybody who reaches them may look.

    @raise ConfigError: a port can't be used; or other hosts reach it without a token, and C{allow_open} is not set.
    """
    admin = settings.admin
    return Listeners(admin.listen, "admin", reactor, local=not admin.token and not admin.allow_open)


def submit_url(listen: Sequence[str]) -> str:
    """Return the URL at which a client on this host can send a report; empty if there is none that is known."""
    urls = [url for url in map(url_of, listen) if url.startswith("http")]
    return f"{urls[0]}/submit" if urls else ""


class AdminPort(MultiService):
    """
    The admin port, and the services that watch stores and certificates for it.

    @param delivery: returns the delivery pipeline in use.
    @param rules: returns the throttle rules in use.
    @param workers: returns the state of each process that takes submissions.
    @param movers: returns the state of each process that only moves crashes; None if there are to be none.
    @param sinks: returns how the destinations and publishers are, for each process that says so.
    @param index: answers questions about the crashes that are known.
    @param submission: the ports of the submissions, whose certificates are shown, too.
    @ivar listeners: the ports of the admin site.
    @ivar certificates: watches the certificates of all ports.
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
        movers: Callable[[], Sequence[WorkerStatus] | None],
        sinks: Callable[[], Sequence[SinkState]],
        submission: Listeners,
        index: Index,
        reactor: Any,
    ) -> None:
        super().__init__()
        self._settings = settings
        self._aggregated = aggregated
        self._delivery = delivery
        self._states = sinks
        watch = StoreMonitor(
            backends,
            [store.min_free_bytes for store in settings.storage],
            lambda store: delivery().moves(store),
            lambda: [sink.name for sink in delivery().sinks if sink.kind == "published"],
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
            moves=lambda store: delivery().moves(store),
            destinations=lambda: delivery().roots,
            rules=rules,
            stores=watch.stores,
            sinks=self._sinks,
            workers=workers,
            movers=movers,
            certificates=self.certificates.certificates,
            events=self._events,
            keep_events_s=settings.ledger.keep_days * _DAY_S,
            submit_url=submit_url(settings.submission.listen),
            now=time.time,
            reactor=reactor,
        )
        site = AdminSite(
            reporter,
            index,
            token=settings.admin.token,
            hosts=settings.admin.hosts,
            clock=reactor,
            downloads=settings.admin.downloads,
            allow_open=settings.admin.allow_open,
            in_thread=ThreadPool("pages", 1, reactor.callFromThread),
        )
        services = [watch, reporter, self.certificates, AdminService(site, self.listeners)]
        if settings.metrics.statsd:
            services.append(_statsd(settings, aggregated, reactor))
        for service in services:
            service.setServiceParent(self)

    def _sinks(self) -> Sequence[SinkStatus]:
        states = self._states()
        given, failed = self._counted(*_CONFIRMED), self._counted(_FAILED)
        return [
            SinkStatus(
                name=sink.name,
                kind="destination" if sink.kind == "moved" else "publisher",
                problem=state.problem,
                given=given[sink.name],
                failures=failed[sink.name],
                resumes_in_s=state.resumes_in_s,
                cautions=state.cautions,
                is_tried=state.is_tried,
            )
            for sink in self._delivery().sinks
            for state in [together(sink.name, states)]
        ]

    def _counted(self, *metrics: str) -> Counter[str]:
        """What these metrics of destinations and publishers have counted in all processes, by name."""
        counted = Counter[str]()
        for metric in self._aggregated.collect():
            if metric.name in metrics:
                for sample in metric.samples:
                    if sample.name.endswith(("_count", "_total")):
                        counted[sample.labels["outlet"]] += int(sample.value)
        return counted

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
    """Opens the ports of the admin site, and closes them at a stop."""

    _log = Logger()

    def __init__(self, site: AdminSite, listeners: Listeners) -> None:
        self._site = site
        self._listeners = listeners

    def privilegedStartService(self) -> None:
        super().privilegedStartService()
        self._listeners.open(self._site.factory())
        for endpoint in self._listeners.descriptions:
            url = url_of(endpoint)
            self._log.info("the admin page is on {url}", url=f"{url}/" if url.startswith("http") else url or endpoint)

    async def _stop(self) -> None:
        self._site.close()
        await close_ports(self._listeners.ports)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())
