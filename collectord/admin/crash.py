"""
The page of one crash: in a store, moved to a destination, or erased. What is not known is not shown.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from urllib.parse import urlencode
from xml.etree.ElementTree import Element

from attrs import frozen

from collectord.admin.annotationlist import MAX_NAME, annotation_list, entry
from collectord.admin.bugs import word
from collectord.admin.crashlist import fingerprint_link, place_link, product_name
from collectord.admin.dumplist import dump_list, received_dumps
from collectord.admin.elsewhere import elsewhere
from collectord.admin.format import age, count, day, number_of, span, time_of_day
from collectord.admin.frame import Frame
from collectord.admin.html import Node, group, h, quiet
from collectord.admin.place import shown_place
from collectord.admin.tables import Cell, Column, Row, pairs, section, table
from collectord.admin.way import WAITS, way
from collectord.index.values import CrashNeighbours
from collectord.observe.crashpage import LEFT, MOVED_THERE, CrashPage, kept_event
from collectord.observe.status import SinkStatus
from collectord.throttle.wording import one_of
from collectord.units import size_in_words

_NEIGHBOURS = [
    Column(head="Crash", cells="id", is_head=True),
    Column(head="Product", cells="cut"),
    Column(head="Kept", style="n", cells="t"),
]


@frozen(kw_only=True)
class CrashView:
    """
    What the page of a crash is made of.

    @ivar only: the text that annotations have to have to be shown; empty: all are.
    @ivar downloads: whether dumps may be downloaded.
    @ivar neighbours: None: nothing is known of others like it.
    @ivar sinks: the destinations and publishers.
    """

    frame: Frame
    crash: CrashPage
    only: str = ""
    downloads: bool = False
    neighbours: CrashNeighbours | None = None
    sinks: Sequence[SinkStatus] = ()

    def page(self) -> bytes:
        """Make the page."""
        crash = self.crash
        title = f"{crash.crash_id} · collectord"
        subject = h(
            "div",
            h("p", "Crash", class_="crumbs"),
            h("h1", crash.crash_id, class_="id"),
            h("p", list(self._line())),
            class_="subject",
        )
        is_here = crash.annotations is not None
        rail = [
            way(crash, self.frame.now, self.sinks),
            self._same(),
            self._facts("What the collector says") if is_here else None,
        ]
        main = (
            [dump_list(crash, self.downloads), self._annotations()]
            if is_here
            else [elsewhere(crash), self._facts("What is known of it"), received_dumps(crash)]
        )
        split = h("div", h("div", rail, class_="rail"), h("div", main), class_="split")
        return self.frame.page(title, subject, self._cards(), split)

    def _fact(self, name: str) -> str:
        facts = self.crash.facts
        return (facts.get(f"metadata.{name}") or facts.get(name) or "")[:MAX_NAME]

    def _said(self, name: str) -> str:
        return ((self.crash.annotations or {}).get(name) or self.crash.facts.get(name) or "")[:MAX_NAME]

    def _line(self) -> Iterator[Node]:
        product, version = self._said("ProductName"), self._said("Version")
        on = ", ".join(filter(None, (self._fact("os"), self._fact("cpu"))))
        if product or version:
            yield f"{product_name(product, version)}{f' on {on}' if on else ''} · "
        kept = kept_event(self.crash.events)
        if kept is not None:
            ago = age(self.frame.now - kept.at)
            yield f"kept {day(kept.at)}, {time_of_day(kept.at)} UTC, {ago} ago · "
        yield h("b", self._where())

    def _where(self) -> str:
        crash, erased = self.crash, self.crash.erased
        here = [
            _with_state(place.store, place.state) for place in crash.places if place.state not in (MOVED_THERE, LEFT)
        ]
        if erased is not None:
            said = f"erased {day(erased.at)}, {time_of_day(erased.at)} UTC"
            return "; ".join([*here, said])
        there = [f"moved to {', '.join(crash.moved_to)}"] * bool(crash.moved_to)
        nowhere = "not found, but not all could be asked" if crash.not_asked else "in no store any more"
        return "; ".join([*here, *there]) or nowhere

    def _cards(self) -> Element | None:
        cards = [h("div", h("dt", name), h("dd", value)) for name, value in self._known()]
        return h("dl", cards, class_="cards") if cards else None

    def _known(self) -> Iterator[tuple[str, Node]]:
        if place := self._fact("crash_place"):
            fingerprint = self._fact("fingerprint")
            no_link = h("span", shown_place(place).text, class_="id")
            yield "Crashes at", place_link(self.frame, fingerprint, place) if fingerprint else no_link
        exception, code = self._fact("exception_name"), self._fact("exception_code")
        if exception or code:
            yield "Exception", group(exception or code, group(" ", quiet(code)) if exception and code else None)
        if (uptime := self._fact("uptime_s")).isdecimal():
            yield "Uptime", span(int(uptime))
        if (payload := self._fact("payload_size")).isdecimal():
            compressed = ", compressed" if self._fact("payload_compressed") == "1" else ""
            yield "Size", [size_in_words(int(payload)), " ", quiet(f"on the wire{compressed}")]
        if rule := self._fact("throttle_rule"):
            yield "Rule", [rule, _sample(self.crash.facts.get("throttle_rate", ""))]

    def _annotations(self) -> Element:
        return annotation_list(self.crash.annotations or {}, self.only)

    def _facts(self, title: str) -> Element | None:
        facts = {name: value for name, value in self.crash.facts.items() if value}
        if not facts:
            return None
        rows = [entry(name.removeprefix("metadata."), value) for name, value in facts.items()]
        link = h("a", "JSON", href=f"{self.crash.crash_id}.json")
        shown = pairs("What the collector added", rows, "pairs near")
        return section("facts", title, shown, aside=link)

    def _same(self) -> Element | None:
        known = self.neighbours
        if known is None:
            return None
        seen, frame = known.fingerprint, self.frame
        rows = [
            Row(
                one.crash_id,
                [
                    frame.crash_link(one.crash_id, one.crash_id[:8]),
                    Cell(product_name(one.product, one.version), title=product_name(one.product, one.version)),
                    age(frame.now - one.at),
                ],
            )
            for one in known.newest
        ]
        times = h("b", count(seen.hour.seen))
        once = "time" if seen.hour.seen == 1 else "times"
        by = f", in {product_name(*known.first_in)}" if known.first_in else ""
        first = f"First seen {day(seen.first_seen)}, {time_of_day(seen.first_seen)} UTC{by}."
        said = h("p", "Seen ", times, f" {once} in the last hour, {count(seen.hour.kept)} kept. {first}", class_="note")
        name = fingerprint_link(frame, seen.fingerprint, seen.fingerprint)
        shown = table("Crashes with the same fingerprint, newest first", _NEIGHBOURS, rows, "") if rows else None
        return section("same", "The same crash", said, shown, h("p", self._more(known), class_="note"), aside=name)

    def _more(self, known: CrashNeighbours) -> Sequence[Node]:
        seen, up = known.fingerprint, self.frame.up
        kept = urlencode({"q": f"fingerprint:{seen.fingerprint}"})
        links: list[Node] = [
            [fingerprint_link(self.frame, seen.fingerprint, "this fingerprint")],
            [" · ", h("a", "all kept crashes", href=f"{up}search?{kept}")],
        ]
        if known.others and (words := word("place", seen.place)):
            text = f"{number_of(known.others, 'other fingerprint')} at this place"
            links.append([" · ", h("a", text, href=f"{up}search?{urlencode({'q': words[0]})}")])
        return links


def _sample(rate: str) -> Node:
    """Say which part of reports like this one its rule keeps, if it does not keep all of them."""
    with suppress(ValueError):
        if 0 < float(rate) < 100:
            return [" ", quiet(f"{one_of(float(rate))} kept")]
    return None


def _with_state(store: str, state: str) -> str:
    if state == WAITS:
        return f"waits in {store}"
    return f"stays in {store}" if state == "stays" else f"{store}: {state}"
