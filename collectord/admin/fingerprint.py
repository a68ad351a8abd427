"""
The page of one fingerprint: how often it was seen, in which versions, and which crashes have it.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlencode
from xml.etree.ElementTree import Element

from attrs import frozen

from collectord.admin.bugs import new_tag, sparkline
from collectord.admin.crashlist import MAX_TEXT, CrashCells, fingerprint_link, product_name
from collectord.admin.format import age, count, share, span, when
from collectord.admin.html import Node, group, h, quiet
from collectord.admin.place import ShownPlace, shown_place
from collectord.admin.plots import Mark, Plot, bar, plot
from collectord.admin.switches import Switch
from collectord.admin.tables import Cell, Column, Row, section, table
from collectord.index.intake import Span
from collectord.index.values import FingerprintPage, FingerprintSeen, IndexedCrash, ProductSeen, SeenKept

SPANS: Final[Mapping[str, tuple[Span, str, str]]] = {
    "10m": ("10min", "10 min", "10 minutes"),
    "24h": ("24h", "24 h", "24 hours"),
    "30d": ("30d", "30 d", "30 days"),
}
"""The spans by their names in a URL: their names in the index, and in words."""

_VERSIONS = [
    Column(head="Product", cells="text", is_head=True),
    Column(head="Share"),
    Column(head="Seen 24 h", style="n", label="seen"),
    Column(head="Kept", style="n", cells="kept", label="kept"),
    Column(head="First seen", style="n", cells="t", label="first"),
]
_OTHERS = [
    Column(head="Fingerprint", cells="id", is_head=True),
    Column(head="24 h", cells="chartcell"),
    Column(head="Seen 24 h", style="n", label="seen"),
    Column(head="First seen", style="n", cells="t", label="first"),
]
_LAST = [
    Column(head="Kept", cells="t"),
    Column(head="Crash", cells="id", is_head=True),
    Column(head="Product", cells="cut"),
    Column(head="System", cells="cut"),
    Column(head="Uptime", style="n", label="uptime"),
    Column(head="Size", style="n"),
    Column(head="Now", cells="text"),
]


@frozen(kw_only=True)
class FingerprintView:
    """
    What the page of a fingerprint is made of.

    @ivar span: by a name of L{SPANS}.
    @ivar outcomes: what throttle rules do, in words, by their names.
    """

    cells: CrashCells
    known: FingerprintPage
    span: str = "24h"
    outcomes: Mapping[str, str] = {}

    def page(self) -> bytes:
        """Make the page."""
        frame, seen = self.cells.frame, self.known.fingerprint
        pair = h("div", self._versions(), self._others(), class_="columns pair")
        title = f"{self._place.text[:MAX_TEXT] or seen.fingerprint} · collectord"
        return frame.page(title, self._subject(), self._cards(), self._trend(), pair, self._last())

    @property
    def _place(self) -> ShownPlace:
        return shown_place(self.known.fingerprint.place)

    def _subject(self) -> Element:
        seen, place = self.known.fingerprint, self._place
        what: Node = (seen.exception or place.exception)[:MAX_TEXT] or seen.exception_code
        if seen.exception and seen.exception_code not in ("", seen.exception):
            what = [seen.exception[:MAX_TEXT], " ", quiet(seen.exception_code)]
        on = ", ".join(filter(None, (seen.os[:MAX_TEXT], seen.cpu)))
        newest = seen.products[0] if seen.products else None
        product = "" if newest is None else product_name(newest.product, newest.version)
        debug_id: Node = ["debug id ", h("code", place.debug_id)] if place.debug_id else None
        parts = [part for part in (what, on, product, debug_id) if part]
        return h(
            "div",
            h("p", "Fingerprint ", h("span", seen.fingerprint, class_="id"), class_="crumbs"),
            h("h1", place.text[:MAX_TEXT] or seen.fingerprint, class_="id"),
            h("p", [[" · " if at else None, part] for at, part in enumerate(parts)]) if parts else None,
            class_="subject",
        )

    def _cards(self) -> Element:
        return h("dl", [h("div", h("dt", name), h("dd", value)) for name, value in self._figures()], class_="cards")

    def _figures(self) -> Iterator[tuple[str, Node]]:
        seen, now = self.known.fingerprint, self.cells.frame.now
        yield "Seen, last hour", _seen(seen.hour)
        yield "Seen, 24 h", _seen(seen.day)
        if self.known.of_all_hour.seen:
            of_all = share(seen.hour.seen, self.known.of_all_hour.seen)
            yield "Of all reports, last hour", h("span", of_all, class_="big")
        first = group(when(seen.first_seen, now), " ", quiet(age(now - seen.first_seen)))
        yield "First seen", [new_tag(self.cells.frame, seen), first]
        yield "Last seen", [when(seen.last_seen, now), " ", quiet(age(now - seen.last_seen))]
        if seen.sampled_by:
            since = "" if seen.sampled_since is None else f"since {when(seen.sampled_since, now)}"
            outcome = f": {self.outcomes[seen.sampled_by]} " if self.outcomes.get(seen.sampled_by) else " "
            yield "Left out by", [f"rule {seen.sampled_by}{outcome}", quiet(since)]

    def _trend(self) -> Element:
        trend = self.known.trend
        step = self.known.step_s
        per_hour = 3600 / step
        seen = self.known.fingerprint
        kept = [None if slot.counts is None else slot.counts.kept * per_hour for slot in trend]
        left = [None if slot.counts is None else (slot.counts.seen - slot.counts.kept) * per_hour for slot in trend]
        _, _, words = SPANS[self.span]
        shown = Plot(
            began=trend[0].at,
            ended=trend[-1].at + step,
            stacked=[("kept", kept), ("left", left)],
            tips=[self._tip(slot.at, slot.counts) for slot in trend],
            unit="/h",
            says=f"Reports an hour with this fingerprint, last {words}: kept, and left out by rules",
            mark=Mark(at=seen.first_seen, text=f"first seen {self._without_seconds(seen.first_seen)}"),
        )
        keys: Node = [
            [h("span", class_="key"), "kept\u2002"],
            [h("span", class_="key left"), "seen and not kept; reports an hour"],
        ]
        switch = Switch("span", {name: words for name, (_, words, _) in SPANS.items()}, self.span, {})
        figure = h("div", plot(shown), class_="chart low")
        return section("trend", "Trend", figure, aside=keys, beside=switch.links("Time shown"))

    def _without_seconds(self, at: float) -> str:
        text = when(at, self.cells.frame.now)
        return text[:-3] if text.count(":") == 2 else text

    def _tip(self, at: float, counts: SeenKept | None) -> str:
        time = datetime.fromtimestamp(at, UTC)
        clock = f"{time:%a %H:%M:%S}" if self.known.step_s < 60 else f"{time:%a} {time.day} {time:%b %H:%M}"
        when = f"{clock} + {span(self.known.step_s)}"
        return (
            f"{when}: not known" if counts is None else f"{when}: {count(counts.seen)} seen, {count(counts.kept)} kept"
        )

    def _versions(self) -> Element:
        seen = self.known.fingerprint
        rows = [self._version(one, seen) for one in seen.products]
        return section("versions", "Versions", table("Versions with this fingerprint", _VERSIONS, rows))

    def _version(self, one: ProductSeen, seen: FingerprintSeen) -> Row:
        part = one.day.seen / seen.day.seen if seen.day.seen else 0.0
        now = self.cells.frame.now
        first: Node = None
        if one.first_seen is not None:
            first = group(when(one.first_seen, now), " ", quiet(age(now - one.first_seen)))
        bar_and_share = group(bar(part), share(one.day.seen, seen.day.seen))
        name = product_name(one.product, one.version)
        return Row(name, [name, bar_and_share, count(one.day.seen), count(one.day.kept), first])

    def _others(self) -> Element:
        frame = self.cells.frame
        aside = "the same instruction, called from elsewhere"
        if not self.known.others:
            return section("place", "Other fingerprints at this place", h("p", "None.", class_="note"))
        rows = [
            Row(
                one.fingerprint,
                [
                    fingerprint_link(frame, one.fingerprint, one.fingerprint),
                    sparkline(one.hourly),
                    count(one.day.seen),
                    [when(one.first_seen, frame.now), " ", quiet(age(frame.now - one.first_seen))],
                ],
            )
            for one in self.known.others
        ]
        shown = table("Other fingerprints at this place", _OTHERS, rows)
        return section("place", "Other fingerprints at this place", shown, aside=aside)

    def _last(self) -> Element:
        known, frame = self.known, self.cells.frame
        if not known.crashes:
            return section("last", "Last kept crashes", h("p", "The index knows none.", class_="note"))
        query = urlencode({"q": f"fingerprint:{known.fingerprint.fingerprint}"})
        link = h("a", f"all {count(known.kept)}", href=f"{frame.up}search?{query}")
        rows = [self._crash(crash) for crash in known.crashes]
        shown = table("The last kept crashes with this fingerprint", _LAST, rows)
        return section("last", "Last kept crashes", shown, aside=link)

    def _crash(self, crash: IndexedCrash) -> Row:
        cells = self.cells
        uptime = None if crash.uptime_s is None else span(crash.uptime_s)
        contents: Sequence[Node | Cell] = [
            cells.frame.moment(crash.at),
            cells.frame.crash_link(crash.crash_id),
            cells.product(crash),
            Cell(crash.os[:MAX_TEXT], title=crash.os[:MAX_TEXT] or None),
            uptime,
            cells.size(crash),
            cells.now(crash),
        ]
        return Row(crash.crash_id, contents)


def _seen(counts: SeenKept) -> Node:
    return [h("span", count(counts.seen), class_="big"), " ", quiet(f"{count(counts.kept)} kept")]
