"""
The dumps of a crash, as a table: what each of them is, and whether it is what was received.
"""

from collections.abc import Iterator, Sequence
from urllib.parse import quote
from xml.etree.ElementTree import Element

from collectord.admin.crashlist import MAX_TEXT
from collectord.admin.format import count
from collectord.admin.html import Node, group, h, quiet
from collectord.admin.tables import Column, Row, breakable, section, table
from collectord.observe.crashpage import CrashPage, DumpFile, kept_event
from collectord.units import size_in_words

_COLUMNS = [
    Column(head="Name", is_head=True, cells="text"),
    Column(head="Size", style="n"),
    Column(head="Bytes", style="n", label="bytes"),
    Column(head="Kind", cells="text"),
    Column(head=h("span", "Get it", class_="away"), style="n"),
]


def dump_list(crash: CrashPage, downloads: bool) -> Element:
    """
    Make the section.

    @param downloads: whether dumps may be downloaded.
    """
    dumps = crash.dumps
    if not dumps:
        return section("dumps", "Dumps", h("p", "None.", class_="note"))
    shown = table("Dumps of this crash", _COLUMNS, [])
    body = shown.find("tbody")
    assert body is not None
    body.extend(row for dump in dumps for row in _rows(crash, dump, downloads))
    return section("dumps", "Dumps", shown, aside=_aside(dumps))


def received_dumps(crash: CrashPage) -> Element | None:
    """Make the section of the dumps of a crash that is not here, as they were received; None: they are not known."""
    if not crash.dumps:
        return None
    kept = kept_event(crash.events)
    more = kept.details.more_dumps if kept else 0
    rows = [Row(dump.name, [breakable(dump.name), *_amount(dump), _kind(dump)]) for dump in crash.dumps]
    rest = h("p", f"{count(more)} more {'is' if more == 1 else 'are'} not remembered.", class_="note") if more else None
    shown = table("Dumps of this crash, as they were received", _COLUMNS[:-1], rows)
    aside = f"{count(len(crash.dumps) + more)}, as they were received"
    return section("dumps", "Dumps", shown, rest, aside=aside)


def _amount(dump: DumpFile) -> Sequence[Node]:
    return ("not known", None) if dump.size is None else (size_in_words(dump.size), count(dump.size))


def _aside(dumps: Sequence[DumpFile]) -> Node:
    wrong = sum(dump.is_whole is False or bool(dump.problem) for dump in dumps)
    if wrong:
        return [f"{count(len(dumps))}, ", h("b", f"{count(wrong)} not as received", class_="bad")]
    if all(dump.is_whole for dump in dumps):
        return f"{count(len(dumps))}, whole: as received"
    return count(len(dumps))


def _rows(crash: CrashPage, dump: DumpFile, downloads: bool) -> Iterator[Element]:
    link = None
    if downloads:
        href = f"{crash.crash_id}/dumps/{quote(dump.name, safe='')}"
        link = h("a", "Download", class_="button", href=href, download=f"{crash.crash_id}.{dump.name}")
    checked = list(_checked(dump))
    amount, exactly = _amount(dump)
    yield h(
        "tr",
        h("th", breakable(dump.name), scope="row", class_="text"),
        h("td", amount, class_="n"),
        h("td", exactly, class_="n", data_label="bytes" if exactly else None),
        h("td", _kind(dump), class_="text"),
        h("td", link, class_="n"),
        class_="plus" if checked else None,
    )
    if checked:
        yield h("tr", h("td", checked, colspan=str(len(_COLUMNS))), class_="sum")


def _kind(dump: DumpFile) -> Node:
    sent = quiet(f"sent as {dump.sent_as[:MAX_TEXT]}") if dump.sent_as else None
    return group(dump.kind or None, " " if dump.kind and dump.sent_as else None, sent)


def _checked(dump: DumpFile) -> Iterator[Node]:
    """Say whether a dump is what was received."""
    if dump.problem:
        yield h("b", f"{dump.problem} ", class_="bad")
    if dump.is_whole is False:
        yield h("b", "The file has other bytes than were received. ", class_="bad")
    if dump.expected:
        yield ["SHA-256 as received ", h("code", dump.expected)]
