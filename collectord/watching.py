"""
Looks at the stores now and then: whether they are well, and what waits in them.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from attrs import define
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from collectord.errors import StorageError, TookTooLong
from collectord.metrics import BACKLOG, BACKLOG_AGE, FREE_BYTES, QUARANTINE
from collectord.observe.overview import Store
from collectord.patience import within
from collectord.storage.counting import count_quarantined, count_waiting
from collectord.storage.fallback import CHECK_S, Link
from collectord.threads import Workers

INTERVAL_S = 10.0
_SHARE = 20
"""A count that takes long is made so seldom that it takes this part of the time, at most."""
_COUNT_S = 3600.0


@define
class _Seen:
    problem: str = ""
    free_bytes: int | None = None
    backlog: int | None = None
    oldest: float | None = None
    quarantined: int = 0
    count_again_at: float = 0.0


class StoreWatch(Service):
    """
    Each store is looked at by itself: one that hangs holds up no other.

    @param min_free_bytes: of each link.
    @param is_moved: whether crashes of the store of that name are moved at all.
    @param now: seconds since the epoch.
    """

    _log = Logger()

    def __init__(
        self,
        links: Sequence[Link],
        min_free_bytes: Sequence[int],
        is_moved: Callable[[str], bool],
        now: Callable[[], float],
        reactor: Any,
    ) -> None:
        self._links = links
        self._min_free_bytes = min_free_bytes
        self._is_moved = is_moved
        self._now = now
        self._reactor = reactor
        self._seen = {link.name: _Seen() for link in links}
        self._loops: list[LoopingCall] = []

    def startService(self) -> None:
        super().startService()
        for link in self._links:
            threads = Workers(f"count {link.name}", 1, self._reactor.callFromThread)
            loop = LoopingCall(self._tick, link, threads)
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
        now = self._now()
        return [
            Store(
                name=link.name,
                problem=seen.problem,
                free_bytes=seen.free_bytes,
                min_free_bytes=min_free_bytes,
                backlog=seen.backlog,
                oldest_age_s=0.0 if seen.oldest is None else max(0.0, now - seen.oldest),
                quarantined=seen.quarantined,
                cautions=link.cautions(),
            )
            for link, min_free_bytes, seen in zip(self._links, self._min_free_bytes, self._seen.values(), strict=True)
        ]

    def _tick(self, link: Link, threads: Workers) -> Deferred[None]:
        return Deferred.fromCoroutine(self._look(link, threads)).addErrback(
            lambda failure: self._log.failure("{store} could not be looked at", failure, store=link.name)
        )

    async def _look(self, link: Link, threads: Workers) -> None:
        seen = self._seen[link.name]
        try:
            figures = await within(link.storage.check(), CHECK_S, self._reactor, link.name)
        except StorageError as e:
            seen.problem, seen.free_bytes, seen.backlog = str(e), None, None
            for gauge in (FREE_BYTES, BACKLOG, BACKLOG_AGE, QUARANTINE):
                with suppress(KeyError):  # nobody knows; what was known is no answer
                    gauge.remove(link.name)
            seen.count_again_at = 0.0
            return
        seen.problem, seen.free_bytes = "", figures.get("free_bytes")
        if seen.free_bytes is not None:
            FREE_BYTES.labels(link.name).set(seen.free_bytes)
        else:
            with suppress(KeyError):
                FREE_BYTES.remove(link.name)
        if self._now() < seen.count_again_at:
            return
        began = self._now()
        try:
            await within(self._count(link, seen, threads), _COUNT_S, self._reactor, link.name)
        except (OSError, TookTooLong) as e:
            self._log.warn("{store} could not be counted: {why}", store=link.name, why=e)
        seen.count_again_at = self._now() + _SHARE * (self._now() - began)

    async def _count(self, link: Link, seen: _Seen, threads: Workers) -> None:
        seen.quarantined = await threads(partial(count_quarantined, link.name))
        QUARANTINE.labels(link.name).set(seen.quarantined)
        if self._is_moved(link.name):
            waiting = await threads(partial(count_waiting, link.name))
            seen.backlog, seen.oldest = waiting.crashes, waiting.oldest
            BACKLOG.labels(link.name).set(waiting.crashes)
            BACKLOG_AGE.labels(link.name).set(0 if waiting.oldest is None else max(0.0, self._now() - waiting.oldest))
