"""
Chooses what is written at the axes of a chart: round numbers and round times.
"""

import math
from collections.abc import Sequence
from datetime import UTC, datetime

from attrs import frozen

_STEPS = (1, 2, 3, 4, 5, 6, 8, 10)


@frozen
class Tick:
    """
    A time that is written below a chart.

    @ivar share: where it is, from 0.0 at the left to 1.0 at the right.
    @ivar is_spare: whether it may be left out where there is little room.
    """

    share: float
    text: str
    is_spare: bool


def round_above(most: float) -> float:
    """Return the first round number that is not below C{most}; 1 if that is 0."""
    if most <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(most))
    return next(step * power for step in _STEPS if step * power >= most * 0.999)


def short(number: float) -> str:
    """Write a round number in little room: C{0.5}, C{4}, C{1.5 k}."""
    for unit, name in ((1e6, " M"), (1e3, " k")):
        if number >= unit:
            return f"{number / unit:g}{name}"
    return f"{number:g}"


def ticks(began: float, ended: float) -> Sequence[Tick]:
    """Choose round times between two times, in seconds since the epoch; the last one is not too near to the end."""
    length = ended - began
    step = next(step for step in (120, 14400, 432000) if length / step < 8)
    first = math.ceil((began + length * 0.03) / step) * step
    times = range(first, int(ended - length * 0.06), step)
    return [
        Tick((at - began) / length, _written(at, step, number == 0), number % 2 == 1) for number, at in enumerate(times)
    ]


def _written(at: float, step: int, is_first: bool) -> str:
    time = datetime.fromtimestamp(at, UTC)
    if step >= 86400:
        return f"{time.day} {time:%b}"
    clock = f"{time.hour}:{time:%M}"
    return f"{time:%a} {clock}" if step >= 3600 and (is_first or time.hour == 0) else clock
