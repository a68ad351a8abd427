"""
All Prometheus metrics, declared in one place. The table in C{docs/metrics.rst} is made from this module.

Each process of a daemon counts for itself, and the parent shows the sums over all of them. So a gauge must be something
that can be added up over processes, or something that only one process sets.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, TypeVar

from attrs import frozen
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.metrics import MetricWrapperBase

disable_created_metrics()  # they are times, and a sum of times over processes means nothing

REGISTRY = CollectorRegistry()
"""The registry with the metrics of this process."""

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_BYTES = tuple(4**power * 1024 for power in range(9))  # 1 KiB to 64 MiB


M = TypeVar("M", Counter, Gauge, Histogram)


@frozen(kw_only=True)
class DeclaredMetric:
    """
    A metric and what was declared of it.

    @ivar name: to which Prometheus adds C{_total} if it is a counter.
    @ivar text: says what it counts, in one sentence.
    """

    metric: MetricWrapperBase
    kind: Literal["counter", "gauge", "histogram"]
    name: str
    text: str
    labels: Sequence[str]


_DECLARED: list[DeclaredMetric] = []


def _counter(name: str, text: str, *labels: str) -> Counter:
    metric = Counter(f"collectord_{name}", text, labels, registry=REGISTRY)
    return _declare(metric, "counter", name, text, labels)


def _gauge(name: str, text: str, *labels: str) -> Gauge:
    metric = Gauge(f"collectord_{name}", text, labels, registry=REGISTRY)
    return _declare(metric, "gauge", name, text, labels)


def _histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
    metric = Histogram(f"collectord_{name}", text, labels, buckets=buckets, registry=REGISTRY)
    return _declare(metric, "histogram", name, text, labels)


@lru_cache(maxsize=1024)
def series(metric: M, *labels: str) -> M:
    """
    Return the series of a metric that has these labels.

    It is remembered, which takes a third of the time: so it is for what is counted for each crash.
    """
    return metric.labels(*labels)


def _declare(
    metric: M, kind: Literal["counter", "gauge", "histogram"], name: str, text: str, labels: Sequence[str]
) -> M:
    _DECLARED.append(DeclaredMetric(metric=metric, kind=kind, name=f"collectord_{name}", text=text, labels=labels))
    return metric


# Collecting
RECEIVED = _counter("received", "Submissions that have begun: their headers were received.")
ABANDONED = _counter("abandoned", "Submissions whose client closed the connection before they were complete.")
ANSWERS = _counter("answers", "Submissions answered, by HTTP status and reason.", "status", "reason")
UNKNOWN_KEYS = _counter("unknown_keys", "Submissions refused since their key is not taken, by dialect.", "dialect")
DROPPED_ITEMS = _counter(
    "dropped_items", "Items of Sentry's envelopes that are no part of a crash and are not kept, by type.", "type"
)
THROTTLED = _counter(
    "throttle_results", "Reports judged, by the throttle rule that decided and its result.", "rule", "result"
)
RATED = _counter(
    "rate_reports", "Reports counted by a throttle rule with a rate, by rule and side: below or above.", "rule", "side"
)
RATE_GROUPS = _gauge("rate_groups", "Groups of reports that throttle rules with a rate know of, in all processes.")
RATE_FORGOTTEN = _counter(
    "rate_forgotten", "Groups of reports that were forgotten while they were counted, since there were too many."
)
DUPLICATES = _counter(
    "duplicates", "Reports that were kept already, and were answered with the id of that crash and not stored again."
)
PRODUCT_REPORTS = _counter(
    "product_reports",
    "Reports judged, by product and whether they were kept: kept or not_kept. Beyond 50 the product is other.",
    "product",
    "result",
)
NOTES = _counter("notes", "What was left out of crashes that are kept, or changed in them, by its kind.", "kind")
RECEIVE_BYTES = _histogram("receive_bytes", "Size of complete submissions on the wire, in bytes.", _BYTES)
RECEIVE_SECONDS = _histogram("receive_seconds", "Time from the headers of a submission to its last byte.", _SECONDS)
SAVE_BYTES = _histogram("save_bytes", "Size of the dumps of a kept crash, in bytes, by store.", _BYTES, "store")
SAVE_SECONDS = _histogram("save_seconds", "Time until a crash was durable, by store.", _SECONDS, "store")
CONNECTIONS = _gauge("connections", "Open connections of clients.")
RECEIVING = _gauge("receiving", "Submissions whose body is being received.")
SAVING = _gauge("saving", "Reports that were received completely and are being saved.")
DRAINING = _gauge("draining", "Processes that tell load balancers to send them no more submissions.")
MEMORY = _gauge("upload_memory_bytes", "Bytes of unfinished submissions in memory.")

# Stores
LOSING = _gauge(
    "losing_crashes", "Processes in which every store fails, so that reports are answered 503 (0: none is lost)."
)
DISK_PRESSURE = _gauge(
    "disk_pressure",
    "Processes that leave something out of new crashes because disks are nearly full, by what (0: all is kept).",
    "left_out",
)
STORE_HEALTHY = _gauge("store_well", "1 if a store could keep a crash when it was last checked, else 0.", "store")
FREE_BYTES = _gauge("store_free_bytes", "Space left for an ordinary user, in bytes, by store.", "store")
CIRCUIT_OPEN = _gauge(
    "store_left_alone", "Processes that do not use a store for now because it failed (0: it is healthy).", "store"
)
STORE_FAILURES = _counter("store_failures", "Times that a store failed to save a crash or a dump.", "store")
SWEEP_FAILURES = _counter(
    "store_sweep_failures", "Times that files left by a dead process could not be removed, by store.", "store"
)
SYNC_FAILURES = _counter(
    "sync_failures", "Times that a sync failed: a store's disk did not take what was written to it.", "store"
)
BROKEN_COPIES = _counter(
    "broken_copies", "Copies of a crash or dump in a store that no longer had the checksum of the upload.", "store"
)
BACKLOG = _gauge("backlog_crashes", "Crashes that wait to be moved, by store.", "store")
BACKLOG_AGE = _gauge("backlog_oldest_age_seconds", "Age of the oldest crash that waits to be moved, by store.", "store")
UNPUBLISHED = _gauge("unpublished_ids", "Ids of moved crashes that are still to be published, by store.", "store")
QUARANTINE = _gauge("quarantine_crashes", "Crashes in the quarantine, by store.", "store")
EXPIRED = _counter(
    "expired",
    "Crashes that were removed because their store had kept them for long enough, by the setting that wanted it so.",
    "store",
    "setting",
)
KEPT_BYTES = _gauge(
    "store_kept_bytes", "Bytes of all crashes in a store with keep_bytes, when they were last counted.", "store"
)
RETENTION_LAG = _gauge(
    "retention_lag_seconds",
    "How far the clock is ahead of that by which crashes age, in a store with keep_days; over a day: it jumped.",
    "store",
)
RETENTION_FAILURES = _counter(
    "retention_failures", "Times that something that a store may not keep could not be removed, or read.", "store"
)
DANGLING = _gauge(
    "dangling_links", "Links of the date branch whose crash is not there; they are kept, by store.", "store"
)

# Moving
MOVING = _gauge("moving", "Crashes that are being moved.")
MOVE_BYTES = _histogram("move_bytes", "Size of the dumps of a moved crash, in bytes.", _BYTES, "outlet")
MOVE_SECONDS = _histogram("move_seconds", "Time until a destination confirmed a crash.", _SECONDS, "outlet")
PUBLISH_SECONDS = _histogram("publish_seconds", "Time until a publisher confirmed a crash id.", _SECONDS, "outlet")
SINK_FAILURES = _counter("outlet_failures", "Times that a destination or publisher failed.", "outlet")
SINK_HEALTHY = _gauge(
    "outlet_well",
    "1 if a destination or publisher takes crashes, 0 if it failed when it was tried last.",
    "outlet",
)
MOVED = _counter("moved", "Crashes that all destinations have got, by the store in which they were.", "store")
QUARANTINED = _counter("quarantined", "Crashes put into the quarantine: broken, or refused by a destination.", "store")

# The daemon
REACTOR_LAG = _histogram(
    "reactor_lag_seconds",
    "How late the reactor runs a call that is due, by work: move in processes that only move crashes, else receive.",
    _SECONDS,
    "work",
)
CPU_SECONDS = _counter("cpu_seconds", "CPU time of the daemon's processes.")
RESIDENT_BYTES = _gauge("resident_memory_bytes", "Resident memory of the daemon's processes, in bytes.")
WORKERS = _gauge("workers", "Worker processes that take submissions, not counting those that hang.")
MOVERS = _gauge("movers", "Worker processes that only move crashes, not counting those that hang.")
MOVERS_WANTED = _gauge("movers_wanted", "Worker processes that only move crashes, as many as the settings want.")
WORKERS_HUNG = _gauge("workers_hung", "Worker processes that hang: the parent has not heard from them for 5 seconds.")
WORKER_RESTARTS = _counter(
    "worker_restarts", "Workers that were started again after they died, or hung and were killed."
)
CERTIFICATE_EXPIRY = _gauge(
    "certificate_expiry_timestamp_seconds",
    "When the certificate of a port expires, in seconds since the epoch, by endpoint.",
    "listen",
)
RELOADS = _counter("reloads", "Reloads of the settings, by result: done, refused or failed.", "result")
START_TIME = _gauge("start_time_seconds", "When the daemon started, in seconds since the epoch.")
INFO = _gauge("info", "Always 1; its label says which version runs.", "version")
LOG_LINES_LOST = _counter(
    "log_lines_lost", "Log lines that could not be written because their reader was too slow, or the disk full."
)
JOURNAL_FAILURES = _counter("ledger_failures", "Times that the journal of crashes could not be written.")
INDEX_FAILURES = _counter("index_failures", "Times that the index of crashes could not be written.")


def declared() -> Sequence[DeclaredMetric]:
    """Return every metric, in the order of this file."""
    return _DECLARED
