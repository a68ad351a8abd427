"""
Writes a journal again that was damaged or lost. The command C{collectord audit --rebuild} calls it, and it blocks.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from attrs import frozen

from collectord.audit.locations import CrashLocations
from collectord.audit.scan import is_of_day
from collectord.observe.journal.files import add_lines, rewrite
from collectord.observe.journal.lines import CRASH_KINDS, Line, time_of
from collectord.observe.journal.reader import Journal
from collectord.storage.filesystem.finder import FoundCrash, crashes_of_day, quarantined_crashes

_BATCH = 1000


@frozen(kw_only=True)
class Rebuilt:
    """
    These numbers say how a journal was rebuilt.

    @ivar read: how many of its lines were kept.
    @ivar damaged: how many lines could not be understood, and were left out.
    @ivar added: how many lines were added for crashes that lie in stores.
    """

    read: int
    damaged: int
    added: int


def rebuild(locations: CrashLocations, day: str) -> Rebuilt:
    """
    Write the journal of C{day} again with the lines that can be read, and add lines for the crashes in the stores that
    it does not have.

    A daemon that is running waits for the first step, but not for the second.

    @param day: C{yyyymmdd}.

    @raise CannotAudit: a store is not there.
    @raise OSError: the journal can't be written. No line is lost; some may be there twice.
    """
    locations.require_all_stores()
    journal = Journal(locations.journals, day)
    noted: dict[str, set[str]] = {"kept": set(), "quarantined": set()}
    counts: Counter[str] = Counter()

    def readable() -> Iterator[Line]:
        for line in journal:
            if line.kind in CRASH_KINDS and line.subject not in noted["kept"] and not is_of_day(line.subject, day):
                counts["misfiled"] += 1
                continue
            if line.kind in noted:
                noted[line.kind].add(line.subject)
            counts["read"] += 1
            yield line

    rewrite(locations.journals, day, readable())
    batch: list[Line] = []
    for kind, crash in _on_disk(locations, day):
        if crash.crash_id not in noted[kind]:
            batch.append(_line_of(crash, kind))
            counts["added"] += 1
        if len(batch) >= _BATCH:
            add_lines(locations.journals, day, batch)
            batch.clear()
    add_lines(locations.journals, day, batch)
    return Rebuilt(read=counts["read"], damaged=journal.damaged + counts["misfiled"], added=counts["added"])


def _on_disk(locations: CrashLocations, day: str) -> Iterator[tuple[str, FoundCrash]]:
    for root in locations.stores:
        for crash in crashes_of_day(root, day):
            yield "kept", crash
        for crash in quarantined_crashes(root):
            if is_of_day(crash.crash_id, day):
                yield "quarantined", crash


def _line_of(crash: FoundCrash, kind: str) -> Line:
    """Return the line that a crash should have, by what its raw crash says, if it says anything."""
    at, rule = 0.0, ""
    with suppress(OSError, ValueError, TypeError, LookupError):
        at = os.stat(crash.raw_crash).st_mtime
        raw_crash: Mapping[str, Any] = crash.read()
        at = datetime.fromisoformat(raw_crash["submitted_timestamp"]).timestamp()
        rule = str(raw_crash["metadata"]["throttle_rule"])
    return Line(time_of(at), kind, crash.crash_id, crash.root, rule if kind == "kept" else "")
