"""
The regular look at the stores: whether they work, how much space is left, and how many crashes wait in them.

A store that takes no crashes may still be readable, and its numbers are then still shown: operators need them most when
a disk is full.
"""

import errno
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import starmap
from typing import Any

from attrs import define, evolve
from prometheus_client import Gauge
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from collectord.concurrency.sharing import SingleFlight
from collectord.concurrency.tasks import spawn
from collectord.concurrency.threadpool import ThreadPool
from collectord.concurrency.timeouts import with_timeout
from collectord.errors import StorageError, TimedOut
from collectord.metrics import BACKLOG, BACKLOG_AGE, FREE_BYTES, QUARANTINE, STORE_HEALTHY, UNPUBLISHED
from collectord.observe.storestatus import StoreFigures, StoreStatus
from collectord.storage.chain.backend import CHECK_S, Backend
from collectord.storage.filesystem.backlog import count_quarantined, count_waiting
from collectord.storage.filesystem.mounted import mount_of
from collectord.storage.filesystem.space import free_bytes, total_bytes
from collectord.storage.filesystem.unpublished import count_unpublished, left_over_in_words, without_publisher

INTERVAL_S = 10.0
_ANOTHER = (errno.ESTALE, errno.ENODEV)
"""Errors that say that something else is in the store's place now, so its numbers would be those of another."""
_SHARE = 20
"""After a count the next one waits so many times as long as it took, so that slow disks are not kept busy."""


@define
class _State:
    """
    What is known of one store.

    @ivar space: finds out how many bytes are free, on a thread.
    @ivar threads: the pool that counts.
    @ivar problem: why the store takes no crashes; empty if it does.
    @ivar oldest: when the oldest crash that waits was received, in seconds since the epoch.
    @ivar file_system: the kind of file system that it is on; empty if that is not known.
    @ivar last_known: what was known when it could be asked last.
    @ivar left_over: ids that wait for publishers that the settings do not have, by the names of these.
    @ivar count_again_at: no count is made before this time.
    """

    space: SingleFlight[int | None]
    threads: ThreadPool
    problem: str = ""
    free_bytes: int | None = None
    total_bytes: int | None = None
    backlog: int | None = None
    oldest: float | None = None
    quarantined: int | None = None
    file_system: str = ""
    last_known: StoreFigures | None = None
    left_over: Mapping[str, int] = {}
    is_counting: bool = False
    count_again_at: float = 0.0


class StoreMonitor(Service):
    """
    Checks each store every ten seconds, and counts what waits in it. A store that hangs delays no other one.

    @param min_free_bytes: with less free space a store counts as full; one number for each backend.
    @param publishers: returns the names of all publishers.
    @param is_moved: tells whether crashes of the store of that name are moved at all.
    @param now: returns the time in seconds since the epoch.
    """

    _log = Logger()

    def __init__(
        self,
        backends: Sequence[Backend],
        min_free_bytes: Sequence[int],
        is_moved: Callable[[str], bool],
        publishers: Callable[[], Collection[str]],
        now: Callable[[], float],
        reactor: Any,
    ) -> None:
        self._backends = backends
        self._min_free_bytes = min_free_bytes
        self._is_moved = is_moved
        self._publishers = publishers
        self._now = now
        self._reactor = reactor
        self._states = {backend.name: self._new_state(backend.name) for backend in backends}
        self._loops: list[LoopingCall] = []

    def _new_state(self, root: str) -> _State:
        asking = ThreadPool(f"space {root}", 1, self._reactor.callFromThread)
        counting = ThreadPool(f"count {root}", 1, self._reactor.callFromThread)
        return _State(SingleFlight(lambda: asking(partial(free_bytes, root))), counting)

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

    def stores(self) -> Sequence[StoreStatus]:
        """Return how each store was when it was checked last, in the order of the backends."""
        return [
            StoreStatus(
                name=backend.name,
                problem=state.problem,
                free_bytes=state.free_bytes,
                total_bytes=state.total_bytes,
                min_free_bytes=min_free_bytes,
                is_moved=self._is_moved(backend.name),
                backlog=state.backlog,
                oldest_age_s=self._age(state),
                quarantined=state.quarantined,
                file_system=state.file_system,
                last_known=state.last_known if state.free_bytes is None else None,
                cautions=[*backend.cautions(), *starmap(left_over_in_words, state.left_over.items())],
            )
            for backend, min_free_bytes, state in zip(
                self._backends, self._min_free_bytes, self._states.values(), strict=True
            )
        ]

    def _tick(self, backend: Backend) -> Deferred[None]:
        return spawn(self._check(backend), self._log, "{store} could not be checked", store=backend.name)

    async def _check(self, backend: Backend) -> None:
        state = self._states[backend.name]
        try:
            figures = await with_timeout(backend.storage.check(), CHECK_S, self._reactor, backend.name)
            state.problem, state.free_bytes = "", figures.get("free_bytes")
        except StorageError as e:
            state.problem = str(e).removeprefix(f"{backend.name}: ")  # It is always shown beside the name.
            try:
                state.free_bytes = await self._space_despite(e, backend, state)
            except (OSError, TimedOut):  # Nothing can be known now, and what was known before may be wrong.
                state.free_bytes = None  # The page shows what was known with its age.
                self._forget(backend.name, state)
                state.count_again_at = 0.0
                return
        finally:
            STORE_HEALTHY.labels(backend.name).set(not state.problem)
            _set_gauge(FREE_BYTES, backend.name, state.free_bytes)
            _set_gauge(BACKLOG_AGE, backend.name, None if state.backlog is None else self._age(state))
        if state.free_bytes is not None:
            state.last_known = StoreFigures(
                at=self._now(), free_bytes=state.free_bytes, backlog=state.backlog, quarantined=state.quarantined
            )
        if not state.is_counting and self._now() >= state.count_again_at:
            # The checks go on meanwhile: a count may take minutes, or for ever if the store begins to hang.
            spawn(self._count(backend.name, state), self._log, "{store} could not be counted", store=backend.name)

    async def _space_despite(self, problem: StorageError, backend: Backend, state: _State) -> int | None:
        cause = problem.__cause__
        if isinstance(cause, OSError) and cause.errno in _ANOTHER:
            raise cause
        return await with_timeout(state.space(), CHECK_S, self._reactor, backend.name)

    async def _count(self, store: str, state: _State) -> None:
        state.is_counting, began = True, self._now()
        try:
            state.total_bytes = await state.threads(partial(total_bytes, store))
            state.file_system = await state.threads(partial(_kind_of_file_system, store))
            state.quarantined = await state.threads(partial(count_quarantined, store))
            _set_gauge(QUARANTINE, store, state.quarantined)
            if self._is_moved(store):
                waiting = await state.threads(partial(count_waiting, store))
                state.backlog, state.oldest = waiting.crashes, waiting.oldest
                _set_gauge(BACKLOG, store, state.backlog)
                _set_gauge(BACKLOG_AGE, store, self._age(state))
                unpublished = await state.threads(partial(count_unpublished, store))
                _set_gauge(UNPUBLISHED, store, sum(unpublished.values()))
                self._look_for_left_over(store, state, unpublished)
            if state.last_known is not None:
                state.last_known = evolve(state.last_known, backlog=state.backlog, quarantined=state.quarantined)
        except OSError as e:
            self._log.warn("{store} could not be counted: {why}", store=store, why=e)
            self._forget(store, state)
        finally:
            state.is_counting = False
            state.count_again_at = self._now() + _SHARE * (self._now() - began)

    def _look_for_left_over(self, store: str, state: _State, unpublished: Mapping[str, int]) -> None:
        found = without_publisher(unpublished, self._publishers())
        for publisher, count in found.items():
            if publisher not in state.left_over:
                problem = left_over_in_words(publisher, count)
                self._log.warn("{store}: {problem}", store=store, problem=problem)
        state.left_over = found

    def _forget(self, store: str, state: _State) -> None:
        state.backlog = state.oldest = state.quarantined = None
        for gauge in (BACKLOG, BACKLOG_AGE, QUARANTINE, UNPUBLISHED):
            _set_gauge(gauge, store, None)

    def _age(self, state: _State) -> float:
        return 0.0 if state.oldest is None else max(0.0, self._now() - state.oldest)


def _kind_of_file_system(root: str) -> str:
    mount = mount_of(root)
    return "" if mount is None else mount.kind


def _set_gauge(gauge: Gauge, store: str, value: float | None) -> None:
    """Show C{value} of C{store}, or nothing at all if it is not known."""
    if value is not None:
        gauge.labels(store).set(value)
        return
    with suppress(KeyError):
        gauge.remove(store)
