"""
What the admin site shows, gathered from all parts of the daemon.
"""

import os
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from attrs import evolve
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from twisted.application.service import Service
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from collectord import __version__
from collectord.admin.downloads import DumpToSend
from collectord.concurrency.threadpool import ThreadPool
from collectord.concurrency.timeouts import with_timeout
from collectord.daemon.crashlook import CrashLookUp
from collectord.daemon.pressure import pressure_in
from collectord.errors import LookUpFailed, TimedOut
from collectord.metrics import SINK_HEALTHY
from collectord.observe.aggregate import AggregatedRegistry
from collectord.observe.crashpage import CrashPage, JournalEntry
from collectord.observe.loss import LossWatch
from collectord.observe.recent import RecentCrashes
from collectord.observe.since import TroubleTimes
from collectord.observe.status import (
    AnswerCount,
    CertificateStatus,
    Overview,
    Rates,
    RuleCount,
    SinkStatus,
    WorkerStatus,
)
from collectord.observe.storestatus import StoreStatus
from collectord.storage.content import StoredFile
from collectord.throttle.rules import Rule
from collectord.throttle.wording import condition_in_words, result_in_words

HISTORY_STEP_S = 2.0
_HISTORY = 300
_SMOOTH = 3
"""The current rates are the mean of so many steps."""

_LOOK_UP_S = 10.0
"""Seconds that a store may take to find a crash. One that hangs is known to do so after as long."""

T = TypeVar("T")
Totals = Mapping[str, float]


class StatusReporter(Service):
    """
    Answers what the admin site asks: the overview, the metrics, and what is known of one crash.

    @param roots: the root directories of the stores.
    @param destinations: returns the root directories of the destinations that are file systems.
    @param submit_url: where clients on this host send their reports; empty if that is not known.
    @param events: returns what the journal has on a crash. It blocks, and is called on a thread.
    @param keep_events_s: for how many seconds the journal keeps it, or longer.
    @param now: returns the time in seconds since the epoch.
    """

    _log = Logger()

    def __init__(
        self,
        aggregated: AggregatedRegistry,
        recent: RecentCrashes,
        *,
        roots: Sequence[str],
        moves: Callable[[str], bool],
        destinations: Callable[[], Sequence[str]],
        rules: Callable[[], Sequence[Rule]],
        stores: Callable[[], Sequence[StoreStatus]],
        sinks: Callable[[], Sequence[SinkStatus]],
        workers: Callable[[], Sequence[WorkerStatus]],
        movers: Callable[[], Sequence[WorkerStatus] | None],
        certificates: Callable[[], Sequence[CertificateStatus]],
        events: Callable[[str], Sequence[JournalEntry]],
        keep_events_s: float,
        submit_url: str,
        now: Callable[[], float],
        reactor: Any,
    ) -> None:
        self._aggregated = aggregated
        self._registry = CollectorRegistry()
        self._registry.register(aggregated)
        self._recent = recent
        self._look_up = CrashLookUp(
            roots=roots, moves=moves, destinations=destinations, events=events, keep_s=keep_events_s
        )
        self._rules = rules
        self._stores = stores
        self._sinks = sinks
        self._workers = workers
        self._movers = movers
        self._certificates = certificates
        self._submit_url = submit_url
        self._host = socket.gethostname()
        self._now = now
        self._started = now()
        self._losses = LossWatch()
        self._trouble_times = TroubleTimes()
        self._threads = ThreadPool("look up", 2, reactor.callFromThread)
        self._samples: deque[tuple[float, Totals]] = deque(maxlen=_SMOOTH + 1)
        self._history: deque[Rates] = deque(maxlen=_HISTORY)
        self._loop = LoopingCall(self._tick)
        self._loop.clock = self._clock = reactor

    def startService(self) -> None:
        super().startService()
        self._loop.start(HISTORY_STEP_S)

    def stopService(self) -> None:
        super().stopService()
        self._loop.stop()

    def _tick(self) -> None:
        try:
            self._sample()
        except Exception:  # of a plugin, for instance, that is asked for its cautions
            self._log.failure("the state of the daemon could not be noted")

    def _sample(self) -> None:
        families = self._families()
        self._samples.append((self._now(), _totals(families)))
        self._note_loss(families)
        if len(self._samples) > 1:
            self._history.append(_rates(self._samples[-2], self._samples[-1]))
        overview = self.overview()
        self._trouble_times.note(self._now(), overview.troubles)
        _show_in_metrics(overview.sinks)

    def _families(self) -> Mapping[str, Metric]:
        return {metric.name: metric for metric in self._aggregated.collect()}

    def metrics(self) -> tuple[bytes, str]:
        """Return all metrics as Prometheus reads them: the text, and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def overview(self) -> Overview:
        """Return the state of the daemon at this moment."""
        families = self._families()
        self._note_loss(families)
        now = self._now()
        rates = _rates(self._samples[0], self._samples[-1]) if len(self._samples) > 1 else Rates(at=now)
        return Overview(
            version=__version__,
            started=self._started,
            now=now,
            connections=int(_sum(families, "collectord_connections")),
            receiving=int(_sum(families, "collectord_receiving")),
            saving=int(_sum(families, "collectord_saving")),
            moving=int(_sum(families, "collectord_moving")),
            totals={name: int(value) for name, value in _totals(families).items()},
            rates=rates,
            history=list(self._history),
            answers=_answers(families),
            rules=_rule_counts(self._rules(), families),
            stores=self._stores(),
            sinks=self._sinks(),
            workers=[self._with_rate(worker, rates) for worker in self._workers()],
            movers=self._movers(),
            recent=self._recent.newest_first(),
            loss=self._losses.loss,
            certificates=self._certificates(),
            pressure=pressure_in(families),
            draining=_sum(families, "collectord_draining") > 0,
            host=self._host,
            submit_url=self._submit_url,
            trouble_since=self._trouble_times.since,
        )

    def _with_rate(self, worker: WorkerStatus, rates: Rates) -> WorkerStatus:
        """Add what this process receives, if it is the only one."""
        is_only = worker.pid == os.getpid() and len(self._samples) > 1
        return evolve(worker, per_s=rates.received) if is_only else worker

    def _note_loss(self, families: Mapping[str, Metric]) -> None:
        self._losses.note(
            self._now(),
            _sum(families, "collectord_losing_crashes") > 0,
            int(_sum(families, "collectord_answers", "_total", status="503")),
        )

    async def crash(self, crash_id: str) -> CrashPage | None:
        """
        Look a crash up in stores, destinations and the journal, on a thread; None if it is unknown.

        @raise LookUpFailed: nothing was found, but it may be where it could not be looked for.
        """
        return await self._within_time(partial(self._look_up.crash, crash_id, self._away()))

    async def dump(self, crash_id: str, name: str) -> DumpToSend | None:
        """
        Find a dump of a crash in stores and destinations, on a thread; None if it is not there.

        @raise LookUpFailed: that could not be found out.
        """
        found = await self._within_time(partial(self._look_up.dump, crash_id, name, self._away()))
        return None if found is None else DumpToSend(found[1], StoredFile(*found, self._threads))

    def _away(self) -> Mapping[str, str]:
        """Return which stores can't be asked now, and why; a thread that asked one might never come back."""
        return {store.name: store.problem for store in self._stores() if store.problem and store.free_bytes is None}

    async def _within_time(self, work: Callable[[], T]) -> T:
        try:
            return await with_timeout(self._threads(work), _LOOK_UP_S, self._clock, "a store or the ledger")
        except TimedOut as e:
            raise LookUpFailed(str(e)) from e


def _show_in_metrics(sinks: Sequence[SinkStatus]) -> None:
    """Show how destinations and publishers are for all processes together; nothing of those not tried yet."""
    SINK_HEALTHY.clear()  # a reload may have removed some
    for sink in sinks:
        if sink.problem or sink.is_tried:
            SINK_HEALTHY.labels(sink.name).set(not sink.problem)


def _sum(families: Mapping[str, Metric], family: str, suffix: str = "", **labels: str) -> float:
    return sum(
        sample.value
        for sample in families[family].samples
        if sample.name == family + suffix and labels.items() <= sample.labels.items()
    )


def _totals(families: Mapping[str, Metric]) -> Totals:
    answered = _sum(families, "collectord_answers", "_total")
    kept = _sum(families, "collectord_answers", "_total", reason="kept")
    duplicates = _sum(families, "collectord_answers", "_total", reason="duplicate")
    return {
        "received": _sum(families, "collectord_received", "_total"),
        "kept": kept,
        "refused": answered - kept - duplicates,
        "lost": _sum(families, "collectord_answers", "_total", status="503"),
        "moved": _sum(families, "collectord_moved", "_total"),
        "bytes_in": _sum(families, "collectord_receive_bytes", "_sum"),
    }


def _rates(before: tuple[float, Totals], after: tuple[float, Totals]) -> Rates:
    seconds = max(after[0] - before[0], 0.001)
    return Rates(at=after[0], **{name: max(0.0, value - before[1][name]) / seconds for name, value in after[1].items()})


def _answers(families: Mapping[str, Metric]) -> Sequence[AnswerCount]:
    answers = [
        AnswerCount(status=sample.labels["status"], reason=sample.labels["reason"], count=int(sample.value))
        for sample in families["collectord_answers"].samples
        if sample.name.endswith("_total") and sample.value
    ]
    return sorted(answers, key=lambda answer: (answer.status, -answer.count))


def _rule_counts(rules: Sequence[Rule], families: Mapping[str, Metric]) -> Sequence[RuleCount]:
    results: dict[str, dict[str, int]] = {rule.name: {} for rule in rules}
    for sample in families["collectord_throttle_results"].samples:
        if sample.name.endswith("_total"):
            results.setdefault(sample.labels["rule"], {})[sample.labels["result"]] = int(sample.value)
    outcomes = {rule.name: result_in_words(rule) for rule in rules}
    conditions = {rule.name: condition_in_words(rule.key, rule.condition) for rule in rules}
    return [
        RuleCount(name=name, condition=conditions.get(name, ""), outcome=outcomes.get(name, ""), results=counts)
        for name, counts in results.items()
    ]
