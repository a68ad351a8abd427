"""
The loop over one source: it makes a pass over all new crashes every few seconds, and one at once when the collector
says that it has kept a crash.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar

from attrs import define, field
from twisted.application.service import MultiService, Service
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from collectord.concurrency.tasks import gather, spawn
from collectord.concurrency.threadpool import ThreadPool
from collectord.concurrency.timeouts import with_timeout
from collectord.crashmover.mover import Crashmover
from collectord.crashmover.sink import Sink
from collectord.errors import StorageError, TimedOut
from collectord.interfaces import ICrashPublisher, ICrashSource, ICrashStorage
from collectord.metrics import MOVING, QUARANTINED, REMOVED
from collectord.model import NewCrash

T = TypeVar("T")

SOON_S = 0.1
"""Seconds from the first crash that was kept to the pass that moves it, so that one pass finds many crashes."""
_WINDOW_S = 0.25
_BUSY = 25
"""
If this many crashes are kept within a window, the collector needs the machine: then one crash is moved at a time, with
pauses between.
"""
_BAD_IN_A_ROW = 20
"""
If this many crashes can't be moved, one after the other, the pass ends: the fault must lie with the source, and trying
all others would be in vain.
"""
_CLOSE_S = 5.0
"""Seconds that a destination or publisher may take to let go of its threads and connections."""


@define(eq=False)
class _Pass:
    """
    A pass over all new crashes of the source.

    @ivar bad_in_a_row: crashes that could not be moved, since the last one that could.
    """

    under_way: set[Deferred[None]] = field(factory=set)
    bad_in_a_row: int = 0


class CrashmoverService(Service):
    """
    This service moves the crashes of one source, again and again, for as long as it runs.

    All of it runs on the reactor thread.

    @param interval: seconds from one pass to the next.
    @param concurrency: crashes that are moved at the same time.
    @param stop: seconds that a stop waits for the moves that have begun.
    """

    _log = Logger()

    def __init__(
        self,
        mover: Crashmover,
        source: ICrashSource,
        *,
        interval: float,
        concurrency: int,
        stop: float,
        clock: IReactorTime,
    ) -> None:
        for counter in (QUARANTINED, REMOVED):
            counter.labels(
                source.name
            )  # begin the series with 0: Prometheus sees no increase in one that begins with 1
        self._mover = mover
        self._source = source
        self._interval = interval
        self._stop = stop
        self._clock = clock
        self._slots = DeferredSemaphore(concurrency)
        self._loop = LoopingCall(self._tick)
        self._loop.clock = clock
        self._pass: _Pass | None = None
        self._waiting: Deferred[Any] | None = None
        self._wake_call: IDelayedCall | None = None
        self._again = False
        self._window_began = 0.0
        self._in_window = 0
        self._busy_until = 0.0
        self._idle: Deferred[None] | None = None
        self._unlisted_why = ""  # why the source could not be listed in the last pass; empty: it could

    def startService(self) -> None:
        """Begin the first pass now."""
        super().startService()
        self._loop.start(self._interval)

    def wake(self) -> None:
        """Begin a pass soon, because the source has got a new crash."""
        now = self._clock.seconds()
        if now - self._window_began > _WINDOW_S:
            self._window_began, self._in_window = now, 0
        self._in_window += 1
        if self._in_window >= _BUSY:
            self._busy_until = now + _WINDOW_S
        if not self.running or self._wake_call is not None:
            return
        self._wake_call = self._clock.callLater(SOON_S, self._look_now)

    def _look_now(self) -> None:
        self._wake_call = None
        if self._pass is not None:
            self._again = True
        else:
            self._loop.stop()
            self._loop.start(self._interval)

    def _tick(self) -> Deferred[None]:
        return spawn(self._passes(), self._log, "a pass over {source} failed", source=self._source.name)

    async def _passes(self) -> None:
        self._again = True
        while self._again and self.running:
            self._again = False
            self._pass = _Pass()
            try:
                await self._pass_over(self._pass)
                self._listed()
            except StorageError as e:
                self._not_listed(str(e).removeprefix(f"{self._source.name}: "))
            except CancelledError:
                if self.running:
                    raise
            finally:
                await gather(self._pass.under_way)
                self._pass = None
        if self._idle is not None:
            idle, self._idle = self._idle, None
            idle.callback(None)

    def _not_listed(self, why: str) -> None:
        """Log why the source can't be listed, once for each cause: passes follow each other every few seconds."""
        if why != self._unlisted_why:
            self._log.error("{source} can't be listed: {why}", source=self._source.name, why=why)
        self._unlisted_why = why

    def _listed(self) -> None:
        if self._unlisted_why:
            self._log.info("{source} can be listed again", source=self._source.name)
        self._unlisted_why = ""

    async def _pass_over(self, now: _Pass) -> None:
        batches = self._source.new_crashes()
        while batch := await self._wait(Deferred.fromCoroutine(_next(batches))):
            for new in batch:
                if self._mover.is_backing_off(new):
                    continue
                await self._wait(Deferred.fromCoroutine(self._mover.ready()))
                if now.under_way and self._busy_until > self._clock.seconds():
                    await self._rest(now)
                await self._wait(self._slots.acquire())
                if now.bad_in_a_row >= _BAD_IN_A_ROW:
                    self._slots.release()
                    return
                self._begin(new, now)

    async def _rest(self, now: _Pass) -> None:
        """Wait for the moves under way, and leave the machine to the collector for as long as they have taken."""
        began = self._clock.seconds()
        await gather(now.under_way)
        await self._wait(deferLater(self._clock, self._clock.seconds() - began))

    async def _wait(self, until: Deferred[T]) -> T:
        """Wait for C{until}. When the service stops, this is cancelled at once, so that no new move begins."""
        self._waiting = until
        if not self.running:
            until.cancel()
        try:
            return await until
        finally:
            self._waiting = None

    def _begin(self, new: NewCrash, now: _Pass) -> None:
        move: Deferred[None] = Deferred.fromCoroutine(self._move(new, now))
        now.under_way.add(move)
        move.addBoth(lambda _: now.under_way.discard(move))

    async def _move(self, new: NewCrash, now: _Pass) -> None:
        MOVING.inc()
        try:
            moved = await self._mover.move(self._source, new)
        except CancelledError:
            self._log.warn(
                "{crash_id} was not moved before the stop; it is moved after the next start", crash_id=new.crash_id
            )
        except Exception:
            self._log.failure("{crash_id} could not be moved: an unexpected error", crash_id=new.crash_id)
            now.bad_in_a_row += 1
        else:
            now.bad_in_a_row = 0 if moved else now.bad_in_a_row + 1
        finally:
            MOVING.dec()
            self._slots.release()

    def stopService(self) -> Deferred[None] | None:
        """
        Begin no new move, and wait for those under way, C{stop} seconds at most.

        A crash that was not moved by then is still in its source, and is moved after the next start.
        """
        super().stopService()
        if self._wake_call is not None:
            self._wake_call.cancel()
            self._wake_call = None
        self._loop.stop()
        if self._pass is None:
            return None
        idle = self._idle = Deferred()
        late = self._clock.callLater(self._stop, self._cancel_moves)
        idle.addCallback(lambda _: late.cancel() if late.active() else None)
        if self._waiting is not None:
            self._waiting.cancel()
        return idle

    def _cancel_moves(self) -> None:
        for move in list(self._pass.under_way if self._pass is not None else ()):
            move.cancel()


async def _next(batches: AsyncIterator[Sequence[NewCrash]]) -> Sequence[NewCrash] | None:
    return await anext(batches, None)


class Crashmovers(MultiService):
    """
    This service runs the loops over all sources of a daemon, which are its child services.

    @param sinks: all destinations and publishers of the loops.
    @param closable: the destinations and publishers that are closed once all loops have stopped.
    @param threads: the thread pools that are closed at the same time.
    """

    _log = Logger()

    def __init__(
        self,
        sinks: Sequence[Sink],
        closable: Sequence[ICrashStorage | ICrashPublisher],
        threads: Sequence[ThreadPool],
        clock: IReactorTime,
    ) -> None:
        super().__init__()
        self._sinks = sinks
        self._closable = closable
        self._threads = threads
        self._clock = clock

    def startService(self) -> None:
        """Start the loops, and check the sinks, so that the log says now what is wrong and not with the first crash."""
        super().startService()
        for sink in self._sinks:
            spawn(sink.try_out(), self._log, "{sink} could not be checked", sink=sink.name)

    def stopService(self) -> Deferred[None]:
        """Stop the loops, then close all destinations and publishers, even if one of them fails to close."""
        return Deferred.fromCoroutine(self._stop(super().stopService()))

    async def _stop(self, stopped: Deferred[object]) -> None:
        await stopped
        for threads in self._threads:
            threads.close()
        await gather(
            spawn(self._close(each), self._log, "{name} could not be closed", name=each.name) for each in self._closable
        )

    async def _close(self, each: ICrashStorage | ICrashPublisher) -> None:
        try:
            await with_timeout(each.close(), _CLOSE_S, self._clock, each.name)
        except TimedOut as e:
            self._log.warn("could not be closed in time, and may leave threads or connections behind: {why}", why=e)
