"""
The index of crashes, made from the settings: what it keeps, what it reads again, and what it counts.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast

from attrs import evolve
from prometheus_client import Metric
from twisted.logger import Logger

from collectord.concurrency.threadpool import ThreadPool
from collectord.index.counted import CountedSoFar
from collectord.index.day import CountedNow, Series
from collectord.index.gap import IndexSources, StoredCrash
from collectord.index.intake import IntakeCounts
from collectord.index.products import ProductCounter
from collectord.index.service import CrashIndex
from collectord.index.writer import IndexFile, IndexLimits
from collectord.model import CrashEvent, Step
from collectord.observe.journal.lines import Line
from collectord.observe.journal.reader import changed_lines
from collectord.observe.journal.writer import directory_of
from collectord.settings.schema import Settings
from collectord.stepdetails import has_no_minidump
from collectord.storage.filesystem.finder import FoundCrash, crash_days, crashes_below, quarantined_crashes
from collectord.storage.filesystem.identity import StoreIdentity
from collectord.storage.filesystem.known import KnownStores, state_directory
from collectord.telling import about_stored

_log = Logger()
_DAY_S = 24 * 3600.0
_REASON = 300
"""The most characters of why a crash is in the quarantine."""
_WAITS = "collectord_backlog_crashes"
_SERIES = {
    "collectord_answers_total": ("answer", "status", "reason"),
    "collectord_throttle_results_total": ("rule", "rule", "result"),
    "collectord_move_seconds_count": ("given", "outlet"),
    "collectord_publish_seconds_count": ("given", "outlet"),
    "collectord_move_seconds_bucket": ("took", "outlet", "le"),
    "collectord_publish_seconds_bucket": ("took", "outlet", "le"),
    "collectord_outlet_failures_total": ("failed", "outlet"),
    "collectord_save_bytes_sum": ("stored", "store"),
    _WAITS: ("waits", "store"),
}
"""What of the metrics is remembered for a day: by the name of a sample, the kind of the series, and its labels."""
_LEFT_OUT = ("rejected", "unsupported", "fake_accept")


def make_index(
    settings: Settings, stores: Sequence[str], collect: Callable[[], Iterable[Metric]], reactor: Any
) -> CrashIndex:
    """
    Make the service that keeps the index.

    @param stores: the roots of our own stores.
    @param collect: returns the metrics of all processes.
    """
    directory = index_directory(settings)
    limits = IndexLimits(keep_s=settings.index.keep_days * _DAY_S, max_bytes=settings.index.max_bytes)
    return CrashIndex(
        directory,
        IndexFile(directory, stores, limits, index_sources(settings)) if settings.index.enabled else None,
        lambda: counted_in(list(collect())),
        ProductCounter(settings.throttle.products),
        ThreadPool("index", 1, reactor.callFromThread),
        ThreadPool("index questions", 1, reactor.callFromThread),
        time.time,
        reactor,
    )


def index_directory(settings: Settings) -> str:
    """Return where the index of a daemon is: in the state directory, which other daemons may use, too."""
    root = os.fsencode(settings.storage[0].root.absolute())
    state = state_directory(settings.state.directory, os.environ)
    return os.path.join(state, "index", hashlib.sha256(root).hexdigest()[:32])


def index_sources(settings: Settings) -> IndexSources:
    """Return where the index of a daemon reads what it lacks."""
    return IndexSources(events_from(settings), stored_in(settings))


def stored_in(settings: Settings) -> Callable[[float], Iterator[StoredCrash | None]]:
    """Return what finds crashes in the stores. A store that can't be read is left out, and the log says so."""
    known = KnownStores(state_directory(settings.state.directory, os.environ))
    roots = [str(store.root.absolute()) for store in settings.storage]
    names = settings.index.annotations

    def stored_since(since: float) -> Iterator[StoredCrash | None]:
        for root in reversed(roots):  # the primary last: meanwhile a crash of another store may be moved there
            why = StoreIdentity(root, known).problem()
            try:
                if not why:
                    yield from _stored_in(root, f"{datetime.fromtimestamp(since, UTC):%Y%m%d}", names)
            except OSError as e:
                why = str(e)
            if why:
                _log.warn("not all crashes of {root} are in the index: {why}", root=root, why=why)

    return stored_since


def _stored_in(root: str, first: str, names: Sequence[str]) -> Iterator[StoredCrash | None]:
    for day in reversed(crash_days(root)):
        if day >= first:
            for crash in crashes_below(root, day):
                yield None if crash is None else StoredCrash(crash.crash_id, partial(_told_of, crash, names))
    for crash in quarantined_crashes(root):
        yield StoredCrash(crash.crash_id, partial(_told_of, crash, names))


def _told_of(crash: FoundCrash, names: Sequence[str]) -> Sequence[CrashEvent]:
    raw_crash = crash.read()
    at = datetime.fromisoformat(str(raw_crash.get("submitted_timestamp"))).timestamp()
    about = about_stored(raw_crash, names)
    kept = CrashEvent(at=at, crash_id=crash.crash_id, kind="kept", where=crash.root, about=about)
    put = evolve(kept, kind="quarantined", about={"place": crash.reason[:_REASON]})
    return [kept, put] if crash.reason else [kept]


def events_from(settings: Settings) -> Callable[[float], Iterator[CrashEvent]]:
    """Return what reads events from the journal, the newest days first."""
    if not settings.ledger.enabled:
        return lambda since: iter(())
    directory = directory_of(settings)

    def events_since(since: float) -> Iterator[CrashEvent]:
        return map(_event, changed_lines(directory, since))

    return events_since


def _event(line: Line) -> CrashEvent:
    about: dict[str, str | int] = {
        name: value
        for name in ("rule", "product", "version", "place", "fingerprint", "crash_place", "exception", "cpu", "os")
        if (value := getattr(line, name))
    }
    about |= {name: int(value) for name in ("size", "uptime_s") if (value := getattr(line, name))}
    if line.details and not line.crash_place and has_no_minidump(line.details):
        about["minidump"] = "none"
    return CrashEvent(at=line.at, crash_id=line.subject, kind=cast(Step, line.kind), where=line.where, about=about)


def counted_in(metrics: Sequence[Metric]) -> CountedSoFar:
    """Return what the metrics of all processes have counted, as far as it is remembered over restarts."""
    counters: dict[Series, float] = {}
    gauges: dict[Series, float] = {}
    for metric in metrics:
        for sample in metric.samples:
            series = _SERIES.get(sample.name)
            if series is not None:
                kind, *labels = series
                of_kind = gauges if sample.name == _WAITS else counters
                of_kind[kind, *(sample.labels[label] for label in labels)] = sample.value
    return CountedSoFar(intake=intake_counts(metrics), rest=CountedNow(counters=counters, gauges=gauges))


def intake_counts(metrics: Iterable[Metric]) -> IntakeCounts:
    """Return what has come in since the daemon started, by its metrics."""
    counts = dict.fromkeys(("received", "kept", "left_out", "refused", "lost", "moved", "bytes_in"), 0.0)
    for metric in metrics:
        for sample in metric.samples:
            if sample.name == "collectord_received_total":
                counts["received"] += sample.value
            elif sample.name == "collectord_moved_total":
                counts["moved"] += sample.value
            elif sample.name == "collectord_receive_bytes_sum":
                counts["bytes_in"] += sample.value
            elif sample.name == "collectord_answers_total":
                became = _became(sample.labels["status"], sample.labels["reason"])
                if became:
                    counts[became] += sample.value
    return IntakeCounts(**counts)


def _became(status: str, reason: str) -> str:
    if status == "200":
        return "kept" if reason == "kept" else "left_out" if reason in _LEFT_OUT else ""
    return "lost" if status == "503" else "refused"
