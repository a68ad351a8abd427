"""
What is remembered of moves that will be tried again: which sinks have the crash, and whose fault it was.
"""

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

from attrs import define, field

from collectord.crashmover.sink import Sink
from collectord.errors import CrashRejectedByStore, UnclearRefusal

_PATIENCE = 5
"""A crash that can't be read, or is rejected, more often than this, while others aren't, goes to the quarantine."""
_LONG_PATIENCE = 11
"""
The same for a crash that a destination refuses with an answer like 403 or 500, which seldom is the fault of the crash.
With the pauses between, this takes more than an hour.
"""
_MOST = 100_000
"""The most unfinished moves that are remembered, to bound the memory."""


@define
class OwnFaults:
    """
    Counts the failures of one crash between which other crashes did not fail in the same way.

    If no other crash succeeded in between, the source or the destination is at fault, not the crash.

    @ivar most: after more failures than these the crash is at fault.
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
class Unfinished:
    """
    The state of a move that has failed and will be tried again.

    @ivar done: the sinks that have confirmed the crash.
    @ivar is_delivered: whether nothing is left to be done but to remove the crash from its source.
    @ivar source_version: the version of the crash that they have confirmed: see L{Crash.source_version}.
    @ivar failures: how often the move has failed.
    @ivar unread: the times, one after the other, when the crash could not be read.
    @ivar rejected: the times when a destination rejected it.
    @ivar refused: the times when one refused it, and perhaps was at fault itself.
    @ivar again_at: the crash is not tried again before this time.
    @ivar is_refused: whether a queue does not take its id for now.
    @ivar missing: the destinations that it waits for, if nothing is wrong but that they are away.
    """

    done: set[Sink] = field(factory=set)
    is_delivered: bool = False
    source_version: tuple[int, ...] | None = None
    failures: int = 0
    unread: OwnFaults = field(factory=OwnFaults)
    rejected: OwnFaults = field(factory=OwnFaults)
    refused: OwnFaults = field(factory=partial(OwnFaults, _LONG_PATIENCE))
    again_at: float = 0.0
    missing: Sequence[Sink] = ()
    is_refused: bool = False

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

    @property
    def is_waiting(self) -> bool:
        """Whether a destination that it waits for is still away."""
        return bool(self.missing) and not any(sink.is_available for sink in self.missing)


class UnfinishedMoves:
    """The unfinished moves out of one source, by the ids of their crashes; the oldest are forgotten."""

    def __init__(self) -> None:
        self._moves: OrderedDict[str, Unfinished] = OrderedDict()

    @property
    def are_too_many(self) -> bool:
        """Whether the next one makes that the oldest is forgotten."""
        return len(self._moves) >= _MOST

    def get(self, crash_id: str) -> Unfinished | None:
        """Return what is remembered of a crash."""
        return self._moves.get(crash_id)

    def take(self, crash_id: str) -> Unfinished:
        """Forget what is remembered of a crash, and return it."""
        return self._moves.pop(crash_id, None) or Unfinished()

    def remember(self, crash_id: str, unfinished: Unfinished) -> None:
        """Remember a move."""
        self._moves[crash_id] = unfinished
        if len(self._moves) > _MOST:
            self._moves.popitem(last=False)
