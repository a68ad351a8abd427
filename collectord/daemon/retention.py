"""
The service that removes crashes from stores which have kept them for long enough: see C{keep_days} and C{keep_bytes}.

It runs in one process of a daemon, on a thread of its own for each store, in slices with pauses between them, so that
those who send crashes do not wait for it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic
from typing import Any

from attrs import define, frozen
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from collectord.concurrency.tasks import gather, spawn
from collectord.concurrency.threadpool import ThreadPool
from collectord.concurrency.timeouts import with_timeout
from collectord.errors import StorageError, TimedOut
from collectord.metrics import EXPIRED, KEPT_BYTES, RETENTION_FAILURES, RETENTION_LAG
from collectord.model import CrashEvent
from collectord.settings.schema import Settings
from collectord.settings.stores import Storage
from collectord.storage.chain.backend import Backend
from collectord.storage.filesystem.expiry import Expired, StoreExpiry
from collectord.storage.filesystem.keeplimits import KeepLimits
from collectord.storage.filesystem.slowclock import SlowClock
from collectord.storage.filesystem.store import FilesystemCrashStorage

INTERVAL_S = 300.0
"""Seconds from the end of one pass to the next."""
_SHARE = 20
"""The pause between two passes is at least so many times as long as a pass took."""
_SLICE_S = 0.02
"""Seconds of work at a time."""
_REST = 3
"""The pause after a slice is so many times as long as the slice took."""
_LONG_REST = 12
"""The same while crashes come in."""
_BUSY = 0.5
"""They do if after so many of the pauses one is just being saved."""
_WEIGHT = 0.2
"""The weight of one pause in the average of that."""
_YIELD_S = 0.5
"""The pause after a slice while the store is slow for those who send crashes."""
_STOP_S = 5.0
"""Seconds that a stop waits for a slice, which may be on a disk that hangs."""
_LATE = timedelta(days=1)

WHYS = ("keep_days", "keep_deferred_days", "keep_bytes")


@define
class RetainedStore:
    """
    A store with limits.

    @ivar clock: by it the age of crashes counts.
    @ivar problem: why the last pass failed, or a part of it, to log it once.
    @ivar busy: after which share of the last pauses a crash was being saved.
    """

    backend: Backend
    expiry: StoreExpiry
    clock: SlowClock
    thread: ThreadPool
    problem: str = ""
    busy: float = 0.0
    is_behind: bool = False
    was_over: bool = False


class RetentionService(Service):
    """
    Makes a pass over each store every few minutes.

    @param on_event: called with each crash that was removed.
    @param now: the time, in UTC.
    """

    _log = Logger()

    def __init__(
        self,
        stores: Sequence[RetainedStore],
        on_event: Callable[[CrashEvent], None],
        now: Callable[[], datetime],
        reactor: Any,
    ) -> None:
        self._stores = stores
        self._on_event = on_event
        self._now = now
        self._reactor = reactor
        self._pauses: set[Deferred[None]] = set()
        self._running: list[Deferred[None]] = []
        for store in stores:
            RETENTION_FAILURES.labels(store.backend.name)
            for why in WHYS:
                EXPIRED.labels(store.backend.name, why)

    def startService(self) -> None:
        super().startService()
        self._running = [
            spawn(self._run(store), self._log, "a defect of ours: retention has ended") for store in self._stores
        ]

    def stopService(self) -> Deferred[None]:
        """Make no further step. A removal that has begun is ended, unless its disk hangs."""
        super().stopService()
        for pause in list(self._pauses):
            pause.cancel()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        with suppress(TimedOut):
            await with_timeout(gather(self._running), _STOP_S, self._reactor, "retention")
        for store in self._stores:
            store.thread.close()

    async def _pause(self, seconds: float) -> None:
        pause: Deferred[None] = deferLater(self._reactor, seconds, lambda: None)
        self._pauses.add(pause)
        try:
            await pause
        except CancelledError:
            return
        finally:
            self._pauses.discard(pause)

    async def _run(self, store: RetainedStore) -> None:
        while self.running:
            began = self._reactor.seconds()
            try:
                await store.backend.prepare()
                await self._pass(store)
                store.problem = ""
            except (OSError, StorageError) as e:
                RETENTION_FAILURES.labels(store.backend.name).inc()
                if str(e) != store.problem:
                    self._log.warn("{store}: retention will try again: {why}", store=store.backend.name, why=str(e))
                store.problem = str(e)
            except CancelledError:  # a stop waits no longer for a disk that hangs
                return
            except Exception:
                RETENTION_FAILURES.labels(store.backend.name).inc()
                self._log.failure("a defect of ours: retention will try again")
            if self.running:
                await self._pause(max(INTERVAL_S, _SHARE * (self._reactor.seconds() - began)))

    async def _pass(self, store: RetainedStore) -> None:
        clock = age_clock = self._now()
        if store.expiry.limits.count_days:
            age_clock = await store.thread(store.clock.read)
            self._tell_lag(store, max(clock - age_clock, timedelta(0)))
        steps = store.expiry.steps(age_clock, self._now)
        began, is_more = self._reactor.seconds(), True
        while is_more and self.running:
            done = await store.thread(partial(_slice, store.backend, steps))
            is_more = done.is_more
            for each in done.removed:
                self._note(store.backend.name, each)
            if not is_more:
                self._tell_bytes(store)
            elif self.running:
                await self._rest(store, done.seconds, self._reactor.seconds() - began)
            if done.error is not None:
                raise done.error

    async def _rest(self, store: RetainedStore, seconds: float, since: float) -> None:
        """
        Pause after a slice.

        @param seconds: it took.
        @param since: seconds since the pass began. One that lasts for long yields less, so that it ends.
        """
        rest = _LONG_REST if store.busy > _BUSY and since < INTERVAL_S else _REST
        await self._pause(max(_YIELD_S if store.backend.is_slow else 0.0, rest * seconds))
        store.busy += _WEIGHT * ((store.backend.waited() > 0) - store.busy)

    def _note(self, store: str, expired: Expired) -> None:
        EXPIRED.labels(store, expired.why).inc()
        about: dict[str, str | int] = {"place": expired.why}
        at = self._now().timestamp()
        self._on_event(CrashEvent(at=at, crash_id=expired.crash_id, kind="expired", where=store, about=about))
        self._log.info(
            "{crash_id} removed from {store}: {why}", crash_id=expired.crash_id, store=store, why=expired.why
        )

    def _tell_lag(self, store: RetainedStore, lag: timedelta) -> None:
        RETENTION_LAG.labels(store.backend.name).set(lag.total_seconds())
        if lag > _LATE and not store.is_behind:
            self._log.warn(
                "{store}: the clock is {days} days ahead of the time for which a daemon is known to have run here. "
                "Crashes age six days a day until that is caught up. If the clock is wrong, put it right now",
                store=store.backend.name,
                days=lag.days,
            )
        store.is_behind = lag > _LATE

    def _tell_bytes(self, store: RetainedStore) -> None:
        if store.expiry.kept_bytes is not None:
            KEPT_BYTES.labels(store.backend.name).set(store.expiry.kept_bytes)
        if store.expiry.over and not store.was_over:
            self._log.warn(
                "{store}: more than keep_bytes is there, and all of it came just now or waits to be moved",
                store=store.backend.name,
            )
        store.was_over = store.expiry.over


@frozen
class _Slice:
    """
    What was done in a slice.

    @ivar error: why not all could be done, if it could not. The pass has ended then.
    """

    removed: Sequence[Expired]
    is_more: bool
    seconds: float
    error: OSError | None = None


def _slice(backend: Backend, steps: Iterator[Expired | None]) -> _Slice:
    """
    Make steps for a short time, on a thread.

    @raise OSError: another store is in the place of this one.
    """
    began = monotonic()
    backend.refuse_other()
    removed: list[Expired] = []
    while monotonic() - began < _SLICE_S:
        try:
            step = next(steps)
        except StopIteration:
            return _Slice(removed, False, monotonic() - began)
        except OSError as e:
            return _Slice(removed, False, monotonic() - began, e)
        removed += [step] if step else []
    return _Slice(removed, True, monotonic() - began)


def make_retention(
    settings: Callable[[], Settings],
    backends: Sequence[Backend],
    on_event: Callable[[CrashEvent], None],
    reactor: Any,
) -> RetentionService | None:
    """
    Make the service for the stores that have limits; None if none has.

    @param settings: returns those that are in effect.
    """
    now = partial(datetime.now, UTC)
    stores = []
    for backend, each in zip(backends, settings().storage, strict=True):
        if limits := limits_of(each):
            assert isinstance(backend.storage, FilesystemCrashStorage)
            directory, is_primary = backend.storage.directory, backend is backends[0]
            expiry = StoreExpiry(directory, limits, partial(_waits, settings, is_primary))
            thread = ThreadPool(f"retention {backend.name}", 1, reactor.callFromThread)
            stores.append(RetainedStore(backend, expiry, SlowClock(directory, now, monotonic), thread))
    return RetentionService(stores, on_event, now, reactor) if stores else None


def limits_of(store: Storage) -> KeepLimits:
    """Return how long a store keeps crashes, by its settings."""
    return KeepLimits(
        days=store.keep_days,
        deferred_days=store.keep_deferred_days,
        max_bytes=store.keep_bytes,
        waiting=store.expire_waiting,
    )


def _waits(settings: Callable[[], Settings], is_primary: bool) -> bool:
    return settings().crashmover.moves_from(primary=is_primary)
