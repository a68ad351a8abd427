"""
The page of a search: the crashes that were found, and by what they can be narrowed down.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import urlencode
from xml.etree.ElementTree import Element

from attrs import frozen

from collectord.admin.crashlist import MAX_TEXT, CrashCells
from collectord.admin.format import count, number_of, when
from collectord.admin.html import Node, classes, group, h
from collectord.admin.place import shown_place
from collectord.admin.plots import bar
from collectord.admin.tables import Cell, Column, Row, section, table
from collectord.index.found import Facet, FacetValue, Found
from collectord.index.values import IndexedCrash

_STATES = {"kept": "in a store", "quarantined": "in quarantine"}
"""The states that are called otherwise where they are chosen."""

_FOUND = [
    Column(head="Kept", cells="t"),
    Column(head="Crash", cells="id", is_head=True),
    Column(head="Product", cells="cut"),
    Column(head="Crashes at", cells="id cut"),
    Column(head="Exception", style="p3", cells="cut"),
    Column(head="Size", style="n"),
    Column(head="Now", cells="text"),
]


@frozen(kw_only=True)
class SearchView:
    """
    What the page of a search is made of.

    @ivar before: which page it is: C{older} of the one before it.
    """

    cells: CrashCells
    found: Found
    before: str = ""

    def page(self) -> bytes:
        """Make the page."""
        found = self.found
        facets = [_facet(self, facet) for facet in found.facets if facet.values]
        narrow = h("nav", facets, class_="facets", id="narrow", aria_label="Narrow the search") if facets else None
        main = h("div", self._results(), narrow, class_="search") if found.crashes or facets else self._nothing()
        return self.cells.frame.page(self._title(), self._subject(), main, _help())

    def _title(self) -> str:
        return f"{self.found.query[:MAX_TEXT] or 'All crashes'} · collectord"

    def _subject(self) -> Element:
        found = self.found
        if found.problem:
            return h("div", h("h1", "This can't be searched for"), h("p", found.problem), class_="subject")
        number = number_of(found.count, "crash", "crashes")
        heading = number if found.is_all else f"More than {number}"
        took = f"Found in {1000 * found.seconds:.0f} ms."
        span = ""
        if found.since is not None and found.until is not None:
            now = self.cells.frame.now
            more = f"; {count(found.not_kept)} more of this kind were seen and not kept" if found.not_kept else ""
            span = f"kept between {when(found.since, now)} and {when(found.until, now)}{more}. "
        return h("div", h("h1", heading), h("p", span, took, class_="quiet"), class_="subject")

    def _nothing(self) -> Node:
        if self.found.problem:
            return None
        tips = "No crash that the index knows is so. Take a word out, or look at all crashes: "
        return [self._chosen(), h("p", tips, h("a", "all", href="search?q="), ".", class_="note")]

    def _results(self) -> Element:
        found = self.found
        last = found.first + len(found.crashes) - 1
        beside = h(
            "nav",
            h("a", "Narrow", class_="narrow-only", href="#narrow"),
            " ",
            h("a", "JSON", href=f"search.json?{self._query(found.query, self.before)}"),
            aria_label="Result as",
        )
        rows = [self._row(crash) for crash in found.crashes]
        shown = table("Crashes found, newest first", _FOUND, rows) if rows else h("p", "None.", class_="note")
        aside = f"{count(found.first)} to {count(last)}" if rows else None
        results = section("results", "Newest first", self._chosen(), shown, self._pages(), aside=aside, beside=beside)
        results.set("class", "results")
        return results

    def _row(self, crash: IndexedCrash) -> Row:
        cells = self.cells
        exception = Cell(crash.exception[:MAX_TEXT], title=crash.exception[:MAX_TEXT] or None)
        return Row(
            crash.crash_id,
            [
                cells.frame.moment(crash.at),
                cells.frame.crash_link(crash.crash_id),
                cells.product(crash),
                cells.place(crash),
                exception,
                cells.size(crash),
                cells.now(crash),
            ],
        )

    def _chosen(self) -> Element | None:
        words = [
            h("a", word.text[:MAX_TEXT], href=self._link(word.without), aria_label=f"Without {word.text[:MAX_TEXT]}")
            for word in self.found.words
        ]
        return h("p", words, class_="chosen") if words else None

    def _pages(self) -> Element | None:
        links = list(self._page_links())
        return h("nav", links, class_="pages", aria_label="Pages") if links else None

    def _page_links(self) -> Iterator[Element]:
        if self.found.newer:
            yield h("a", "Newest", href=self._link(self.found.query))
        if self.found.older:
            yield h("a", "Older", href=self._link(self.found.query, self.found.older))

    def _query(self, query: str, before: str = "") -> str:
        return urlencode({"q": query, **({"before": before} if before else {})})

    def _link(self, query: str, before: str = "") -> str:
        return f"search?{self._query(query, before)}"

    def narrowed(self, value: FacetValue) -> str:
        """Return the link to what is found with one more condition, or to the same if it is one already."""
        query = self.found.query if value.is_chosen else f"{self.found.query} {value.word}".strip()
        return self._link(query)


def _facet(view: SearchView, facet: Facet) -> Element:
    most = max(value.count for value in facet.values)
    name = facet.name.capitalize()
    values = [_value(view, facet.name, value, most) for value in facet.values]
    if facet.others:
        rest = group(h("span", number_of(facet.others, "other")), " ", h("span", count(facet.others_count), class_="n"))
        values.append(h("li", h("span", rest, class_="quiet")))
    return h("section", h("h2", name), h("ul", values), class_="facet", aria_label=name)


def _value(view: SearchView, name: str, value: FacetValue, most: int) -> Element:
    label = value.label[:MAX_TEXT]
    if name == "day":
        label = _day_label(value.label, view.cells.frame.now)
    elif name == "fingerprint":
        label = shown_place(value.label).text[:MAX_TEXT]
    elif name == "state":
        label = _STATES.get(value.label, label)
    return h(
        "li",
        h(
            "a",
            h("span", label or "none", title=value.label[:MAX_TEXT]),
            " ",
            h("span", count(value.count), class_=classes("n", None if value.count else "zero")),
            bar(value.count / most if most else 0.0),
            href=view.narrowed(value),
            aria_current="true" if value.is_chosen else None,
        ),
    )


def _day_label(day: str, now: float) -> str:
    try:
        date = datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        return day
    today = ", today" if date.date() == datetime.fromtimestamp(now, UTC).date() else ""
    return f"{date:%a} {date.day} {date:%b}{today}"


def _help() -> Element:
    words = ("product:", "version:", "day:", "fingerprint:", "place:", "state:")
    said = group(
        "A crash id or its beginning, with or without ",
        h("code", "bp-"),
        ". Words ",
        [[h("code", word), " "] for word in words],
        "or the name of any annotation that is indexed: ",
        h("code", "Channel:beta"),
        ". A value with blanks in quotation marks; ",
        h("code", "*"),
        " at its end for any ending; ",
        h("code", "-"),
        " before a word for all but those.",
    )
    return section("how", "What can be asked", h("p", said, class_="note"))
