"""
Answers questions about the crashes that the index knows, on a thread of its own.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import TypeVar

from attrs import evolve, frozen
from twisted.internet.interfaces import IReactorTime

from collectord.concurrency.threadpool import ThreadPool
from collectord.concurrency.timeouts import with_timeout
from collectord.errors import IndexUnavailable, TimedOut
from collectord.index.counted import CountMemory
from collectord.index.database import asking, is_damaged, open_to_read
from collectord.index.day import DayCounts
from collectord.index.fingerprints import fingerprint_page, neighbours
from collectord.index.found import Found
from collectord.index.intake import IntakeHistory, Span
from collectord.index.search import crash_by_id, last_crashes, search
from collectord.index.top import products_seen, top_fingerprints
from collectord.index.trends import STEP_S, RecentTrends
from collectord.index.values import (
    CrashNeighbours,
    FingerprintPage,
    IndexedCrash,
    ProductsSeen,
    TopFingerprints,
    TopOrder,
)

T = TypeVar("T")

_ASK_S = 10.0
_STEPS = 100_000_000
"""How much sqlite may do to answer one question: about a second."""


@frozen(kw_only=True)
class IndexReader:
    """
    Answers as L{Index<collectord.index.asking.Index>} says. It is for the reactor thread.

    @ivar path: of the file.
    @ivar is_enabled: whether the settings want an index.
    @ivar memory: knows what was counted, as C{trends} does of the last minutes.
    @ivar in_thread: one thread.
    @ivar now: returns the time in seconds since the epoch.
    @ivar on_damage: called if the file seems to be damaged.
    """

    path: str
    is_enabled: bool
    memory: CountMemory
    trends: RecentTrends
    in_thread: ThreadPool
    now: Callable[[], float]
    clock: IReactorTime
    on_damage: Callable[[], None]

    def history(self, span: Span) -> IntakeHistory:
        """As L{Index.history<collectord.index.asking.Index.history>}."""
        return self.memory.history(span)

    def day(self) -> DayCounts:
        """As L{Index.day<collectord.index.asking.Index.day>}."""
        return self.memory.day()

    async def top(self, order: TopOrder, limit: int = 12) -> TopFingerprints:
        """As L{Index.top<collectord.index.asking.Index.top>}."""
        now = self.now()
        return await self._ask(lambda database: top_fingerprints(database, now, order, limit))

    async def last(self, limit: int = 10) -> list[IndexedCrash]:
        """As L{Index.last<collectord.index.asking.Index.last>}."""
        return await self._ask(lambda database: last_crashes(database, limit))

    async def products(self, limit: int = 8) -> ProductsSeen:
        """As L{Index.products<collectord.index.asking.Index.products>}."""
        now = self.now()
        return await self._ask(lambda database: products_seen(database, now, limit))

    async def search(self, query: str, before: str = "", limit: int = 24) -> Found:
        """As L{Index.search<collectord.index.asking.Index.search>}."""
        return await self._ask(lambda database: search(database, query, before, limit, self.clock.seconds))

    async def fingerprint(self, fingerprint: str, span: Span = "24h") -> FingerprintPage | None:
        """As L{Index.fingerprint<collectord.index.asking.Index.fingerprint>}."""
        now = self.now()
        page = await self._ask(lambda database: fingerprint_page(database, now, fingerprint, span))
        if page is None or span != "10min":
            return page
        return evolve(page, trend=self.trends.trend(now, fingerprint), step_s=STEP_S)

    async def neighbours(self, crash_id: str, fingerprint: str, limit: int = 5) -> CrashNeighbours | None:
        """As L{Index.neighbours<collectord.index.asking.Index.neighbours>}."""
        now = self.now()
        return await self._ask(lambda database: neighbours(database, now, crash_id, fingerprint, limit))

    async def crash(self, crash_id: str) -> IndexedCrash | None:
        """As L{Index.crash<collectord.index.asking.Index.crash>}."""
        return await self._ask(lambda database: crash_by_id(database, crash_id))

    async def _ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        if not self.is_enabled:
            raise IndexUnavailable("[index] enabled is false")

        def answer() -> T:
            try:
                database = open_to_read(self.path)
            except sqlite3.Error as e:
                raise IndexUnavailable(str(e)) from e
            with closing(database), asking(database, _STEPS):
                return question(database)

        try:
            return await with_timeout(self.in_thread(answer), _ASK_S, self.clock, "the index")
        except TimedOut as e:
            raise IndexUnavailable(str(e)) from e
        except IndexUnavailable as e:
            if isinstance(e.__cause__, sqlite3.Error) and is_damaged(e.__cause__):
                self.on_damage()
            raise
