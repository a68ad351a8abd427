"""
Completes a report by what its dialect says: annotations from other places, the product of a key, the minidump's name.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count, takewhile
from typing import Final

from attrs import evolve

from collectord.dialects.documents import DOCUMENTS, members_at, text_at
from collectord.dialects.places import RequestPlace
from collectord.dialects.query import values_in
from collectord.dialects.row import Dialect
from collectord.dialects.table import Asked
from collectord.model import MINIDUMP, Annotations, CrashReport, Dump, Note

PRODUCT: Final = "ProductName"
BY_MAGIC: Final = "MDMP"
"""Stands in a row for a file that begins as a minidump does, whatever it is called."""

Documents = Mapping[tuple[str, str], object]
"""Documents that were read, by their kinds and names."""


def joined(annotations: Annotations, dialect: Dialect) -> Annotations:
    """Return C{annotations}, of which those that came in pieces are put together."""
    found = dict(annotations)
    for name, beginning in dialect.join.items():
        pieces = list(takewhile(found.__contains__, (f"{beginning}{number}" for number in count(1))))
        if pieces and name not in found:
            found[name] = "".join(found.pop(piece) for piece in pieces)
    return found


def completed(
    report: CrashReport, asked: Asked, query: bytes, product: str, documents: Documents, most_bytes: int
) -> CrashReport:
    """
    Return C{report} as its row wants it. Nothing of it is lost: annotations are added, and a dump gets another name.

    @param query: of the URL, all of it.
    @param product: of the key that was sent; empty if it has none.
    @param most_bytes: that its annotations may have together, names and values.
    """
    dialect = asked.dialect
    annotations, notes = dict(report.annotations), list(report.notes)
    room = most_bytes - sum(len(name) + len(value) for name, value in annotations.items())
    places = _Places(annotations, values_in(query), asked.path, documents)
    left_out = 0
    for name, value in places.found(dialect):
        if name in annotations:
            continue
        room -= len(name) + len(value)
        if room < 0:
            left_out += 1
        else:
            annotations[name] = value
    if left_out:
        notes.append(Note("left_out", f"{left_out} annotations from other places are left out: there are too many"))
    if product:
        if annotations.get(PRODUCT, product) != product:
            notes.append(Note("left_out", f"{PRODUCT}: came with another value than that of the key, which counts"))
        annotations[PRODUCT] = product
    dumps = _with_minidump(report.dumps, dialect)
    has_minidump = report.has_minidump or any(dump.name == MINIDUMP and dump.size for dump in dumps)
    return evolve(report, annotations=annotations, dumps=dumps, notes=notes, has_minidump=has_minidump)


class _Places:
    """Where the values of annotations are."""

    def __init__(self, fields: Annotations, query: Annotations, path: Annotations, documents: Documents) -> None:
        self._texts = {"field": dict(fields), "query": query, "path": path}
        self._documents = documents

    def found(self, dialect: Dialect) -> Iterator[tuple[str, str]]:
        """Yield the names and values of all that C{dialect} wants."""
        for name, sources in dialect.annotations.items():
            values = (self._at(source) for source in sources)
            value = next((value for value in values if value is not None), None)
            if value is not None:
                yield name, _clean(value)
        for prefix, sources in dialect.spread.items():
            for source in sources:
                document = self._documents.get((source.kind, source.name))
                for name, value in members_at(document, source.parameter.split("/")):
                    yield _clean(prefix + name), _clean(value)

    def _at(self, source: RequestPlace) -> str | None:
        if source.kind not in DOCUMENTS:
            return self._texts[source.kind].get(source.name)
        return text_at(self._documents.get((source.kind, source.name)), source.parameter.split("/"))


def _clean(text: str) -> str:
    """C{text} without what could be neither stored nor sent on: NUL, and halves of surrogate pairs."""
    if text.isascii():
        return text.replace("\0", "")
    return text.replace("\0", "").encode(errors="surrogatepass").decode(errors="replace")


def _with_minidump(dumps: Sequence[Dump], dialect: Dialect) -> Sequence[Dump]:
    """C{dumps}, of which the minidump has the name that processors look for. That is no news, so there is no note."""
    if any(dump.name == MINIDUMP for dump in dumps):
        return dumps
    for name in dialect.minidump:
        for dump in dumps:
            if dump.is_minidump if name == BY_MAGIC else dump.name == name:
                return [evolve(each, name=MINIDUMP, is_minidump=True) if each is dump else each for each in dumps]
    return dumps
