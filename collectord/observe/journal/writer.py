"""
The service that writes the journal: what happened to each crash, written down in the background.

The journal is a convenience, and must never hold up a crash. No crash waits for it, it is synced only now and then, and
lines that can't be written are given up when there are too many of them. The settings call it C{[ledger]}.
"""

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from collectord.concurrency.failing import FailureLog
from collectord.concurrency.tasks import spawn
from collectord.concurrency.threadpool import CallFromThread, ThreadPool
from collectord.concurrency.timeouts import with_timeout
from collectord.errors import TimedOut
from collectord.metrics import JOURNAL_FAILURES
from collectord.model import CrashEvent
from collectord.observe.journal.files import JournalFiles, compress
from collectord.observe.journal.lines import journal_day
from collectord.settings.schema import Settings

T = TypeVar("T")

_DIRECTORY = "ledger"
_INTERVAL_S = 0.25
_BATCH = 1000
"""Lines that are written at once. When so many wait they are written without waiting for the next interval."""
_LIMIT = 100_000
"""The most lines that may wait; beyond it the oldest are given up."""
_SYNC_S = 5.0
_GRACE_S = 2.0
"""For so long after the start a failure is not reported, since the store may not have been made yet."""
_PAUSE_S = 1.0
"""Seconds after a failure until the next try."""
_LATE_S = 60.0
"""A thread that has not come back after so long counts as a failure."""
_STOP_S = 5.0
_DAY_S = 24 * 3600.0


def directory_of(settings: Settings) -> Path:
    """Return where the journals are: below the root of the primary store, if the settings name no other place."""
    return (settings.ledger.directory or settings.storage[0].root / _DIRECTORY).absolute()


class JournalWriter(Service):
    """
    Writes the journals in C{directory}, on a thread of its own, and compresses and removes old ones.

    Stop it when nothing happens to crashes any more: events that come later are not written.

    @param keep_days: how long journals are kept.
    @param now: returns the time in UTC.
    @param refuse_other: called on the thread before each piece of work; raises OSError if the store in which the
        directory lies is not there, since the directory would then be made in an empty mount point. It may block.
    """

    _log = Logger()

    def __init__(
        self,
        directory: Path,
        keep_days: int,
        clock: IReactorTime,
        call_from_thread: CallFromThread,
        now: Callable[[], datetime],
        refuse_other: Callable[[], None] = lambda: None,
    ) -> None:
        self._refuse_other = refuse_other
        self._keep_days = keep_days
        self._clock = clock
        self._now = now
        self._in_thread = ThreadPool(f"journal {directory}", 1, call_from_thread)
        self._files = JournalFiles(directory)
        self._waiting: list[CrashEvent] = []
        self._lost: Counter[str] = Counter()  # Lines that were given up, by day.
        self._loop = LoopingCall(self._tick)
        self._loop.clock = clock
        self._done: Deferred[Any] = succeed(None)
        self._busy = False
        self._failures = FailureLog(self._log, "the journal", JOURNAL_FAILURES)
        self._begun = False
        self._grace_until = self._again_at = self._sync_at = self._daily_at = 0.0

    def startService(self) -> None:
        """Begin to write. At the very first start the store in which the directory lies is just being made."""
        super().startService()
        self._grace_until = self._clock.seconds() + _GRACE_S
        self._done = self._loop.start(_INTERVAL_S)

    def note(self, event: CrashEvent) -> None:
        """Take C{event}, and write it a little later. Call this on the reactor thread; it does not block."""
        self._waiting.append(event)
        if len(self._waiting) >= _BATCH:
            self._many_wait()

    def _many_wait(self) -> None:
        if len(self._waiting) > _LIMIT:
            self._lost.update(journal_day(event.crash_id) for event in self._waiting[:_BATCH])
            del self._waiting[:_BATCH]
            self._failures.failed(f"{_LIMIT:,} lines wait, and the oldest are given up")
        elif self._loop.running and not self._busy and not self._failures.is_failing:
            self._loop.stop()
            self._done = self._loop.start(_INTERVAL_S)

    def _tick(self) -> Deferred[None]:
        self._busy = True
        return spawn(self._work(), self._log, "a defect of ours: the journal could not be written")

    async def _work(self) -> None:
        try:
            if self._clock.seconds() >= self._again_at:
                await self._do_what_is_due()
                self._failures.recovered()
        except OSError as e:
            if self._begun or self._clock.seconds() >= self._grace_until:
                self._failures.failed((not e.filename and e.strerror) or str(e))
                self._again_at = self._clock.seconds() + _PAUSE_S
        finally:
            self._busy = False

    async def _do_what_is_due(self) -> None:
        await self._begin()
        await self._write()
        while len(self._waiting) >= _BATCH:
            await self._write()
        now = self._clock.seconds()
        if now >= self._sync_at:
            await self._do(lambda: self._files.sync(self._now()))
            # Set only after the sync: one that failed is tried again before the log says that all is well.
            self._sync_at = now + _SYNC_S
        if now >= self._daily_at:
            self._daily_at = now + _DAY_S
            await self._tidy()

    async def _begin(self) -> None:
        if not self._begun:
            await self._do(lambda: self._files.begin(self._now()))
            self._begun = True

    async def _write(self) -> None:
        if not self._waiting and not self._lost:
            return
        batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
        lost, self._lost = self._lost, Counter()
        try:
            await self._do(lambda: self._files.write(batch, lost, self._now()))
        except OSError:
            self._waiting[:0] = batch
            self._lost += lost
            raise

    async def _tidy(self) -> None:
        await self._do(lambda: self._files.remove_old(self._keep_days, self._now()))
        for journal in await self._do(lambda: self._files.quiet(self._now())):
            await self._do(lambda journal=journal: compress(journal))  # type: ignore[misc]
            await self._write()  # Compressing one may take a while, and lines wait meanwhile.

    async def _do(self, work: Callable[[], T]) -> T:
        """Do C{work} on the thread. No call begins before the one before has ended."""

        def checked() -> T:
            self._refuse_other()
            return work()

        late = self._clock.callLater(_LATE_S, self._failures.failed, f"the disk has not answered for {_LATE_S:g} s")
        try:
            return await self._in_thread(checked)
        finally:
            if late.active():
                late.cancel()

    def stopService(self) -> Deferred[None]:
        """Write what waits, but for no longer than 5 s."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._loop.running:
            self._loop.stop()
        try:
            await with_timeout(self._end(), _STOP_S, self._clock, "journal")
        except (TimedOut, OSError) as e:
            self._failures.failed(str(e))
        lost = len(self._waiting) + self._lost.total()
        if lost:
            self._log.error("lines of the journal that could not be written before the stop: {lost}", lost=lost)

    async def _end(self) -> None:
        await self._done
        await self._begin()
        while self._waiting or self._lost:
            await self._write()
        await self._do(lambda: self._files.end(self._now()))
