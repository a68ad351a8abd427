"""
The dumps of a crash, as a table: what each of them is, and whether it is what was received.
"""

from collections.abc import Iterator, Sequence
from urllib.parse import quote
from xml.etree.ElementTree import Element

from collectord.admin.crashlist import MAX_TEXT
from collectord.admin.format import count, size
from collectord.admin.html import Node, group, h, quiet
from collectord.admin.tables import Column, section, table
from collectord.observe.crashpage import CrashPage, DumpFile

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
    known = dump.size is not None
    yield h(
        "tr",
        h("th", dump.name, scope="row", class_="text"),
        h("td", size(dump.size) if dump.size is not None else "not known", class_="n"),
        h("td", count(dump.size) if dump.size is not None else None, class_="n", data_label="bytes" if known else None),
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
