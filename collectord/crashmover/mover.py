"""
Moves one crash: it is loaded, saved in every destination, published, and only then removed from its source.

If a destination fails, the crash goes to the others all the same, and which of them have it is remembered for as long
as the process lives. After a restart they get it again, which does no harm. If a publisher fails, the source remembers
what is to be published, and the crash need not stay for that.
"""

from collections.abc import Callable, Sequence
from typing import Literal

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger, LogLevel

from collectord.concurrency.backoff import backoff_delay
from collectord.crashmover.sink import FIRST_PAUSE_S, Sink, SinkError
from collectord.crashmover.unfinished import OwnFaults, Unfinished, UnfinishedMoves
from collectord.errors import CrashGone, CrashRejectedByStore, IdRefused, StorageError, UnreadableCrash
from collectord.interfaces import ICrashSource
from collectord.metrics import MOVED, QUARANTINED, series
from collectord.model import Crash, CrashEvent, NewCrash, Step
from collectord.stepdetails import sent_details

_DEFERRED = 1
"""The C{legacy_processing} of a crash that is kept and not to be processed."""
_LONGEST_S = 3600.0
"""The longest pause before one crash is tried again."""
_REFUSED_S = 300.0
"""The same for an id that a queue refuses, which may have room again at any time."""
_REASON = 300
"""The most characters of why a crash was put into the quarantine that others are told."""
_PUBLISH_S = 5.0
"""Seconds that a crash waits for its id to be confirmed. Then that is remembered, and others can be moved."""


class Crashmover:
    """
    A crashmover moves single crashes out of one source, and remembers which of them failed.

    All of it runs on the reactor thread.

    @param destinations: all of them get every crash, in this order.
    @param publishers: all of them get the id of every crash that is to be processed.
    @param keep: leave the files of a crash that was moved in the source.
    @param on_remembered: is called with the name of a publisher when the source remembers an id for it.
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
        on_remembered: Callable[[str], None],
        now: Callable[[], float],
    ) -> None:
        self._on_event = on_event
        self._on_remembered = on_remembered
        self._now = now
        self._destinations = destinations
        self._publishers = publishers
        self._keep = keep
        self._clock = clock
        self._chance = chance
        self._unfinished = UnfinishedMoves()
        self._loaded = 0  # these two tell whether other crashes succeeded between two attempts at one
        self._delivered = 0

    @property
    def at_once(self) -> int:
        """How many crashes may be moved at the same time, as far as the destinations and publishers go."""
        return min(sink.at_once for sink in (*self._destinations, *self._publishers))

    async def ready(self) -> None:
        """
        Return once a destination is ready to be tried, however long that takes.

        If many crashes wait for a destination that is away, this waits for all destinations: no more can be remembered.
        """
        for sink in (*self._publishers, *self._destinations):
            await sink.try_out()
        if self._unfinished.are_too_many:
            for sink in self._destinations:
                await sink.ready()
        elif not any(sink.is_available for sink in self._destinations):
            await _any_of([Deferred.fromCoroutine(sink.ready()) for sink in self._destinations])

    def is_backing_off(self, new: NewCrash) -> bool:
        """Tell whether C{new} is not to be tried yet: it has failed, or a destination that it waits for is away."""
        unfinished = self._unfinished.get(new.crash_id)
        return unfinished is not None and (unfinished.again_at > self._clock.seconds() or unfinished.is_waiting)

    def is_waiting(self, new: NewCrash) -> bool:
        """Tell whether nothing is wrong with C{new} but that a destination is away, or a queue refuses its id."""
        unfinished = self._unfinished.get(new.crash_id)
        return unfinished is not None and (bool(unfinished.missing) or unfinished.is_refused)

    async def move(self, source: ICrashSource, new: NewCrash) -> bool:
        """
        Move C{new} out of C{source}.

        If anything goes wrong, the crash is still in its source, or in the quarantine there. May be cancelled.

        @return: False if the crash was not moved now and will be tried again.
        """
        unfinished = self._unfinished.take(new.crash_id)
        unfinished.missing = ()
        try:
            moved = await self._load_and_move(source, new, unfinished)
        except CancelledError:  # the process ends, or the crashmover that replaces this one has its claims
            raise
        except CrashGone as e:
            self._log.info("{why}", why=e)
            await source.release(new)
            return True
        except Exception:
            await source.release(new)
            raise
        if not moved and not unfinished.is_delivered:
            # Otherwise another process would deliver it once more.
            await source.release(new)
        return moved

    async def _load_and_move(self, source: ICrashSource, new: NewCrash, unfinished: Unfinished) -> bool:
        began = self._clock.seconds()
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
        unfinished.unread = OwnFaults()
        if crash.source_version != unfinished.source_version:
            # Another crash has taken its place, or another process has acknowledged it since. That process may be a
            # destination which has moved the crash back to here, so what the sinks confirmed before no longer counts.
            unfinished.source_version = crash.source_version
            unfinished.done.clear()
            unfinished.is_delivered = False
        try:
            if not await self._deliver(source, new, crash, unfinished):
                return False
            published = await self._publish(source, new, crash, unfinished)
            self._delivered += 1
            unfinished.is_delivered = True
            await source.remove(new, crash, keep=self._keep)
        except SinkError as e:
            if unfinished.is_at_fault(e, self._delivered):
                return await self._quarantine(source, new, str(e), unfinished)
            return self._back_off(new, unfinished, e)
        if self._destinations[0].kind == "moved":
            series(MOVED, source.name).inc()
        if not self._keep:
            self._notify(new, "removed", source.name)
        self._log.info(
            "{crash_id} {done} to {sinks} after {ms} ms",
            crash_id=new.crash_id,
            done=self._destinations[0].kind,
            sinks=", ".join(sink.name for sink in (*self._destinations, *published)),
            ms=round((self._clock.seconds() - began) * 1000, 1),
        )
        return True

    async def _deliver(self, source: ICrashSource, new: NewCrash, crash: Crash, unfinished: Unfinished) -> bool:
        """
        Deliver a crash to each destination that is not away, whether or not others take it.

        @return: whether all destinations have it now. If not, it waits for those that are away.

        @raise SinkError: a destination did not take it.
        """
        failed: list[Exception] = []
        for sink in self._destinations:
            if sink not in unfinished.done and sink.is_available:
                try:
                    seconds = await sink.deliver(crash, lambda: source.is_gone(new, crash))
                except SinkError as e:
                    failed.append(e)
                else:
                    unfinished.done.add(sink)
                    self._notify_sent(new, crash, sink, sent_details(seconds, unfinished.failures))
        if failed:
            raise failed[0]
        unfinished.missing = [sink for sink in self._destinations if sink not in unfinished.done]
        if unfinished.missing:
            self._unfinished.remember(new.crash_id, unfinished)
        return not unfinished.missing

    async def _publish(
        self, source: ICrashSource, new: NewCrash, crash: Crash, unfinished: Unfinished
    ) -> Sequence[Sink]:
        """
        Publish the id of a crash that all destinations have, or let the source remember that it is to be published.

        @return: the publishers that have confirmed it.

        @raise StorageError: it was neither published nor remembered.
        """
        if crash.raw_crash.get("legacy_processing") == _DEFERRED:
            return ()
        published = []
        for sink in self._publishers:
            if sink in unfinished.done:
                continue
            seconds = await self._publish_to(sink, crash)
            if seconds is not None:
                self._notify_sent(new, crash, sink, sent_details(seconds, 0))
                published.append(sink)
            else:
                await source.remember(new, crash, sink.name)
                self._on_remembered(sink.name)
            unfinished.done.add(sink)
        return published

    async def _publish_to(self, sink: Sink, crash: Crash) -> float | None:
        """Publish the id of a crash, and return the seconds until that was confirmed; None: it was not."""
        if not sink.is_available:
            return None
        try:
            return await sink.deliver(crash, longest=_PUBLISH_S)
        except CrashRejectedByStore:
            raise
        except SinkError:
            return None  # the sink has logged why

    def _notify_sent(self, new: NewCrash, crash: Crash, sink: Sink, details: str) -> None:
        self._notify(new, sink.kind, sink.name, sink.place_of(crash), details)

    def _notify(self, new: NewCrash, kind: Step, where: str, place: str = "", details: str = "") -> None:
        about = {name: text for name, text in (("place", place), ("details", details)) if text}
        self._on_event(CrashEvent(at=self._now(), crash_id=new.crash_id, kind=kind, where=where, about=about))

    async def _quarantine(self, source: ICrashSource, new: NewCrash, reason: str, unfinished: Unfinished) -> bool:
        try:
            await source.quarantine(new, reason)
        except StorageError as e:
            return self._back_off(new, unfinished, e)
        self._notify(new, "quarantined", source.name, reason[:_REASON])
        QUARANTINED.labels(source.name).inc()
        self._log.error("{crash_id} is in the quarantine: {why}", crash_id=new.crash_id, why=reason)
        return True

    def _back_off(self, new: NewCrash, unfinished: Unfinished, error: Exception) -> Literal[False]:
        unfinished.failures += 1
        unfinished.is_refused = isinstance(error, IdRefused)
        longest = _REFUSED_S if unfinished.is_refused else _LONGEST_S
        pause = backoff_delay(unfinished.failures, first=FIRST_PAUSE_S, longest=longest, chance=self._chance())
        unfinished.again_at = self._clock.seconds() + pause
        self._unfinished.remember(new.crash_id, unfinished)
        self._log.emit(
            # That a queue refuses many ids is told by its publisher.
            LogLevel.debug if unfinished.is_refused and unfinished.failures > 1 else LogLevel.warn,
            "{crash_id} could not be moved; trying again in {pause:.1f} s: {why}",
            crash_id=new.crash_id,
            pause=pause,
            why=error,
        )
        return False


async def _any_of(works: Sequence[Deferred[None]]) -> None:
    """Return once one of C{works} has ended, and cancel the others."""
    try:
        await DeferredList(works, fireOnOneCallback=True, consumeErrors=True)
    finally:
        for work in works:
            work.cancel()
