"""
What is coming in: a chart over ten minutes, a day or a month, and the same as a table.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from xml.etree.ElementTree import Element

from attrs import frozen

from collectord.admin.format import count, rate, span
from collectord.admin.html import Node, h
from collectord.admin.plots import Mark, Plot, plot
from collectord.admin.switches import Switch
from collectord.admin.tables import Column, Row, section, table
from collectord.index.intake import IntakeCounts, IntakeHistory, IntakeSlot, Span
from collectord.units import size_in_words

SPANS: Final[Mapping[str, tuple[Span, str, str]]] = {
    "10m": ("10min", "10 min", "10 minutes"),
    "24h": ("24h", "24 h", "24 hours"),
    "30d": ("30d", "30 d", "30 days"),
}
"""The spans by their names in a URL: their names in the index, and in words."""


@frozen
class _Series:
    """One kind of reports; C{area} is the class of its area, if it has one."""

    name: str
    key: str
    area: str = ""
    text: str = ""
    """What it is called in a sentence."""


_STACKED = [
    _Series("Kept", "kept", "kept", "kept"),
    _Series("Left out by rules", "left_out", "left", "left out by rules"),
    _Series("Refused", "refused", "refused", "refused"),
    _Series("Lost (503)", "lost", "lost", "lost"),
]
"""From the bottom up. What is kept and left out is always drawn; the others if there are any."""

_OPTIONAL = ("refused", "lost")


def incoming(history: IntakeHistory, switch: Switch, mark: Mark | None = None) -> Element:
    """
    Make the section.

    @param switch: by which another span is chosen.
    @param mark: what is marked in the chart.
    """
    shown = [one for one in _STACKED if one.key not in _OPTIONAL or getattr(history.sums, one.key)]
    _, _, words = SPANS[switch.chosen]
    figures = h("div", plot(_plot(history, shown, words, mark)), class_="chart")
    return section(
        "in",
        "Coming in",
        h("div", figures, _table(history, shown, SPANS[switch.chosen][1]), class_="traffic"),
        aside=f"reports per second; each point is a mean over {span(history.step_s)}",
        beside=switch.links("Time shown"),
    )


def _plot(history: IntakeHistory, shown: Sequence[_Series], words: str, mark: Mark | None) -> Plot:
    rates = [None if slot is None or not slot.seconds else slot.rates for slot in history.slots]
    names = ", ".join(one.text for one in shown)
    return Plot(
        began=history.began,
        ended=history.began + history.step_s * len(history.slots),
        stacked=[(one.area, _values(rates, one.key)) for one in shown],
        dashed=_values(rates, "moved"),
        tips=[_tip(history, at, slot, shown) for at, slot in enumerate(history.slots)],
        unit="/s",
        says=f"Reports per second in the last {words}, stacked: {names}. The dashed line is what was moved. "
        "The table beside it has the figures.",
        mark=mark,
    )


def _values(rates: Sequence[IntakeCounts | None], key: str) -> Sequence[float | None]:
    return [None if each is None else float(getattr(each, key)) for each in rates]


def _tip(history: IntakeHistory, at: int, slot: IntakeSlot | None, shown: Sequence[_Series]) -> str:
    time = datetime.fromtimestamp(history.began + at * history.step_s, UTC)
    clock = f"{time:%a %H:%M:%S}" if history.step_s < 60 else f"{time:%a} {time.day} {time:%b %H:%M}"
    when = f"{clock} + {span(history.step_s)}"
    if slot is None or not slot.seconds:
        return f"{when}: not known"
    figures = ", ".join(f"{rate(getattr(slot.rates, one.key))} {one.text}" for one in shown)
    return f"{when}: {figures} /s"


def _table(history: IntakeHistory, shown: Sequence[_Series], words: str) -> Element:
    columns = [
        Column(head="Reports", is_head=True),
        Column(head="now /s", style="n", label="now"),
        Column(head="mean /s", style="n", label="mean"),
        Column(head="most /s", style="n most", label="most"),
        Column(head=f"in {words}", style="n", label=f"in {words}"),
    ]
    rows = [
        _row(history, _Series("Received", "received"), "none"),
        *(_row(history, one, one.area) for one in reversed(shown)),
        _row(history, _Series("Moved", "moved"), "moved"),
        Row("bytes_in", [[_key("none"), "Data in, MiB"], *_data_in(history)]),
    ]
    return table("Reports by what became of them, in the time shown", columns, rows, "")


def _row(history: IntakeHistory, one: _Series, key: str) -> Row:
    name = h("b", one.name, class_="bad") if one.key == "lost" else one.name
    figures = [rate(getattr(counts, one.key)) for counts in (history.now, history.mean, history.most)]
    return Row(one.key, [[_key(key), name], *figures, count(getattr(history.sums, one.key))])


def _data_in(history: IntakeHistory) -> Iterator[Node]:
    for counts in (history.now, history.mean, history.most):
        yield rate(counts.bytes_in / 1024**2)
    yield size_in_words(history.sums.bytes_in)


def _key(name: str) -> Element:
    return h("span", class_=f"key {name}".removesuffix(" kept"))
