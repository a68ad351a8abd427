"""
Everything that takes submissions in one process, made from its settings. A reload changes parts of it while it runs.
"""

import os
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.logger import Logger

from collectord.annotations import KeptNames, NamePatterns
from collectord.collector import Collector, knows_nothing
from collectord.concurrency.descriptors import open_files
from collectord.concurrency.threadpool import ThreadPool
from collectord.daemon.drainfile import DrainFileWatch
from collectord.daemon.pressure import watched_pressure
from collectord.dialects.load import load_dialects
from collectord.dialects.query import query_of
from collectord.dialects.table import Asked, DialectTable
from collectord.duplicates.duplicates import Duplicates
from collectord.duplicates.table import KeptTable
from collectord.fingerprints.facts import facts_of
from collectord.intake.budget import MemoryBudget
from collectord.intake.clientaddress import ClientAddresses
from collectord.intake.receiver import Limits, ReportReceiver
from collectord.intake.request import StreamingRequest
from collectord.intake.site import StreamingSite
from collectord.intake.timeouts import ConnectionLimits
from collectord.judge import new_judge
from collectord.metrics import (
    ANSWERS,
    CIRCUIT_OPEN,
    CONNECTIONS,
    DRAINING,
    LOSING,
    MEMORY,
    RATE_FORGOTTEN,
    RATE_GROUPS,
    RECEIVING,
    SAVING,
    STORE_FAILURES,
    SWEEP_FAILURES,
)
from collectord.model import CrashEvent
from collectord.settings.schema import Settings
from collectord.storage.chain.backend import Backend
from collectord.storage.chain.chain import FallbackCrashStorage
from collectord.storage.chain.probe import ProbeService
from collectord.storage.chain.waitingroom import WaitingRoom
from collectord.telling import SeenReport
from collectord.throttle.counts import RateCounts
from collectord.throttle.rules import Rule
from collectord.web.answers import Shown
from collectord.web.site import PublicSite, version_info

_log = Logger()
_OTHER_FILES = 2048
"""Open files that are set aside for other things than connections: mostly crashes that are being committed."""

_JUDGES = 2
"""Threads that apply the throttle rules to reports on which these may take long."""

_LEAST_WAITING = 16 * 1024 * 1024
"""Bytes that crashes which wait for a store may take in memory, even if dumps are spilled sooner."""

_NOW = partial(datetime.now, UTC)
_RANDOM = partial(os.urandom, 16)


class IngestPipeline:
    """
    The way of a report through one process: the site, the collector, and the chain of stores.

    @param on_event: called with each crash that is kept, and each duplicate; C{on_seen} with each report judged.
    @param table: what the processes of the daemon know of reports that were kept.
    @ivar stores: the stores, tried in order.
    @ivar public: the routes of the public port.
    @ivar site: takes the connections of the public port.
    @ivar duplicates: recognizes reports that come again.
    @ivar services: what has to run beside it.
    """

    def __init__(
        self,
        settings: Settings,
        rules: Sequence[Rule],
        backends: Sequence[Backend],
        on_event: Callable[[CrashEvent], None],
        on_seen: Callable[[SeenReport], None],
        table: KeptTable,
        reactor: Any,
    ) -> None:
        self._on_event, self._on_seen = on_event, on_seen
        self._reactor = reactor
        self._stopping = self._drain_file_is_there = False
        self._drain_file = settings.submission.drain_file
        self._judging = ThreadPool("rules", _JUDGES, reactor.callFromThread)
        waiting_room = WaitingRoom(reactor, settings.submission.patience_s, _waiting_bytes(settings))
        self.stores = FallbackCrashStorage(backends, reactor, waiting_room)
        window = settings.submission.duplicate_window_s
        self.duplicates = Duplicates(table, window, self.stores, self.stores.waiting, reactor, time.time)
        self._pressure = watched_pressure(self.stores)
        self._budget = MemoryBudget(settings.submission.memory_bytes)
        self._limits = _limits(settings)
        self._rates = RateCounts(reactor.seconds, RATE_FORGOTTEN.inc)
        self.public = PublicSite(
            self._collector(settings, rules),
            self._receiver_for,
            self.stores,
            _shown(settings),
            version_info(),
            _dialects(settings),
        )
        self.site = StreamingSite(
            self.public.resource(),
            self.public.body_for,
            limits=_connection_limits(settings),
            max_connections=_affordable(settings.submission.max_connections),
            clock=reactor,
        )
        if self.site.max_connections < settings.submission.max_connections:
            _log.info(
                "max_connections is {wanted}; the limit of open files (LimitNOFILE, ulimit -n) leaves {affordable}",
                wanted=settings.submission.max_connections,
                affordable=self.site.max_connections,
            )
        self.services: Sequence[Service] = (
            ProbeService(self.stores, reactor),
            DrainFileWatch(lambda: self._drain_file, self._note_drain_file, reactor),
        )
        CONNECTIONS.set_function(lambda: self.site.connections)
        RECEIVING.set_function(lambda: self.site.receiving)
        SAVING.set_function(lambda: self.public.saving)
        MEMORY.set_function(lambda: self._budget.used)
        RATE_GROUPS.set_function(lambda: len(self._rates))
        DRAINING.set_function(lambda: self.public.draining)
        LOSING.set_function(lambda: not self.stores.takes_crashes)
        # Each series has to be there from the start: Prometheus sees no increase in one that begins with 1.
        ANSWERS.labels("503", "nowhere_to_save")
        for backend in backends:
            STORE_FAILURES.labels(backend.name)
            SWEEP_FAILURES.labels(backend.name)
            CIRCUIT_OPEN.labels(backend.name).set_function(partial(_is_open, backend))

    def start_draining(self) -> None:
        """Drain from now on, since the daemon is about to stop."""
        self._stopping = True
        self._drain()

    def _note_drain_file(self, is_there: bool) -> None:
        if is_there != self._drain_file_is_there:
            self._drain_file_is_there = is_there
            self._drain()

    def _drain(self) -> None:
        draining = self._stopping or self._drain_file_is_there
        if draining != self.public.draining:
            text = "draining: load balancers are told to send no more" if draining else "draining has ended"
            _log.info("{text}", text=text)
        self.public.draining = self.site.draining = draining

    def apply(self, settings: Settings, rules: Sequence[Rule]) -> None:
        """Use the rules, limits and so on of other settings from the next report on."""
        self.public.collector = self._collector(settings, rules)
        self.public.shown = _shown(settings)
        self.public.dialects = _dialects(settings)
        self.duplicates.window = settings.submission.duplicate_window_s
        self._drain_file = settings.submission.drain_file
        self._limits = _limits(settings)
        self._budget.limit = settings.submission.memory_bytes
        self.stores.waiting_room.seconds = settings.submission.patience_s
        self.stores.waiting_room.limit = _waiting_bytes(settings)
        self.site.limits = _connection_limits(settings)
        self.site.max_connections = _affordable(settings.submission.max_connections)

    def _receiver_for(self, request: StreamingRequest, length: int | None, asked: Asked) -> ReportReceiver:
        connection, query = request.channel.incoming, query_of(request.uri)
        return ReportReceiver(
            self._limits,
            self._budget,
            self.stores.staging_for(request.began),
            request.requestHeaders,
            length,
            connection,
            query,
            self.public.collector.token,
            self._address_of(request),
            asked,
        )

    def _collector(self, settings: Settings, rules: Sequence[Rule]) -> Collector:
        self._rates.use(rules, settings.submission.workers)
        submission = settings.submission
        by_address = any(rule.rate is not None and "address" in rule.rate.per for rule in rules)
        addresses = ClientAddresses(submission.trusted_proxies, submission.forwarded_header)
        self._address_of = addresses.of_sender if by_address or submission.record_address else lambda request: None
        return Collector(
            judge=new_judge(rules, self._rates, self._judging).judge,
            storage=self.stores,
            now=_NOW,
            seconds=self._reactor.seconds,
            random=_RANDOM,
            token=submission.submitter_token,
            aliases=submission.annotation_aliases,
            kept_names=KeptNames(
                wanted=NamePatterns(submission.keep_annotations), removed=NamePatterns(submission.remove_annotations)
            ),
            shares=self.stores.is_shared_by,
            duplicates=self.duplicates,
            pressure=self._pressure,
            on_event=self._on_event,
            on_seen=self._on_seen,
            told_annotations=settings.index.annotations,
            record_address=submission.record_address,
            facts_of=partial(facts_of, clock=self._reactor) if submission.fingerprint else knows_nothing,
        )


def _is_open(backend: Backend) -> float:
    return float(backend.breaker.open)


def _dialects(settings: Settings) -> DialectTable:
    return DialectTable(load_dialects(settings.submission.dialects, settings.submission.dialect))


def _limits(settings: Settings) -> Limits:
    return Limits(
        read=settings.submission.max_read_bytes,
        body=settings.submission.max_body_bytes,
        parts=settings.submission.max_parts,
        annotations=settings.submission.max_annotation_bytes,
        items=settings.submission.max_extra_items,
        levels=settings.submission.max_extra_levels,
    )


def _connection_limits(settings: Settings) -> ConnectionLimits:
    submission = settings.submission
    return ConnectionLimits(
        idle=submission.idle_timeout_s, keep_alive=submission.keep_alive_s, min_rate=submission.min_rate_bytes_s
    )


def _shown(settings: Settings) -> Shown:
    return Shown(settings.submission.dump_id_prefix, settings.submission.view_url)


def _waiting_bytes(settings: Settings) -> int:
    """
    Return how many bytes the crashes that wait for a store may take in memory.

    With half of that, uploads are paused: then their clients keep most of them, and they wait as well.
    """
    return max(2 * settings.submission.memory_bytes, _LEAST_WAITING)


def _affordable(connections: int) -> int:
    """
    Return how many of C{connections} the limit of open files allows, after raising the soft limit to the hard one.
    """
    files = open_files()
    return min(connections, max(1, files - min(_OTHER_FILES, files // 2)))
