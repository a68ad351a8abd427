"""
The first page: is all well, what is coming in, which bugs are these, and how the machine is.
"""

from collections.abc import Iterator, Mapping, Sequence
from xml.etree.ElementTree import Element

from attrs import frozen

from collectord.admin.bugs import ORDERS, last_crashes, products, top_crashes
from collectord.admin.crashlist import CrashCells, moving, of_recent
from collectord.admin.deciding import deciding
from collectord.admin.format import span, time_of_day
from collectord.admin.frame import Frame
from collectord.admin.html import Node, h
from collectord.admin.incoming import SPANS, incoming
from collectord.admin.machine import sinks, stores
from collectord.admin.plots import Mark
from collectord.admin.quarantine import quarantine
from collectord.admin.state import state, title
from collectord.admin.switches import Switch
from collectord.admin.tables import section
from collectord.index.day import DayCounts
from collectord.index.intake import IntakeHistory
from collectord.index.values import IndexedCrash, ProductsSeen, TopFingerprints
from collectord.observe.status import Overview

MAX_LAST = 10
"""The most of the last crashes that are shown."""

_DAY_S = 86400.0
_ENOUGH_S = 3600.0
"""What is kept on a day is told once it was counted for so long."""


@frozen(kw_only=True)
class Choice:
    """
    What a reader wants to see, by names of L{SPANS} and L{ORDERS}.

    @ivar span: empty: the last ten minutes while crashes are being lost, else the last day.
    """

    span: str = ""
    top: str = "24h"


def choice_of(span: str, top: str) -> Choice:
    """Return what was asked for, as far as it can be chosen."""
    return Choice(span=span if span in SPANS else "", top=top if top in ORDERS else "24h")


@frozen(kw_only=True)
class FromMemory:
    """
    What the daemon itself has counted, whether or not the index can be asked.

    @ivar day: all but what came in, in the last 24 hours.
    @ivar intake_day: what came in on the last day; C{intake}: over the span that was chosen.
    """

    day: DayCounts
    intake_day: IntakeHistory
    intake: IntakeHistory


@frozen(kw_only=True)
class FromIndex:
    """
    What the index knows for the first page.

    @ivar quarantined: the last crashes that are in the quarantine of a store.
    """

    top: TopFingerprints
    last: Sequence[IndexedCrash]
    products: ProductsSeen
    quarantined: Sequence[IndexedCrash] = ()


def span_of(choice: Choice, overview: Overview) -> str:
    """Return the name of the span that is shown."""
    return choice.span or ("10m" if overview.loss else "24h")


def overview_page(
    overview: Overview, choice: Choice, counted: FromMemory, known: FromIndex | None, why_not: str = ""
) -> bytes:
    """
    Make the page.

    @param known: None: the index can't be asked, and what it knows is left out.
    @param why_not: why it can't be asked.
    """
    frame = Frame(
        now=overview.now,
        started=overview.started,
        version=overview.version,
        host=overview.host,
        searches=known is not None,
    )
    cells = CrashCells(frame=frame, moving=moving(overview))
    last = known.last if known else of_recent(overview.recent, MAX_LAST)
    return frame.page(
        title(overview),
        state(overview, _bytes_a_day(counted.day)),
        h("p", f"Without the index of crashes, some things are not shown: {why_not}.", class_="note")
        if why_not
        else None,
        _crashes(overview, choice, counted, known, cells, last),
        _machine(overview, frame, counted.day, known),
        quarantine(overview, cells, known.quarantined if known else ()),
        deciding(overview, counted.day),
        is_first=True,
    )


def _bytes_a_day(counted: DayCounts) -> float | None:
    """Return how many bytes of dumps the stores were given on a day; None: that was not counted for long enough."""
    stored = sum(counted.of("stored").values())
    return stored * _DAY_S / counted.seconds if counted.seconds >= _ENOUGH_S else None


def _crashes(
    overview: Overview,
    choice: Choice,
    counted: FromMemory,
    known: FromIndex | None,
    cells: CrashCells,
    last: Sequence[IndexedCrash],
) -> Iterator[Node]:
    if not last and not overview.totals.get("received") and not counted.intake_day.sums.received:
        yield _none_yet(overview)
        return
    others = _asked(choice)
    names = {name: words for name, (_, words, _) in SPANS.items()}
    yield incoming(counted.intake, Switch("span", names, span_of(choice, overview), others), _loss_mark(overview))
    if known:
        orders = Switch("top", {name: words for name, (_, words) in ORDERS.items()}, choice.top, others)
        yield top_crashes(cells.frame, known.top, orders)
    yield last_crashes(cells, last, f"none for {span(overview.now - last[0].at)}" if overview.loss and last else "")


def _asked(choice: Choice) -> Mapping[str, str]:
    return {"span": choice.span, "top": choice.top} if choice.span else {"top": choice.top}


def _loss_mark(overview: Overview) -> Mark | None:
    if overview.loss is None or not overview.recent:
        return None
    at = overview.recent[0].at
    return Mark(at=at, text=f"last crash kept {time_of_day(at)}")


def _none_yet(overview: Overview) -> Element:
    line = (
        "curl -F ProductName=Test -F Version=1.0 -F upload_file_minidump=@crash.dmp "
        f"{overview.submit_url or 'http://HOST:PORT/submit'}"
    )
    return section("in", "No crash has come since the start", h("p", "This sends one:"), h("pre", h("code", line)))


def _machine(overview: Overview, frame: Frame, counted: DayCounts, known: FromIndex | None) -> Node:
    machine = [stores(overview, counted), sinks(overview, counted)]
    if known is None or not known.products.products:
        return machine
    return h("div", products(frame, known.products), h("div", machine, class_="stacked"), class_="columns machine")
