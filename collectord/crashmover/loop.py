"""
The loop over one source: it makes a pass over all new crashes every few seconds, and one at once when the collector
says that it has kept a crash.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from collectord.concurrency.tasks import gather, spawn
from collectord.crashmover.mover import Crashmover
from collectord.crashmover.pace import STEP_S, Pace
from collectord.errors import StorageError
from collectord.interfaces import ICrashSource
from collectord.metrics import MOVED, MOVING, QUARANTINED
from collectord.model import NewCrash

T = TypeVar("T")

SOON_S = 0.1
"""Seconds from the first crash that was kept to the pass that moves it, so that one pass finds many crashes."""
_LISTING = 4
"""
A wake begins a pass only after this many times the seconds that the last one took to list the source. So a long list of
crashes that have to wait is not read again for each new one.
"""
_BAD_IN_A_ROW = 20
"""
If this many crashes can't be moved, one after the other, the pass ends: the fault must lie with the source, and trying
all others would be in vain.
"""


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
    @param pace: how many crashes are moved at the same time.
    @param stop: seconds that a stop waits for the moves that have begun.
    """

    _log = Logger()

    def __init__(
        self,
        mover: Crashmover,
        source: ICrashSource,
        *,
        interval: float,
        pace: Pace,
        stop: float,
        clock: IReactorTime,
    ) -> None:
        for counter in (QUARANTINED, MOVED):
            counter.labels(
                source.name
            )  # begin the series with 0: Prometheus sees no increase in one that begins with 1
        self._mover = mover
        self._source = source
        self._interval = interval
        self._stop = stop
        self._clock = clock
        self._pace = pace
        self._loop = LoopingCall(self._tick)
        self._loop.clock = clock
        self._pass: _Pass | None = None
        self._waiting: Deferred[Any] | None = None
        self._wake_call: IDelayedCall | None = None
        self._again = False
        self._freed: Deferred[None] | None = None  # a pass waits for the end of a move
        self._rest_s = 0.0  # before the next move
        self._listing_s = 0.0  # what the last pass took to list the source
        self._idle: Deferred[None] | None = None
        self._unlisted_why = ""  # why the source could not be listed in the last pass; empty: it could

    def startService(self) -> None:
        """Begin the first pass now."""
        super().startService()
        self._loop.start(self._interval)

    def wake(self, count: int = 1) -> None:
        """Begin a pass soon, because the source has got so many new crashes."""
        self._pace.came(count)
        if not self.running or self._wake_call is not None:
            return
        self._wake_call = self._clock.callLater(max(SOON_S, _LISTING * self._listing_s), self._look_now)

    def left(self) -> None:
        """Note that another process has moved a crash out of the source."""
        self._pace.went()

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
        self._listing_s = 0.0
        while batch := await self._listed_next(batches):
            for new in batch:
                if self._mover.is_backing_off(new):
                    continue
                await self._wait(Deferred.fromCoroutine(self._mover.ready()))
                await self._room(now)
                if now.bad_in_a_row >= _BAD_IN_A_ROW:
                    return
                self._begin(new, now)

    async def _listed_next(self, batches: AsyncIterator[Sequence[NewCrash]]) -> Sequence[NewCrash] | None:
        began = self._clock.seconds()
        batch = await self._wait(Deferred.fromCoroutine(_next(batches)))
        self._listing_s += self._clock.seconds() - began
        return batch

    async def _room(self, now: _Pass) -> None:
        """Return once one more crash may be moved."""
        while len(now.under_way) >= min(self._pace.width(), self._mover.at_once):
            await self._end_of_a_move()
        rest, self._rest_s = self._rest_s, 0.0
        if rest:
            await self._wait(deferLater(self._clock, rest))

    async def _end_of_a_move(self) -> None:
        """Return once a move has ended, or after a while: then more may be moved at the same time than before."""
        step = self._clock.callLater(STEP_S, self._free)
        self._freed = Deferred()
        try:
            await self._wait(self._freed)
        finally:
            self._freed = None
            if step.active():
                step.cancel()

    def _free(self) -> None:
        if self._freed is not None and not self._freed.called:
            self._freed.callback(None)

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
        move.addBoth(lambda _: self._ended(move, now))

    def _ended(self, move: Deferred[None], now: _Pass) -> None:
        now.under_way.discard(move)
        self._free()

    async def _move(self, new: NewCrash, now: _Pass) -> None:
        MOVING.inc()
        began = self._clock.seconds()
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
            now.bad_in_a_row = 0 if moved or self._mover.is_waiting(new) else now.bad_in_a_row + 1
            if moved:
                self._pace.went()
        finally:
            MOVING.dec()
            self._rest_s = self._pace.rest_after(self._clock.seconds() - began)

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
