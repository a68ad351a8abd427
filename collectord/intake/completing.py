"""
Completes a report that has come whole by what its dialect says, for which documents among its dumps may be read.
"""

from attrs import evolve
from twisted.logger import Logger

from collectord.dialects.completing import completed, joined
from collectord.dialects.documents import MOST_BYTES, read_document
from collectord.dialects.table import Asked
from collectord.errors import StorageError
from collectord.intake.names import DumpNames
from collectord.intake.texts import NO_ANNOTATIONS
from collectord.model import CrashReport, Dump, Note

_log = Logger()


async def complete(report: CrashReport, asked: Asked, query: bytes, product: str, most_bytes: int) -> CrashReport:
    """Return C{report} as its row wants it; see L{completed}."""
    report = evolve(report, annotations=joined(report.annotations, asked.dialect))
    documents: dict[tuple[str, str], object] = {}
    dumps = {dump.name: dump for dump in report.dumps}
    found: set[str] = set()
    notes = list(report.notes)
    for kind, name in asked.dialect.documents:
        dump_name = DumpNames().choose(name)
        found |= {dump_name} & dumps.keys()
        try:
            data = await _content_of(report, name, dumps.get(dump_name))
            if data is not None:
                documents[kind, name] = read_document(kind, data)
        except (ValueError, StorageError) as e:
            notes.append(Note("left_out", f"{name}: no annotations are taken from it: {e}"))
        except Exception:
            _log.failure("a defect: a document could not be read; its crash is kept without annotations from it")
    report = completed(evolve(report, notes=notes, documents=found), asked, query, product, documents, most_bytes)
    if report.annotations:
        report = evolve(report, notes=[note for note in report.notes if note != NO_ANNOTATIONS])
    return report


async def _content_of(report: CrashReport, name: str, dump: Dump | None) -> bytes | None:
    """The document of that name, which is a dump or an annotation; None if there is none."""
    if dump is None:
        text = report.annotations.get(name)
        return None if text is None else text.encode()
    if dump.size > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES} bytes")
    return b"".join([piece async for piece in dump.content.chunks()])
