"""
The index as a service: it takes what happens, and has it written on a thread.

It is a convenience, and must never hold up a crash. Nothing waits for it, what waits for it is bounded, and a failure
is told once.
"""

import sqlite3
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from collectord.concurrency.failing import FailureLog
from collectord.concurrency.tasks import spawn
from collectord.concurrency.threadpool import ThreadPool
from collectord.concurrency.timeouts import with_timeout
from collectord.errors import TimedOut
from collectord.index.counted import CountedSoFar, CountMemory
from collectord.index.gap import Gap
from collectord.index.products import ProductCounter
from collectord.index.reader import IndexReader
from collectord.index.tally import ReportTally, Tally
from collectord.index.trends import RecentTrends
from collectord.index.writer import IndexFile, index_path
from collectord.metrics import INDEX_FAILURES
from collectord.model import CrashEvent
from collectord.telling import SeenReport

_INTERVAL_S = 1.0
_SOON_S = 0.1
"""The interval while there is more to do than to write what happens: a gap is being filled."""
_TALLY_S = 5.0
_HISTORY_S = 60.0
_PAUSE_S = 5.0
"""Seconds after a failure until the next try."""
_LIMIT = 50_000
"""The most events that may wait; beyond it the oldest are given up, and are read from the journal later."""
_TALLIES = 1000
_STOP_S = 5.0
_TELL_S = 10.0
"""While a gap is being filled the log says how far that is, so often."""


class CrashIndex(Service):
    """
    Keeps the index. It is for the reactor thread.

    Stop it when nothing happens to crashes any more.

    @ivar reader: answers questions.

    @param directory: where its files are.
    @param file: writes the index; None if the settings want none.
    @param counted: returns what all processes have counted.
    @param products: counts reports by product.
    @param writing: one thread, which is ended at a stop, as that of C{reading}.
    @param now: returns the time in seconds since the epoch.
    """

    _log = Logger()

    def __init__(
        self,
        directory: str,
        file: IndexFile | None,
        counted: Callable[[], CountedSoFar],
        products: ProductCounter,
        writing: ThreadPool,
        reading: ThreadPool,
        now: Callable[[], float],
        clock: IReactorTime,
    ) -> None:
        self._file = file
        self._products = products
        self._now = now
        self._clock = clock
        self._writing = writing
        self._memory = CountMemory(directory, counted, writing, now)
        self._trends = RecentTrends(now())
        self.reader = IndexReader(
            path=index_path(directory),
            is_enabled=file is not None,
            memory=self._memory,
            trends=self._trends,
            in_thread=reading,
            now=now,
            clock=clock,
            on_damage=lambda: None if file is None else file.doubt(),
        )
        self._own = ReportTally()
        self._events: list[CrashEvent] = []
        self._tallies: list[Tally] = []
        self._lost_since: float | None = None
        self._loop = LoopingCall(self._tick)
        self._loop.clock = clock
        self._done: Deferred[Any] = succeed(None)
        self._failures = FailureLog(self._log, "the index of crashes", INDEX_FAILURES)
        self._save_failures = FailureLog(self._log, "what was counted", INDEX_FAILURES)
        self._has_more = False
        self._gap: Gap | None = None
        self._again_at = self._tally_at = self._history_at = self._tell_at = 0.0

    # What happens

    def note(self, event: CrashEvent) -> None:
        """Take what has happened to a crash, and write it a little later."""
        self._events.append(event)
        if len(self._events) > _LIMIT:
            self._lost_since = min(self._lost_since or event.at, *(each.at for each in self._events[: _LIMIT // 2]))
            del self._events[: _LIMIT // 2]

    def note_seen(self, report: SeenReport) -> None:
        """Count a report that this process has received."""
        self._own.note(report)

    def note_tally(self, tally: Tally) -> None:
        """Count what another process has received."""
        self._products.note(tally)
        self._trends.note(self._now(), tally)
        self._tallies.append(tally)
        del self._tallies[:-_TALLIES]

    # Writing

    def startService(self) -> None:
        super().startService()
        self._done = self._loop.start(_INTERVAL_S)

    def _tick(self) -> Deferred[None]:
        return spawn(self._work(), self._log, "a defect of ours: the index of crashes could not be written")

    async def _work(self) -> None:
        now = self._clock.seconds()
        if now >= self._tally_at:
            await self._record(now)
        if now < self._again_at:
            return
        try:
            await self._write()
            self._failures.recovered()
        except (OSError, sqlite3.Error) as e:
            self._failures.failed(str(e))
            self._again_at = self._clock.seconds() + _PAUSE_S
        self._loop.interval = _SOON_S if self._has_more and not self._failures.is_failing else _INTERVAL_S

    async def _record(self, now: float) -> None:
        """Count what has come in."""
        first, self._tally_at = not self._tally_at, now + _TALLY_S
        tally = self._own.take()
        if tally[0]:
            self.note_tally(tally)
        if first:
            await self._memory.load()
        self._memory.note()
        if now >= self._history_at:
            self._history_at = now + _HISTORY_S
            if not first:
                await self._save()

    async def _save(self) -> None:
        try:
            await self._memory.save()
            self._save_failures.recovered()
        except OSError as e:
            self._save_failures.failed(str(e))

    async def _write(self) -> None:
        file = self._file
        if file is None:
            self._events.clear()
            self._tallies.clear()
            return
        now = self._now()
        events, self._events = self._events, []
        tallies, self._tallies = self._tallies, []
        lost_since, self._lost_since = self._lost_since, None
        try:
            await self._writing(lambda: file.write(events, tallies, lost_since, now))
        except (OSError, sqlite3.Error):
            self._events[:0], self._tallies[:0] = events, tallies
            self._lost_since = self._lost_since if lost_since is None else lost_since
            raise
        self._has_more = await self._writing(lambda: file.tidy(now))
        self._tell(file)

    def _tell(self, file: IndexFile) -> None:
        """Say in the log that the file was made anew, and how far that is."""
        now = self._clock.seconds()
        if file.was_made:
            self._log.warn("the index of crashes is made anew: {why}", why=file.was_made)
            file.was_made = ""
        if file.gap is not self._gap:
            self._gap, self._tell_at = file.gap, now + _TELL_S
        elif file.gap is not None and now >= self._tell_at:
            self._tell_at = now + _TELL_S
            self._tell_gap("the index of crashes is being made again", file.gap)
        if file.filled is not None:
            if file.filled.stored or (file.filled.is_of_all and file.filled.events):
                self._tell_gap("the index of crashes is complete again", file.filled)
            file.filled = None

    def _tell_gap(self, what: str, gap: Gap) -> None:
        text = ": {events} lines of the journal, and {stored} crashes that only the stores had"
        self._log.info(what + text, events=gap.events, stored=gap.stored)

    def stopService(self) -> Deferred[None]:
        """Write what waits, but for no longer than 5 s."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._loop.running:
            self._loop.stop()
        try:
            await with_timeout(self._end(), _STOP_S, self._clock, "index of crashes")
        except (TimedOut, OSError, sqlite3.Error) as e:
            self._failures.failed(str(e))
        self._writing.close()
        self.reader.in_thread.close()

    async def _end(self) -> None:
        await self._done
        self._history_at = 0.0
        await self._record(self._clock.seconds())
        await self._write()
        if self._file is not None:
            await self._writing(self._file.close)
