"""
Moves one crash: it is loaded, saved in every destination, published, and only then removed from its source.

If a move fails half way, the steps that succeeded are remembered for as long as the process lives. After a restart they
are done again, which does no harm.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from attrs import define, field
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from collectord.concurrency.backoff import backoff_delay
from collectord.crashmover.sink import FIRST_PAUSE_S, Sink, SinkError
from collectord.errors import CrashRejectedByStore, StorageError, UnclearRefusal, UnreadableCrash
from collectord.interfaces import ICrashSource
from collectord.metrics import QUARANTINED, REMOVED
from collectord.model import Crash, CrashEvent, NewCrash, Step

_DEFERRED = 1
"""The C{legacy_processing} of a crash that is kept and not to be processed."""
_LONGEST_S = 3600.0
"""The longest pause before one crash is tried again."""
_PATIENCE = 5
"""A crash that can't be read, or is rejected, more often than this, while others aren't, goes to the quarantine."""
_LONG_PATIENCE = 11
"""
The same for a crash that a destination refuses with an answer like 403 or 500, which seldom is the fault of the crash.
With the pauses between, this takes more than an hour.
"""
_REMEMBERED = 100_000
"""The most unfinished moves that are remembered, to bound the memory."""


@define
class _OwnFaults:
    """
    Counts the failures of one crash between which other crashes did not fail in the same way.

    If no other crash succeeded in between, the source or the destination is at fault, not the crash.

    @ivar most: with how many the crash is not at fault yet.
    @ivar others: how many crashes had succeeded when this one failed the last time.
    """

    most: int = _PATIENCE
    count: int = 0
    others: int = -1

    def are_too_many(self, others: int) -> bool:
        """Count one more failure. C{others} is the number of crashes that have succeeded by now."""
        self.count += self.others != others
        self.others = others
        return self.count > self.most


@define
class _Unfinished:
    """
    The state of a move that has failed and will be tried again.

    @ivar done: the sinks that have confirmed the crash.
    @ivar source_version: the version of the crash that they have confirmed: see L{Crash.source_version}.
    @ivar failures: how often the move has failed.
    @ivar unread: the times, one after the other, when the crash could not be read.
    @ivar rejected: the times when a destination rejected it.
    @ivar refused: the times when one refused it, and perhaps was at fault itself.
    @ivar again_at: the crash is not tried again before this time.
    """

    done: set[Sink] = field(factory=set)
    source_version: tuple[int, ...] | None = None
    failures: int = 0
    unread: _OwnFaults = field(factory=_OwnFaults)
    rejected: _OwnFaults = field(factory=_OwnFaults)
    refused: _OwnFaults = field(factory=partial(_OwnFaults, _LONG_PATIENCE))
    again_at: float = 0.0

    def is_at_fault(self, error: Exception, others: int) -> bool:
        """
        Note that a sink did not take the crash, and tell whether that is the fault of the crash by now.

        @param others: how many crashes the sinks have taken by now.
        """
        match error:
            case CrashRejectedByStore():
                return self.rejected.are_too_many(others)
            case UnclearRefusal():
                return self.refused.are_too_many(others)
        return False


class Crashmover:
    """
    A crashmover moves single crashes out of one source, and remembers which of them failed.

    All of it runs on the reactor thread.

    @param destinations: all of them get every crash, in this order.
    @param publishers: all of them get the id of every crash that is to be processed.
    @param keep: leave the files of a crash that was moved in the source.
    @param chance: returns a random number from 0 to 1.
    @param on_event: is called for each step of a crash.
    @param now: returns the seconds since the epoch.
    """

    _log = Logger()

    def __init__(
        self,
        destinations: Sequence[Sink],
        publishers: Sequence[Sink],
        *,
        keep: bool,
        clock: IReactorTime,
        chance: Callable[[], float],
        on_event: Callable[[CrashEvent], None],
        now: Callable[[], float],
    ) -> None:
        self._on_event = on_event
        self._now = now
        self._destinations = destinations
        self._publishers = publishers
        self._keep = keep
        self._clock = clock
        self._chance = chance
        self._unfinished: OrderedDict[str, _Unfinished] = OrderedDict()
        self._loaded = 0  # these two tell whether other crashes succeeded between two attempts at one
        self._delivered = 0

    async def ready(self) -> None:
        """Return once every destination and publisher is ready to be tried, however long that takes."""
        for sink in (*self._destinations, *self._publishers):
            await sink.ready()

    def is_backing_off(self, new: NewCrash) -> bool:
        """Tell whether C{new} has failed a short time ago and is not to be tried yet."""
        unfinished = self._unfinished.get(new.crash_id)
        return unfinished is not None and unfinished.again_at > self._clock.seconds()

    async def move(self, source: ICrashSource, new: NewCrash) -> bool:
        """
        Move C{new} out of C{source}.

        If anything goes wrong, the crash is still in its source, or in the quarantine there. May be cancelled.

        @return: False if the crash was not moved now and will be tried again.
        """
        began = self._clock.seconds()
        unfinished = self._unfinished.pop(new.crash_id, None) or _Unfinished()
        try:
            crash = await source.load(new)
        except UnreadableCrash as e:
            return await self._quarantine(source, new, str(e), unfinished)
        except StorageError as e:
            if unfinished.unread.are_too_many(self._loaded):
                return await self._quarantine(source, new, str(e), unfinished)
            return self._back_off(new, unfinished, e)
        if crash is None:
            return True
        self._loaded += 1
        unfinished.unread = _OwnFaults()
        if crash.source_version != unfinished.source_version:
            # Another crash has taken its place, or another process has acknowledged it since. That process may be a
            # destination which has moved the crash back to here, so what the sinks confirmed before no longer counts.
            unfinished.source_version = crash.source_version
            unfinished.done.clear()
        sinks = self._sinks(crash)
        try:
            for sink in sinks:
                if sink not in unfinished.done:
                    await sink.deliver(crash)
                    unfinished.done.add(sink)
                    self._notify(new, sink.kind, sink.name)
            self._delivered += 1
            await source.remove(new, crash, keep=self._keep)
        except SinkError as e:
            if unfinished.is_at_fault(e, self._delivered):
                return await self._quarantine(source, new, str(e), unfinished)
            return self._back_off(new, unfinished, e)
        if not self._keep:
            self._notify(new, "removed", source.name)
            REMOVED.labels(source.name).inc()
        self._log.info(
            "{crash_id} moved to {sinks} after {ms} ms",
            crash_id=new.crash_id,
            sinks=", ".join(sink.name for sink in sinks),
            ms=round((self._clock.seconds() - began) * 1000, 1),
        )
        return True

    def _notify(self, new: NewCrash, kind: Step, where: str) -> None:
        self._on_event(CrashEvent(at=self._now(), crash_id=new.crash_id, kind=kind, where=where))

    def _sinks(self, crash: Crash) -> Sequence[Sink]:
        deferred = crash.raw_crash.get("legacy_processing") == _DEFERRED
        return [*self._destinations, *(() if deferred else self._publishers)]

    async def _quarantine(self, source: ICrashSource, new: NewCrash, reason: str, unfinished: _Unfinished) -> bool:
        try:
            await source.quarantine(new, reason)
        except StorageError as e:
            return self._back_off(new, unfinished, e)
        self._notify(new, "quarantined", source.name)
        QUARANTINED.labels(source.name).inc()
        self._log.error("{crash_id} is in the quarantine: {why}", crash_id=new.crash_id, why=reason)
        return True

    def _back_off(self, new: NewCrash, unfinished: _Unfinished, error: Exception) -> Literal[False]:
        unfinished.failures += 1
        pause = backoff_delay(unfinished.failures, first=FIRST_PAUSE_S, longest=_LONGEST_S, chance=self._chance())
        unfinished.again_at = self._clock.seconds() + pause
        self._unfinished[new.crash_id] = unfinished
        if len(self._unfinished) > _REMEMBERED:
            self._unfinished.popitem(last=False)
        self._log.warn(
            "{crash_id} could not be moved; trying again in {pause:.1f} s: {why}",
            crash_id=new.crash_id,
            pause=pause,
            why=error,
        )
        return False
