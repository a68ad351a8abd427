"""
A journal that was damaged, or lost, made anew. All of it blocks.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from attrs import frozen

from collectord.audit.locations import Places
from collectord.audit.scan import is_of
from collectord.observe.journal.files import add_lines, rewrite
from collectord.observe.journal.lines import OF_CRASHES, Journal, Line, time_of
from collectord.storage.filesystem.finder import FoundCrash, crashes_of_day, quarantined_crashes

_BATCH = 1000


@frozen(kw_only=True)
class Rebuilt:
    """@ivar read: lines that were there. @ivar damaged: that were not understood. @ivar added: by what is on disk."""

    read: int
    damaged: int
    added: int


def rebuild(places: Places, day: str) -> Rebuilt:
    """
    Write the journal of C{day} anew, of its readable lines; then add what lies in the stores and is not in it.

    The daemon, which may be running, waits for the first, but not for the second.

    @raise CannotAudit: a store is not there.
    @raise OSError: no line is lost, and some may be there twice.
    """
    places.refuse_absent()
    journal = Journal(places.journals, day)
    noted: dict[str, set[str]] = {"kept": set(), "quarantined": set()}
    counts: Counter[str] = Counter()

    def readable() -> Iterator[Line]:
        for line in journal:
            if line.kind in OF_CRASHES and line.about not in noted["kept"] and not is_of(line.about, day):
                counts["strange"] += 1
                continue
            if line.kind in noted:
                noted[line.kind].add(line.about)
            counts["read"] += 1
            yield line

    rewrite(places.journals, day, readable())
    batch: list[Line] = []
    for kind, crash in _on_disk(places, day):
        if crash.crash_id not in noted[kind]:
            batch.append(_line_of(crash, kind))
            counts["added"] += 1
        if len(batch) >= _BATCH:
            add_lines(places.journals, day, batch)
            batch.clear()
    add_lines(places.journals, day, batch)
    return Rebuilt(read=counts["read"], damaged=journal.damaged + counts["strange"], added=counts["added"])


def _on_disk(places: Places, day: str) -> Iterator[tuple[str, FoundCrash]]:
    for root in places.stores:
        for crash in crashes_of_day(root, day):
            yield "kept", crash
        for crash in quarantined_crashes(root):
            if is_of(crash.crash_id, day):
                yield "quarantined", crash


def _line_of(crash: FoundCrash, kind: str) -> Line:
    """What the raw crash says, if it says anything."""
    at, rule = 0.0, ""
    with suppress(OSError, ValueError, TypeError, LookupError):
        at = os.stat(crash.raw_crash).st_mtime
        raw_crash: Mapping[str, Any] = crash.read()
        at = datetime.fromisoformat(raw_crash["submitted_timestamp"]).timestamp()
        rule = str(raw_crash["metadata"]["throttle_rule"])
    return Line(time_of(at), kind, crash.crash_id, crash.root, rule if kind == "kept" else "")
