"""
Makes the paths of charts of lists of numbers: areas that lie one on the other, lines and bars.

The charts are 1000 wide and 100 high, and are stretched to the room there is. A number that is not known, None, makes
a gap.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

from attrs import frozen

WIDTH = 1000.0
HEIGHT = 100.0
BAR_WIDTH, BAR_HEIGHT = 100.0, 20.0
"""The size of a chart of bars, which stands in a line of text."""

Values = Sequence[float | None]
_Point = tuple[float, float]


@frozen
class Layer:
    """
    One of several areas that lie one on the other.

    @ivar area: the path around it.
    @ivar edge: the path along its upper edge.
    """

    area: str
    edge: str


def layers(series: Sequence[Values], top: float) -> Sequence[Layer]:
    """
    Make areas that lie one on the other, the first at the bottom.

    @param series: lists of the same length. Where one has a gap, all have.
    @param top: the value at the upper end of the chart.
    """
    found = []
    below: Values = [None if value is None else 0.0 for value in series[0]] if series else []
    for values in series:
        above = [_sum(lower, value) for lower, value in zip(below, values, strict=True)]
        found.append(_layer(below, above, top))
        below = above
    return found


def _sum(lower: float | None, value: float | None) -> float | None:
    return None if lower is None or value is None else lower + value


def _layer(below: Values, above: Values, top: float) -> Layer:
    areas, edges = [], []
    for upper, lower in zip(_runs(above, top), _runs(below, top), strict=True):
        edges.append(_along(upper))
        areas.append(f"{_along([*upper, *reversed(lower)])}Z")
    return Layer("".join(areas), "".join(edges))


def line(values: Values, top: float) -> str:
    """Make the path along values."""
    return "".join(_along(points) for points in _runs(values, top))


def _runs(values: Values, top: float) -> Iterator[Sequence[_Point]]:
    """The points of each run without a gap. A lone value is as wide as a slot, since a point would not be seen."""
    step = WIDTH / max(1, len(values) - 1)
    for is_known, run in groupby(enumerate(values), lambda each: each[1] is not None):
        if is_known:
            points = [(at * step, _height(value or 0.0, top)) for at, value in run]
            if len(points) == 1:
                ((x, y),) = points
                points = [(max(0.0, x - step / 2), y), (min(WIDTH, x + step / 2), y)]
            yield points


def _height(value: float, top: float) -> float:
    return HEIGHT * (1 - min(1.0, value / top)) if top else HEIGHT


def _along(points: Sequence[_Point]) -> str:
    return "M" + "L".join(f"{x:.0f} {y:.1f}" for x, y in points)


def bars(values: Values, most: float) -> str:
    """Make the path of bars side by side; those of nothing are left out."""
    step = BAR_WIDTH / max(1, len(values))
    found = []
    for at, value in enumerate(values):
        if value and most:
            height = max(1.0, BAR_HEIGHT * min(1.0, value / most))  # The least that can be seen.
            found.append(f"M{at * step:.1f} {BAR_HEIGHT:.0f}v-{height:.1f}h{step * 0.8:.1f}V{BAR_HEIGHT:.0f}z")
    return "".join(found)
