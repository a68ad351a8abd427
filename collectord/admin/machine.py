"""
The stores, and the destinations and publishers that crashes are given to.
"""

from collections.abc import Iterator, Sequence
from xml.etree.ElementTree import Element

from collectord.admin.format import age, count, size, span
from collectord.admin.html import Node, h, quiet
from collectord.admin.plots import bar
from collectord.admin.tables import Cell, Column, Row, section, table
from collectord.observe.status import Overview, SinkStatus, StoreStatus

NOT_KNOWN = "not known"
NOTHING = "—"

_STORES = [
    Column(head="Store", is_head=True),
    Column(head="State", cells="text state-cell"),
    Column(head="Space", cells="space"),
    Column(head="Full below", style="n p4", label="full below"),
    Column(head="Waiting", style="n", label="waiting"),
    Column(head="Oldest", style="n", label="oldest"),
    Column(head="Quarantine", style="n", label="quarantine"),
]
_SINKS = [
    Column(head="Destination or publisher", is_head=True),
    Column(head="State", cells="text state-cell"),
    Column(head="Given", style="n", label="given"),
    Column(head="Failures", style="n", label="failures"),
    Column(head="Next try", style="n", label="next try"),
]


def stores(overview: Overview) -> Element:
    """Make the section of the stores."""
    caption = "Stores, in the order in which they are tried"
    rows = [_store(store) for store in overview.stores]
    return section(
        "stores", "Stores", table(caption, _STORES, rows, "stack stores"), aside="in the order in which they are tried"
    )


def _store(store: StoreStatus) -> Row:
    return Row(
        store.name,
        [
            h("span", store.name, class_="id"),
            _state(store.problem, store.cautions),
            _space(store),
            size(store.min_free_bytes),
            _number(store.backlog, NOTHING),
            span(store.oldest_age_s) if store.backlog or store.oldest_age_s else Cell(NOTHING, "zero"),
            _number(store.quarantined, NOT_KNOWN, "bad"),
        ],
    )


def _state(problem: str, cautions: Sequence[str]) -> Iterator[Node]:
    if problem:
        yield h("b", problem, class_="bad")
    else:
        yield h("span", "takes crashes", class_="good")
    yield [h("span", caution, class_="why quiet") for caution in cautions]


def _space(store: StoreStatus) -> Node:
    if store.free_bytes is None:
        return NOT_KNOWN
    if not store.total_bytes:
        return f"{size(store.free_bytes)} free"
    used = 1 - store.free_bytes / store.total_bytes
    is_full = store.free_bytes < store.min_free_bytes
    floor = max(0.0, 1 - store.min_free_bytes / store.total_bytes)
    shown = bar(used, floor=floor, is_full=is_full, says=f"{100 * used:.0f} % used")
    return [shown, f"{size(store.free_bytes)} free"]


def _number(value: int | None, otherwise: str, alarm: str = "") -> Node | Cell:
    if not value:
        return Cell(otherwise if value is None else "0", "zero")
    return Cell(h("b", count(value), class_=alarm)) if alarm else count(value)


def sinks(overview: Overview) -> Element:
    """Make the section of the destinations and publishers."""
    if not overview.sinks:
        nothing = h("p", "None is set: crashes stay in their stores.", class_="note")
        return section("outlets", "Destinations and publishers", nothing)
    caption = "Destinations and publishers, in the order in which they are given crashes"
    return section(
        "outlets",
        "Destinations and publishers",
        table(caption, _SINKS, list(_rows(overview))),
        aside=f"counted since the start, {age(overview.now - overview.started)} ago",
    )


def _rows(overview: Overview) -> Iterator[Row]:
    for sink in overview.sinks:
        yield Row(
            f"{sink.kind} {sink.name}",
            [
                [sink.name, " ", quiet(sink.kind)],
                _state(sink.problem, sink.cautions),
                count(sink.given),
                _number(sink.failures, NOTHING),
                _next_try(sink),
            ],
        )


def _next_try(sink: SinkStatus) -> Node | Cell:
    return f"in {span(sink.resumes_in_s)}" if sink.resumes_in_s > 0 else Cell(NOTHING, "zero")
