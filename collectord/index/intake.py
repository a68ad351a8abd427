"""
What is coming in, as values: over ten minutes, a day and a month.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from attrs import asdict, field, frozen

Span = Literal["10min", "24h", "30d"]
"""How far back a history goes."""

SLOTS: Final[Mapping[Span, tuple[int, int]]] = {"10min": (120, 5), "24h": (96, 900), "30d": (120, 21600)}
"""How many slots the history of each span has, and how many seconds each of them lasts."""


@frozen
class IntakeCounts:
    """
    What became of the reports of some time: how many they were, or how many a second.

    @ivar received: submissions that began.
    @ivar kept: crashes that were kept and acknowledged, without duplicates.
    @ivar left_out: reports that throttle rules did not keep.
    @ivar refused: submissions that were answered 4xx.
    @ivar lost: submissions that were answered 503, since no store took them.
    @ivar moved: crashes that all of their destinations have got.
    @ivar bytes_in: bytes of submissions, as they came over the wire.
    """

    received: float = 0.0
    kept: float = 0.0
    left_out: float = 0.0
    refused: float = 0.0
    lost: float = 0.0
    moved: float = 0.0
    bytes_in: float = 0.0

    def __add__(self, other: "IntakeCounts") -> "IntakeCounts":
        return IntakeCounts(**{name: value + getattr(other, name) for name, value in asdict(self).items()})

    def over(self, seconds: float) -> "IntakeCounts":
        """Return how many that is a second, if it is what happened in so many of them."""
        return IntakeCounts(**{name: value / seconds for name, value in asdict(self).items()})


@frozen(kw_only=True)
class IntakeSlot:
    """
    What was counted in one slot of time.

    @ivar at: when the slot begins, in seconds since the epoch.
    @ivar seconds: for how many seconds of it the daemon has counted.
    """

    at: float
    seconds: float
    counts: IntakeCounts

    @property
    def rates(self) -> IntakeCounts:
        """The mean of what happened a second."""
        return self.counts.over(self.seconds)


@frozen(kw_only=True)
class IntakeHistory:
    """
    What came in over some time, in slots of equal length.

    @ivar step_s: seconds of a slot.
    @ivar slots: oldest first, and the last one is the present one. None: the daemon was down then, or had not been
        started yet.
    @ivar now: a second, as the mean of the last 10 s.
    @ivar mean: a second, over the time in which it was counted.
    @ivar most: the most a second that any slot had, of each for itself.
    @ivar sums: in all.
    """

    span: Span
    began: float
    step_s: int
    slots: Sequence[IntakeSlot | None] = field(repr=False)
    now: IntakeCounts
    mean: IntakeCounts
    most: IntakeCounts
    sums: IntakeCounts
