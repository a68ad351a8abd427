"""
Which bugs and which products crash: the top crashes by fingerprint, the last crashes, and the versions of the products.
"""

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlencode
from xml.etree.ElementTree import Element

from collectord.admin.crashlist import MAX_TEXT, CrashCells, place_link, product_name
from collectord.admin.format import age, count, number_of
from collectord.admin.frame import Frame
from collectord.admin.html import Node, group, h, quiet
from collectord.admin.place import shown_place
from collectord.admin.plots import spark
from collectord.admin.switches import Switch
from collectord.admin.tables import Cell, Column, Row, section, table
from collectord.index.values import (
    FingerprintSeen,
    IndexedCrash,
    ProductSeen,
    ProductsSeen,
    SeenKept,
    TopFingerprints,
    TopOrder,
)

ORDERS: Final[Mapping[str, tuple[TopOrder, str]]] = {
    "1h": ("hour", "1 h"),
    "24h": ("day", "24 h"),
    "rising": ("rising", "Rising"),
    "new": ("new", "New"),
}
"""The orders by their names in a URL: their names in the index, and in words."""

_CAPTIONS = {
    "1h": "most seen in an hour first",
    "24h": "most seen in 24 hours first",
    "rising": "those that became more frequent in the last hour first",
    "new": "those first seen in the last 24 hours",
}
_VERSIONS = 4
"""The most versions that are named of a fingerprint."""

_PLACE, _WORDS = 21, 22
"""The most characters of a place, and of a list of versions, that are shown in the table of the top crashes."""
LAST = [
    Column(head="Kept", cells="t"),
    Column(head="Crash", cells="id", is_head=True),
    Column(head="Product", cells="cut"),
    Column(head="Crashes at", cells="id cut"),
    Column(head="Size", style="n"),
    Column(head="Rule", style="p3", cells="big-only", label="rule"),
    Column(head="Now", cells="text"),
]


def _keys() -> Node:
    return "24 h: ", h("span", class_="key"), "kept ", h("span", class_="key left"), "left out"


def _top_columns(order: str) -> Sequence[Column]:
    return [
        Column(head="Crashes at", is_head=True),
        Column(head="Exception", cells="what cut"),
        Column(head="Products and versions", cells="what cut"),
        Column(head=_keys(), cells="chartcell"),
        Column(head="Seen 1 h", style="n", cells="count", label="1 h", sorted=order == "1h"),
        Column(head="kept", style="n p2", cells="count kept", label="kept"),
        Column(head="Seen 24 h", style="n", cells="count", label="24 h", sorted=order in ("24h", "new")),
        Column(head="kept", style="n", cells="count kept", label="kept"),
        Column(head="First seen", style="n p3", cells="t", label="first"),
        Column(head="Last", style="n", label="last"),
        Column(head="Last kept", style="p2", cells="id"),
    ]


def top_crashes(frame: Frame, top: TopFingerprints, switch: Switch) -> Element:
    """Make the section of the top crashes."""
    rows = [_top_row(frame, seen) for seen in top.fingerprints]
    caption = f"Top crashes by fingerprint, {_CAPTIONS[switch.chosen]}"
    shown: Node = table(caption, _top_columns(switch.chosen), rows, "stack top-crashes")
    if not rows:
        shown = h("p", "None.", class_="note")
    aside = f"by fingerprint; {number_of(top.total, 'was', 'were')} seen in 24 h"
    return section("top", "Top crashes", shown, aside=aside, beside=switch.links("Order"))


def _top_row(frame: Frame, seen: FingerprintSeen) -> Row:
    products = versions_in_words(seen.products)
    exception = seen.exception or shown_place(seen.place).exception
    return Row(
        seen.fingerprint,
        [
            Cell(
                [place_link(frame, seen.fingerprint, seen.place, _PLACE), new_tag(frame, seen)],
                title=seen.place[:MAX_TEXT] or None,
            ),
            Cell(_beginning(exception), title=exception[:MAX_TEXT] or None),
            Cell(_beginning(versions_in_words(seen.products[:_VERSIONS])), title=products[: 5 * MAX_TEXT]),
            sparkline(seen.hourly),
            count(seen.hour.seen),
            count(seen.hour.kept),
            count(seen.day.seen),
            count(seen.day.kept),
            frame.moment(seen.first_seen),
            age(frame.now - seen.last_seen),
            frame.crash_link(seen.last_kept_id, seen.last_kept_id[:8]) if seen.last_kept_id else None,
        ],
    )


def _beginning(text: str) -> str:
    return text if len(text) <= _WORDS else f"{text[:_WORDS]}…"


def new_tag(frame: Frame, seen: FingerprintSeen) -> Node:
    """Mark a fingerprint that was first seen within 24 hours."""
    return [" ", h("span", "new", class_="tag")] if seen.is_new(frame.now) else None


def versions_in_words(products: Sequence[ProductSeen]) -> str:
    """Write products with their versions, each product once: C{App 4.2.1, 4.2.0, Viewer 2.9}."""
    words, last = [], None
    for one in products:
        words.append(product_name("" if one.product == last and one.version else one.product, one.version))
        last = one.product
    return ", ".join(words)


def sparkline(hourly: Sequence[SeenKept]) -> Element:
    """Draw how often something was seen and kept in each hour."""
    return spark([hour.seen for hour in hourly], [hour.kept for hour in hourly])


def last_crashes(cells: CrashCells, crashes: Sequence[IndexedCrash], said: str = "") -> Element:
    """
    Make the section of the last crashes.

    @param said: what is said of them; empty: in which order they are.
    """
    rows = [
        Row(
            crash.crash_id,
            [
                cells.frame.moment(crash.at),
                cells.frame.crash_link(crash.crash_id),
                cells.product(crash),
                cells.place(crash),
                cells.size(crash),
                crash.rule,
                cells.now(crash),
            ],
        )
        for crash in crashes
    ]
    shown: Node = table("The last crashes that were kept, newest first", LAST, rows)
    if not rows:
        shown = h("p", "No crash has been kept since the start.", class_="note")
    link = group(", ", h("a", "all", href=f"{cells.frame.up}search?q=")) if cells.frame.searches else None
    return section("last", "Last crashes", shown, aside=group(said or "newest first", link))


_PRODUCTS = [
    Column(head="Product", cells="text", is_head=True),
    Column(head="24 h", cells="chartcell"),
    Column(head="Seen 1 h", style="n", label="1 h"),
    Column(head="Seen 24 h", style="n", label="24 h"),
]


def products(frame: Frame, seen: ProductsSeen) -> Element:
    """Make the section of the products and their versions."""
    rows = [_product_row(frame, one) for one in seen.products]
    if seen.others:
        others = [sparkline(seen.others_hourly) if seen.others_hourly else None]
        figures = [count(seen.others_hour.seen), count(seen.others_day.seen)]
        rows.append(Row("others", [quiet(number_of(seen.others, "other")), others, *figures]))
    shown = table("Products and versions, reports seen", _PRODUCTS, rows, "small products")
    return section("products", "Products and versions", shown)


def _product_row(frame: Frame, one: ProductSeen) -> Row:
    name = product_name(one.product, one.version)
    link = h("a", name, href=f"{frame.up}search?{urlencode({'q': product_query(one)})}") if frame.searches else name
    return Row(f"{one.product} {one.version}", [link, sparkline(one.hourly), count(one.hour.seen), count(one.day.seen)])


def product_query(one: ProductSeen) -> str:
    """Write the search for the crashes of a version of a product."""
    return " ".join(word("product", one.product) + word("version", one.version))


def word(name: str, value: str) -> list[str]:
    """Write one word of a search, or none for a value that is not there or can't be written in one."""
    if not value or '"' in value:
        return []
    return [f'{name}:"{value}"' if set(value) & set(" \t\n*") else f"{name}:{value}"]
