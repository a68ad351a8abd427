"""
The digest of a report: two submissions with the same digest are the same report, sent twice.
"""

from hashlib import sha256

from collectord.model import CrashReport

SIZE = 16
"""Bytes of a digest: half of a SHA-256, which is enough to tell reports apart."""

VOLATILE = frozenset({"SubmittedFrom", "SubmittedFromInfobar", "Throttleable"})
"""
Annotations that say how a report was sent. Firefox changes them when it sends a report again. What the other clients
that are known change is no annotation: the boundary, the headers, the order of the parts, and their compression.
"""

OWN_IDS = frozenset({"guid", "crashpinguuid", "eventid", "crashguid", "crashid", "reportid", "uuid"})
"""Annotations that are a client's own id of a crash, in lower case and without hyphens and underscores."""

_NO_IDS = frozenset({"", "null", "none", "nil", "undefined", "unknown"})
"""What clients send that have no id yet, in lower case and without zeros, hyphens, braces and blanks around it."""

_LOSSES = frozenset({"left_out", "cut"})
"""Kinds of notes about something that is not in the report any more, so its content can't be compared."""


def digest_of(report: CrashReport) -> bytes | None:
    """
    Return the digest of C{report}: of its annotations and dumps, and of what is said to be missing from it.

    @return: None if equal reports may well be different crashes: it has no minidump and no id of the client's own. Two
        machines may send the same log or configuration, but no two processes have the same memory.
    """
    annotations = report.annotations
    if not report.has_minidump and not any(map(_is_own_id, annotations.items())):
        return None
    names = sorted(annotations.keys() - VOLATILE)
    files = sorted(f"{dump.name} {dump.sha256}" for dump in report.dumps)
    losses = sorted(note.text for note in report.notes if note.kind in _LOSSES)
    # No two reports give the same content: none of these texts has a NUL in it, and the two numbers at the beginning
    # tell which of them are names, values, files and losses.
    content = "\0".join(
        [str(len(names)), str(len(files)), *names, *map(annotations.__getitem__, names), *files, *losses]
    )
    return sha256(content.encode("utf-8", "surrogatepass")).digest()[:SIZE]


def when_deferred(digest: bytes, report: CrashReport) -> bytes:
    """
    Return the digest by which C{report} is remembered if its crash is deferred, which means not to be processed.

    It differs once the report says that it is not to be throttled: so a user sends it again to have it processed.
    """
    mark = 2 if report.annotations.get("Throttleable") == "0" else 1
    return digest[:-1] + bytes([digest[-1] ^ mark])


def _is_own_id(annotation: tuple[str, str]) -> bool:
    name, value = annotation
    is_name = name.lower().replace("-", "").replace("_", "") in OWN_IDS
    return is_name and value.strip(" 0-{}").lower() not in _NO_IDS
