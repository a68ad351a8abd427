"""
Looks at the stores now and then: whether they are well, and what waits in them.

What can still be read of a store that takes nothing is still told: a full disk is when everybody looks.
"""

import errno
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from attrs import define
from prometheus_client import Gauge
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from collectord.concurrency.tasks import spawn
from collectord.concurrency.threadpool import ThreadPool
from collectord.concurrency.timeouts import SingleFlight, with_timeout
from collectord.errors import StorageError, StoreTimeout
from collectord.metrics import BACKLOG, BACKLOG_AGE, FREE_BYTES, QUARANTINE, STORE_HEALTHY
from collectord.observe.status import Store
from collectord.storage.chain.chain import CHECK_S, Backend
from collectord.storage.filesystem.backlog import count_quarantined, count_waiting
from collectord.storage.filesystem.space import free_bytes

INTERVAL_S = 10.0
_ANOTHER = (errno.ESTALE, errno.ENODEV)
"""What is there now is not this store: nothing that can be read there is true of it."""
_SHARE = 20
"""A count that takes long is made so seldom that it takes this part of the time, at most."""


@define
class _Seen:
    """
    What is known of a store.

    @ivar space: asks how much is free, on a thread.
    @ivar threads: that count.
    """

    space: SingleFlight[int | None]
    threads: ThreadPool
    problem: str = ""
    free_bytes: int | None = None
    backlog: int | None = None
    oldest: float | None = None
    quarantined: int | None = None
    counting: bool = False
    count_again_at: float = 0.0


class StoreMonitor(Service):
    """
    Each store is looked at by itself: one that hangs holds up no other.

    @param min_free_bytes: of each link.
    @param is_moved: whether crashes of the store of that name are moved at all.
    @param now: seconds since the epoch.
    """

    _log = Logger()

    def __init__(
        self,
        backends: Sequence[Backend],
        min_free_bytes: Sequence[int],
        is_moved: Callable[[str], bool],
        now: Callable[[], float],
        reactor: Any,
    ) -> None:
        self._backends = backends
        self._min_free_bytes = min_free_bytes
        self._is_moved = is_moved
        self._now = now
        self._reactor = reactor
        self._seen = {backend.name: self._nothing_of(backend.name) for backend in backends}
        self._loops: list[LoopingCall] = []

    def _nothing_of(self, root: str) -> _Seen:
        asking = ThreadPool(f"space {root}", 1, self._reactor.callFromThread)
        counting = ThreadPool(f"count {root}", 1, self._reactor.callFromThread)
        return _Seen(SingleFlight(lambda: asking(partial(free_bytes, root))), counting)

    def startService(self) -> None:
        super().startService()
        for backend in self._backends:
            loop = LoopingCall(self._tick, backend)
            loop.clock = self._reactor
            self._loops.append(loop)
            loop.start(INTERVAL_S)

    def stopService(self) -> None:
        super().stopService()
        for loop in self._loops:
            loop.stop()
        self._loops.clear()

    def stores(self) -> Sequence[Store]:
        """How they were when they were looked at last."""
        return [
            Store(
                name=backend.name,
                problem=seen.problem,
                free_bytes=seen.free_bytes,
                min_free_bytes=min_free_bytes,
                backlog=seen.backlog,
                oldest_age_s=self._age(seen),
                quarantined=seen.quarantined,
                cautions=backend.cautions(),
            )
            for backend, min_free_bytes, seen in zip(
                self._backends, self._min_free_bytes, self._seen.values(), strict=True
            )
        ]

    def _tick(self, backend: Backend) -> Deferred[None]:
        return spawn(self._look(backend), self._log, "{store} could not be looked at", store=backend.name)

    async def _look(self, backend: Backend) -> None:
        seen = self._seen[backend.name]
        try:
            figures = await with_timeout(backend.storage.check(), CHECK_S, self._reactor, backend.name)
            seen.problem, seen.free_bytes = "", figures.get("free_bytes")
        except StorageError as e:
            seen.problem = str(e)
            try:
                seen.free_bytes = await self._space_despite(e, backend, seen)
            except (OSError, StoreTimeout):  # nobody knows; what was known is no answer
                seen.free_bytes = None
                self._forget(backend.name, seen)
                seen.count_again_at = 0.0
                return
        finally:
            STORE_HEALTHY.labels(backend.name).set(not seen.problem)
            _tell(FREE_BYTES, backend.name, seen.free_bytes)
            _tell(BACKLOG_AGE, backend.name, None if seen.backlog is None else self._age(seen))
        if not seen.counting and self._now() >= seen.count_again_at:
            # Nobody waits for it: it may take minutes, and longer where the store begins to hang.
            spawn(self._count(backend.name, seen), self._log, "{store} could not be counted", store=backend.name)

    async def _space_despite(self, problem: StorageError, backend: Backend, seen: _Seen) -> int | None:
        cause = problem.__cause__
        if isinstance(cause, OSError) and cause.errno in _ANOTHER:
            raise cause
        return await with_timeout(seen.space(), CHECK_S, self._reactor, backend.name)

    async def _count(self, store: str, seen: _Seen) -> None:
        seen.counting, began = True, self._now()
        try:
            seen.quarantined = await seen.threads(partial(count_quarantined, store))
            _tell(QUARANTINE, store, seen.quarantined)
            if self._is_moved(store):
                waiting = await seen.threads(partial(count_waiting, store))
                seen.backlog, seen.oldest = waiting.crashes, waiting.oldest
                _tell(BACKLOG, store, seen.backlog)
                _tell(BACKLOG_AGE, store, self._age(seen))
        except OSError as e:
            self._log.warn("{store} could not be counted: {why}", store=store, why=e)
            self._forget(store, seen)
        finally:
            seen.counting = False
            seen.count_again_at = self._now() + _SHARE * (self._now() - began)

    def _forget(self, store: str, seen: _Seen) -> None:
        seen.backlog = seen.oldest = seen.quarantined = None
        for gauge in (BACKLOG, BACKLOG_AGE, QUARANTINE):
            _tell(gauge, store, None)

    def _age(self, seen: _Seen) -> float:
        return 0.0 if seen.oldest is None else max(0.0, self._now() - seen.oldest)


def _tell(gauge: Gauge, store: str, value: float | None) -> None:
    if value is not None:
        gauge.labels(store).set(value)
        return
    with suppress(KeyError):
        gauge.remove(store)
