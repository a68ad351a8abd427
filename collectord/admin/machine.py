"""
The stores, and the destinations and publishers that crashes are given to.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from xml.etree.ElementTree import Element

from collectord.admin.deciding import counted_for
from collectord.admin.format import age, count, span
from collectord.admin.html import Node, h, quiet
from collectord.admin.paths import Values
from collectord.admin.plots import backlog, bar
from collectord.admin.tables import Cell, Column, Row, section, table
from collectord.index.day import DayCounts, Series
from collectord.observe.status import Overview, SinkStatus
from collectord.observe.storestatus import StoreFigures, StoreStatus
from collectord.units import size_in_words

NOT_KNOWN = "not known"
NOTHING = "—"
TAKES_CRASHES = "takes crashes"
NOT_YET = "not tried yet"
NOT_SINCE = "not tried since"

_STORES = [
    Column(head="Store", is_head=True),
    Column(head="State", cells="text state-cell"),
    Column(head="Space", cells="space"),
    Column(head="Full below", style="n p4", label="full below"),
    Column(head="Waiting", style="n", label="waiting"),
    Column(head="Waiting, 24 h", style="p2", cells="chartcell"),
    Column(head="Oldest", style="n", label="oldest"),
    Column(head="Quarantine", style="n", label="quarantine"),
]
_SINKS = [
    Column(head="Destination or publisher", is_head=True),
    Column(head="State", cells="text state-cell"),
    Column(head="Given 24 h", style="n", label="given"),
    Column(head="Failures", style="n", label="failures"),
    Column(head="Takes, median", style="n p2", label="median"),
    Column(head="Next try", style="n", label="next try"),
]


def stores(overview: Overview, counted: DayCounts) -> Element:
    """
    Make the section of the stores.

    @param counted: what was counted in the last 24 hours.
    """
    caption = "Stores, in the order in which they are tried"
    rows = [_store(store, overview.now, counted.hourly.get(("waits", store.name))) for store in overview.stores]
    return section(
        "stores", "Stores", table(caption, _STORES, rows, "stack stores"), aside="in the order in which they are tried"
    )


def _store(store: StoreStatus, now: float, waited: Values | None) -> Row:
    last = store.last_known
    return Row(
        store.name,
        [
            [h("span", store.name, class_="id"), " ", quiet(store.file_system) if store.file_system else None],
            [_state(store.problem, store.cautions), _age_of(last, now)],
            _space(store),
            size_in_words(store.min_free_bytes),
            _waiting(store),
            backlog(waited) if waited is not None else None,
            span(store.oldest_age_s) if store.backlog or store.oldest_age_s else Cell(NOTHING, "zero"),
            _last(last.quarantined) if last else _number(store.quarantined, NOT_KNOWN, "bad"),
        ],
    )


def _waiting(store: StoreStatus) -> Node | Cell:
    if not store.is_moved:
        return Cell(NOTHING, "zero")
    last = store.last_known
    return _last(last.backlog) if last else _number(store.backlog, NOT_KNOWN)


def _last(value: int | None) -> Node:
    """Write a number of a store that can't be asked now."""
    return NOT_KNOWN if value is None else quiet(count(value))


def _age_of(last: StoreFigures | None, now: float) -> Node:
    return None if last is None else h("span", f"what is told here was so {age(now - last.at)} ago", class_="why quiet")


def _state(problem: str, cautions: Sequence[str]) -> Iterator[Node]:
    yield h("b", problem, class_="bad") if problem else h("span", TAKES_CRASHES, class_="good")
    yield [h("span", caution, class_="why quiet") for caution in cautions]


def _state_of_sink(sink: SinkStatus) -> Iterator[Node]:
    if sink.is_tried:
        yield from _state(sink.problem, sink.cautions)
    elif sink.problem:
        yield from _state(sink.problem, [NOT_SINCE, *sink.cautions])
    else:
        yield [quiet(NOT_YET), *(h("span", caution, class_="why quiet") for caution in sink.cautions)]


def _space(store: StoreStatus) -> Node:
    if store.free_bytes is None:
        return quiet(f"{size_in_words(store.last_known.free_bytes)} free") if store.last_known else NOT_KNOWN
    if not store.total_bytes:
        return f"{size_in_words(store.free_bytes)} free"
    used = 1 - store.free_bytes / store.total_bytes
    is_full = store.is_full or store.free_bytes < store.min_free_bytes
    floor = max(0.0, 1 - store.min_free_bytes / store.total_bytes)
    shown = bar(used, floor=floor, is_full=is_full, says=f"{100 * used:.0f} % used")
    return [shown, f"{size_in_words(store.free_bytes)} free"]


def _number(value: int | None, otherwise: str, alarm: str = "") -> Node | Cell:
    if not value:
        return Cell(otherwise if value is None else "0", "zero")
    return Cell(h("b", count(value), class_=alarm)) if alarm else count(value)


def sinks(overview: Overview, counted: DayCounts) -> Element:
    """Make the section of the destinations and publishers; as L{stores}."""
    if not overview.sinks:
        nothing = h("p", "None is set: crashes stay in their stores.", class_="note")
        return section("outlets", "Destinations and publishers", nothing)
    caption = "Destinations and publishers, in the order in which they are given crashes"
    said = ", ".join(filter(None, ("in the order in which they are given crashes", counted_for(counted))))
    shown = table(caption, _SINKS, [_sink(sink, counted) for sink in overview.sinks])
    return section("outlets", "Destinations and publishers", shown, aside=said)


def _sink(sink: SinkStatus, counted: DayCounts) -> Row:
    median = median_below(counted.of("took", sink.name))
    return Row(
        f"{sink.kind} {sink.name}",
        [
            [sink.name, " ", quiet(sink.kind)],
            _state_of_sink(sink),
            _number(round(counted.counts.get(("given", sink.name), 0.0)), NOTHING),
            _number(round(counted.counts.get(("failed", sink.name), 0.0)), NOTHING),
            Cell(NOTHING, "zero") if median is None else _at_most(median),
            _next_try(sink),
        ],
    )


def median_below(took: Mapping[Series, float]) -> float | None:
    """
    Return the least number of seconds of which it is known that half of all took no longer.

    @param took: how many took no longer than so many seconds, by these; C{+Inf} has all of them.
    @return: infinite if that is longer than any of these; None: there were none.
    """
    numbers = sorted((float(seconds), number) for (seconds,), number in took.items())
    if not numbers or not numbers[-1][1]:
        return None
    return next(seconds for seconds, number in numbers if number >= numbers[-1][1] / 2)


def _at_most(seconds: float) -> str:
    """Write how long half of all took, of which only bounds are known."""
    if math.isinf(seconds):
        return "over 60 s"
    return f"≤ {1000 * seconds:g} ms" if seconds < 1 else f"≤ {seconds:g} s"


def _next_try(sink: SinkStatus) -> Node | Cell:
    if sink.resumes_in_s >= 0.5:
        return f"in {span(sink.resumes_in_s)}"
    return "now" if sink.problem and sink.is_tried else Cell(NOTHING, "zero")
