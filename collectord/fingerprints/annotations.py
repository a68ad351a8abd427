"""
The facts of a crash without a minidump: its place and fingerprint are made of a stack trace, or of the reason for it.
"""

import re
from collections.abc import Sequence
from typing import Final

from collectord.fingerprints.hashing import fingerprint
from collectord.model import Annotations, CrashFacts

LOOKED_AT: Final = 16_384
"""Characters at the beginning of an annotation that are looked at."""

_FRAMES: Final = 5
"""Frames of a stack trace that count."""

_SHOWN: Final = 200
"""The most characters of a line that count."""

_LINES: Final = re.compile(r"[\r\n]+|\\r|\\n")
_FRAME: Final = re.compile(r"at |[^\s@]*@\S")
"""How a frame begins: as Java and V8 write it, or as SpiderMonkey and JavaScriptCore do, C{name@file:line:column}."""

_CAUSED_BY: Final = "Caused by: "
_VARYING: Final = re.compile(r"\b0[xX][0-9A-Fa-f]+|\b(?=[A-Fa-f]*[0-9])[0-9A-Fa-f]{8,}\b|[0-9]+")
"""What differs from crash to crash: addresses, ids in hexadecimal, numbers."""

_POSITION: Final = re.compile(r"(?::#)+\)?$|\s*\([^()]*\)$")
"""Where in a file a frame is: lines and columns move with every build."""


def facts_told(annotations: Annotations) -> CrashFacts | None:
    """
    Return what C{annotations} tell of the crash; None if they tell nothing of it.

    The first of these counts that is there: C{JavaStackTrace}; C{JavaScriptException} with C{StackTraces}, or one of
    them; C{MozCrashReason}.
    """
    if java := annotations.get("JavaStackTrace", "").strip():
        return _facts("java", _java(java[:LOOKED_AT]))
    parts = (annotations.get(name, "").strip()[:LOOKED_AT] for name in ("JavaScriptException", "StackTraces"))
    # As JSON the traces hold addresses of modules, and no names.
    if script := "\n".join(part for part in parts if part and not part.startswith(("{", "["))):
        return _facts("javascript", _trace(_lines(script)))
    if reason := annotations.get("MozCrashReason", "").strip():
        return _facts("reason", [_normalized(line) for line in _lines(reason[:LOOKED_AT])[:1]])
    return None


def _facts(kind: str, lines: Sequence[str]) -> CrashFacts | None:
    told = [line for line in lines if line]
    if not told:
        return None
    return CrashFacts(fingerprint=fingerprint([kind, *told]), place=" ".join([kind, *told[:2]]))


def _java(text: str) -> list[str]:
    """The exception that was thrown and its first frames, and the same of the first cause of it."""
    blocks: list[list[str]] = [[]]
    for line in _lines(text):
        if line.startswith(_CAUSED_BY):
            blocks.append([])
        blocks[-1].append(line.removeprefix(_CAUSED_BY))
    thrown, cause = blocks[0], blocks[-1] if len(blocks) > 1 else []
    return [*_trace(thrown), *_trace(cause)]


def _trace(lines: Sequence[str]) -> list[str]:
    """The class of the exception and the first frames, or only the first line if there are no frames."""
    frames = [line for line in lines if _FRAME.match(line)][:_FRAMES]
    first = lines[0] if lines else ""
    if not frames:
        return [_normalized(first)]
    thrown = [] if _FRAME.match(first) else [_normalized(first.partition(":")[0])]
    return [*thrown, *(_POSITION.sub("", _normalized(frame.removeprefix("at "))) for frame in frames)]


def _normalized(line: str) -> str:
    return _VARYING.sub("#", line[:_SHOWN]).strip()


def _lines(text: str) -> list[str]:
    return [line for line in map(str.strip, _LINES.split(text)) if line]
