"""
The way of one crash: loaded, given to every destination, published, and only then taken out of its source.

What is done of it is remembered while the process lives. After a restart it is done again, which does no harm.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Literal

from attrs import define, field
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from collectord.crashmover.sink import Sink, SinkError, backoff_delay
from collectord.errors import StorageError, UnreadableCrash
from collectord.interfaces import ICrashSource
from collectord.metrics import QUARANTINED, REMOVED
from collectord.model import Crash, CrashEvent, NewCrash, Step

_DEFERRED = 1  # of legacy_processing
_LONGEST_S = 3600.0
_READS = 5
_REMEMBERED = 100_000


@define
class _Unfinished:
    """
    @ivar done: the sinks that have it.
    @ivar seen: how its source found it then.
    @ivar reads: that failed one after the other, while others could be read.
    @ivar loaded: crashes that could be read before the last of them.
    @ivar again_at: it is left alone until then.
    """

    done: set[Sink] = field(factory=set)
    seen: tuple[int, ...] | None = None
    failures: int = 0
    reads: int = 0
    loaded: int = -1
    again_at: float = 0.0


class Crashmover:
    """
    @param destinations: all of them get every crash, in this order.
    @param publishers: are told every crash that is to be processed.
    @param keep: the files stay in the source.
    @param chance: from 0 to 1.
    @param on_event: is told each step.
    @param now: seconds since the epoch.
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
        self._loaded = 0  # where none can be read, it is the source

    async def ready(self) -> None:
        """Return when every destination and publisher is worth a try."""
        for sink in (*self._destinations, *self._publishers):
            await sink.ready()

    def is_backing_off(self, new: NewCrash) -> bool:
        """Whether it failed a moment ago."""
        unfinished = self._unfinished.get(new.crash_id)
        return unfinished is not None and unfinished.again_at > self._clock.seconds()

    async def move(self, source: ICrashSource, new: NewCrash) -> bool:
        """
        Move C{new}; whatever goes wrong with it, it is still in its source, or in the quarantine.

        @return: False where it failed for now.
        """
        began = self._clock.seconds()
        unfinished = self._unfinished.pop(new.crash_id, None) or _Unfinished()
        try:
            crash = await source.load(new)
        except UnreadableCrash as e:
            return await self._quarantine(source, new, str(e), unfinished)
        except StorageError as e:
            unfinished.reads += unfinished.loaded != self._loaded
            unfinished.loaded = self._loaded
            if unfinished.reads > _READS:
                return await self._quarantine(source, new, str(e), unfinished)
            return self._back_off(new, unfinished, e)
        if crash is None:
            return True
        self._loaded += 1
        unfinished.reads = 0
        if crash.seen != unfinished.seen:
            # Another one, or somebody was told since that it is here: a sink that has it may have moved it back.
            unfinished.seen = crash.seen
            unfinished.done.clear()
        sinks = self._sinks(crash)
        try:
            for sink in sinks:
                if sink not in unfinished.done:
                    await sink.deliver(crash)
                    unfinished.done.add(sink)
                    self._notify(new, sink.kind, sink.name)
            await source.remove(new, crash, keep=self._keep)
        except SinkError as e:
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
        pause = backoff_delay(unfinished.failures, self._chance(), longest=_LONGEST_S)
        unfinished.again_at = self._clock.seconds() + pause
        self._unfinished[new.crash_id] = unfinished
        if len(self._unfinished) > _REMEMBERED:
            self._unfinished.popitem(last=False)
        self._log.warn(
            "{crash_id} is not moved, and is left alone for {pause:.1f} s: {why}",
            crash_id=new.crash_id,
            pause=pause,
            why=error,
        )
        return False
