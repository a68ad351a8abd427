"""
Completes a report by what its dialect says: annotations from other places, the product of a key, the minidump's name.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from attrs import evolve

from collectord.dialects.places import RequestPlace
from collectord.dialects.query import values_in
from collectord.dialects.row import Dialect
from collectord.dialects.table import Asked
from collectord.errors import NoDump
from collectord.model import MINIDUMP, Annotations, CrashReport, Dump, Note

PRODUCT: Final = "ProductName"
BY_MAGIC: Final = "MDMP"
"""Stands in a row for a file that begins as a minidump does, whatever it is called."""


def completed(report: CrashReport, asked: Asked, query: bytes, product: str) -> CrashReport:
    """
    Return C{report} as its row wants it. Nothing of it is lost: annotations are added, and a dump gets another name.

    @param query: of the URL, all of it.
    @param product: of the key that was sent; empty if it has none.

    @raise NoDump: it has no dump, and its dialect wants one.
    """
    dialect = asked.dialect
    if dialect.no_dump != "keep" and not report.dumps:
        raise NoDump
    annotations = dict(report.annotations)
    places = {"field": report.annotations, "query": values_in(query), "path": asked.path}
    for name, sources in dialect.annotations.items():
        if name not in annotations and (value := _first(sources, places)) is not None:
            annotations[name] = value.replace("\0", "")
    notes = []
    if product:
        sent = annotations.get(PRODUCT, product)
        if sent != product:
            notes.append(Note("left_out", f"{PRODUCT}: came with another value than that of the key, which counts"))
        annotations[PRODUCT] = product
    dumps = _with_minidump(report.dumps, dialect)
    has_minidump = report.has_minidump or any(dump.name == MINIDUMP and dump.size for dump in dumps)
    return evolve(
        report, annotations=annotations, dumps=dumps, notes=[*report.notes, *notes], has_minidump=has_minidump
    )


def _first(sources: Sequence[RequestPlace], places: Mapping[str, Annotations]) -> str | None:
    values = (places[source.kind].get(source.name) for source in sources)
    return next((value for value in values if value is not None), None)


def _with_minidump(dumps: Sequence[Dump], dialect: Dialect) -> Sequence[Dump]:
    """C{dumps}, of which the minidump has the name that processors look for. That is no news, so there is no note."""
    if any(dump.name == MINIDUMP for dump in dumps):
        return dumps
    for name in dialect.minidump:
        for dump in dumps:
            if dump.is_minidump if name == BY_MAGIC else dump.name == name:
                return [evolve(each, name=MINIDUMP, is_minidump=True) if each is dump else each for each in dumps]
    return dumps
