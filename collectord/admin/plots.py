"""
The charts of the pages, as SVG.

The outer SVG has no view box, so that its texts keep their shape. The one within it stretches to the room there is.
"""

from collections.abc import Iterator, Sequence
from xml.etree.ElementTree import Element

from attrs import frozen

from collectord.admin.axes import round_above, short, ticks
from collectord.admin.format import count
from collectord.admin.html import Node, h
from collectord.admin.paths import WIDTH, Values, bars, layers, line


@frozen(kw_only=True)
class Mark:
    """A moment that is marked in a chart."""

    at: float
    text: str


@frozen(kw_only=True)
class Plot:
    """
    What a chart shows over time.

    @ivar began: the time at its left end, as C{ended} at its right one, in seconds since the epoch.
    @ivar stacked: areas that lie one on the other: what is at the bottom comes first. By the names of their classes.
    @ivar dashed: a line of its own, if there is one.
    @ivar tips: what is said of each slot.
    @ivar unit: what is counted: C{/s}, C{/h}.
    @ivar says: the chart in words, for those who can't see it.
    """

    began: float
    ended: float
    stacked: Sequence[tuple[str, Values]]
    dashed: Values | None = None
    tips: Sequence[str]
    unit: str
    says: str
    mark: Mark | None = None


def plot(shown: Plot) -> Element:
    """Draw a chart."""
    top = round_above(_most(shown))
    return h(
        "svg",
        _scale(top, shown.unit),
        _times(shown),
        h(
            "svg",
            _areas(shown, top),
            _slots(shown.tips),
            viewBox="0 0 1000 100",
            preserveAspectRatio="none",
            width="100%",
            height="100%",
        ),
        h("line", class_="base", x1="0", x2="100%", y1="100%", y2="100%"),
        _mark(shown),
        class_="plot",
        role="img",
        aria_label=shown.says,
    )


def _most(shown: Plot) -> float:
    stacked = [values for _, values in shown.stacked]
    sums = [sum(filter(None, slot)) for slot in zip(*stacked, strict=True)]
    return max([*sums, *filter(None, shown.dashed or ())], default=0.0)


def _scale(top: float, unit: str) -> Iterator[Node]:
    for share, text in ((0, f"{short(top)}{unit}"), (50, short(top / 2)), (100, "0")):
        if share < 100:
            yield h("line", class_="grid", x1="0", x2="100%", y1=f"{share}%", y2=f"{share}%")
        yield h("text", text, x="-8", y=f"{share}%", dy="4", text_anchor="end")


def _times(shown: Plot) -> Iterator[Node]:
    for tick in ticks(shown.began, shown.ended):
        x = f"{100 * tick.share:.2f}%"
        yield h("line", class_="grid", x1=x, x2=x, y1="0", y2="100%")
        spare = "odd" if tick.is_spare else None
        yield h("text", tick.text, class_=spare, x=x, y="100%", dy="17", text_anchor="middle")
    yield h("text", "now", x="100%", y="100%", dy="17", text_anchor="end")


def _areas(shown: Plot, top: float) -> Iterator[Node]:
    names = [name for name, _ in shown.stacked]
    found = layers([values for _, values in shown.stacked], top)
    yield [h("path", class_=f"area-{name}", d=layer.area) for name, layer in zip(names, found, strict=True)]
    yield [h("path", class_=f"edge-{name}", d=layer.edge) for name, layer in zip(names, found, strict=True)]
    if shown.dashed is not None:
        yield h("path", class_="line-moved", d=line(shown.dashed, top))


def _slots(tips: Sequence[str]) -> Iterator[Node]:
    width = WIDTH / max(1, len(tips))
    for at, tip in enumerate(tips):
        yield h("rect", h("title", tip), class_="slot", x=f"{at * width:.1f}", width=f"{width:.1f}", height="100")


def _mark(shown: Plot) -> Iterator[Node]:
    if shown.mark is None or not shown.began <= shown.mark.at <= shown.ended:
        return
    share = (shown.mark.at - shown.began) / (shown.ended - shown.began)
    x, is_left = f"{100 * share:.2f}%", share < 0.4
    yield h("line", class_="event", x1=x, x2=x, y1="0", y2="100%")
    dx, anchor = ("6", "start") if is_left else ("-6", "end")
    yield h("text", shown.mark.text, class_="event", x=x, dx=dx, y="0", dy="9", text_anchor=anchor)


def spark(seen: Sequence[float], kept: Sequence[float]) -> Element:
    """Draw how often something was seen in each of some hours, and before that how often it was kept."""
    most = max(seen, default=0.0)
    paths = [("area-left", bars(seen, most)), ("area-kept", bars(kept, most))]
    return _bars(paths, f"{count(most)} in the greatest hour")


def backlog(waited: Values) -> Element:
    """Draw how many crashes waited in each of some hours."""
    most = max(filter(None, waited), default=0.0)
    return _bars([("backlog", bars(waited, most))], f"{count(most)} waited at most")


def _bars(paths: Sequence[tuple[str, str]], says: str) -> Element:
    return h(
        "svg",
        [h("path", class_=name, d=path) for name, path in paths],
        class_="spark",
        viewBox="0 0 100 20",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"24 hours, {says}",
    )


def bar(share: float, *, floor: float | None = None, is_full: bool = False, says: str | None = None) -> Element:
    """
    Draw a part of a whole.

    @param floor: where a mark stands, if there is one; as C{share} from 0.0 to 1.0.
    @param says: the bar in words; None: they stand beside it.
    """
    mark = None if floor is None else h("rect", class_="floor", x=f"{100 * floor:.0f}%", width="1.5", height="100%")
    return h(
        "svg",
        h("rect", class_="used", width=f"{100 * min(1.0, share):.1f}%", height="100%"),
        mark,
        class_="bar full" if is_full else "bar",
        role=None if says is None else "img",
        aria_label=says,
        aria_hidden="true" if says is None else None,
    )
