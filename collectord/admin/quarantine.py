"""
The crashes that were put aside, since they are broken or no destination takes them.
"""

from collections.abc import Sequence
from urllib.parse import urlencode
from xml.etree.ElementTree import Element

from collectord.admin.crashlist import MAX_TEXT, CrashCells
from collectord.admin.format import number_of
from collectord.admin.html import Node, group, h, quiet
from collectord.admin.tables import Column, Row, section, table
from collectord.index.values import IndexedCrash
from collectord.observe.status import Overview

MAX_QUARANTINED = 20
"""The most of them that are shown."""

QUARANTINED = "state:quarantined"
"""The search for all of them."""

_COLUMNS = [
    Column(head="Since", cells="t"),
    Column(head="Crash", cells="id", is_head=True),
    Column(head="Product", cells="cut"),
    Column(head="Store", cells="id text"),
    Column(head="Why", cells="text"),
    Column(head="Size", style="n"),
]


def quarantine(overview: Overview, cells: CrashCells, crashes: Sequence[IndexedCrash]) -> Element | None:
    """
    Make the section; None: there are none.

    @param crashes: the last of them, as far as they are known.
    """
    number = sum(store.quarantined or 0 for store in overview.stores)
    if not number:
        return None
    how = group(h("code", "collectord quarantine list"), " says why each of them is there.")
    shown: Node = None
    if crashes:
        shown = table("Crashes in the quarantine, newest first", _COLUMNS, [_row(cells, crash) for crash in crashes])
    if number > len(crashes) > 0:
        link = h("a", "All of them", href=f"{cells.frame.up}search?{urlencode({'q': QUARANTINED})}")
        how = group(how, " ", link, ".")
    stays = "it stays until it is" if number == 1 else "they stay until they are"
    aside = f"{number_of(number, 'crash', 'crashes')} that can't be moved; {stays} released or removed"
    return section("quarantine", "Quarantine", shown, h("p", how, class_="note"), aside=aside)


def _row(cells: CrashCells, crash: IndexedCrash) -> Row:
    since = cells.frame.moment(crash.changed or crash.at)
    return Row(
        crash.crash_id,
        [
            since,
            cells.frame.crash_link(crash.crash_id),
            cells.product(crash),
            crash.store,
            crash.why[:MAX_TEXT] or quiet("not known"),
            cells.size(crash),
        ],
    )
