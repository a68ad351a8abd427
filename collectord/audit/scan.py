"""
Looks for every crash of a day, in the journal first and then in the stores.

The command C{collectord audit} calls this in a process of its own. All of it blocks, so it must not run on a reactor
thread.

A crash that is moved in between is found in neither. So the crashes that seem to be missing are looked for once more,
after the daemon has written the lines that it had in memory.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Final

from collectord.audit.fates import NOTHING, Audit, Fate, Traces, UncleanStop, fate_of, is_unlinked, with_trace
from collectord.audit.locations import CrashLocations
from collectord.crashid import is_crash_id
from collectord.observe.journal.files import ended_uncleanly
from collectord.observe.journal.lines import CRASH_KINDS, Line, journal_day, seconds_of, time_of
from collectord.observe.journal.reader import Journal
from collectord.storage.filesystem.finder import (
    FoundCrash,
    crashes_of_day,
    find_crash,
    links_of_day,
    quarantined_crashes,
)
from collectord.storage.filesystem.layout import place_in

_MAX_CRASHES_WITH_LINES = 10_000
"""At most so many suspects get their journal lines into the report."""

_NOT_IN_A_STORE: Final[frozenset[Fate]] = frozenset({"gone", "unaccounted", "arrived"})
"""The fates of crashes that are in no store although no line says that they were moved and removed."""


def audit(locations: CrashLocations, day: str, wait: Callable[[], object]) -> Audit:
    """
    Find out what became of the crashes of a day.

    @param day: C{yyyymmdd}.
    @param wait: blocks until the daemon has surely written the lines about what happened before.

    @raise CannotAudit: a store is not there.
    @raise OSError: a store, a destination or the journal can't be read.
    """
    locations.require_all_stores()
    crashes: dict[str, Traces] = {}
    process_lines: dict[Line, None] = {}  # the journal may hold a line twice
    journal = Journal(locations.journals, day)
    misfiled = 0
    for line in journal:
        if line.kind not in CRASH_KINDS:
            process_lines[line] = None
        elif line.subject in crashes or is_of_day(line.subject, day):
            crashes[line.subject] = with_trace(crashes.get(line.subject, NOTHING), line.kind, line.where, line.rule)
        else:
            misfiled += 1
    others = [Journal(directory, day) for directory in locations.other_journals]
    for line in _told_elsewhere(others, locations):
        if line.kind not in CRASH_KINDS:
            process_lines[line] = None
        elif line.subject in crashes or (line.where in locations.shared and is_of_day(line.subject, day)):
            crashes[line.subject] = with_trace(crashes.get(line.subject, NOTHING), line.kind, line.where, line.rule)
    links: list[tuple[str, str]] = []
    for root in locations.stores:
        links_here = links_of_day(root, day)
        links += links_here
        linked = {crash_id for crash_id, _ in links_here}
        for crash in crashes_of_day(root, day):
            _note_found(crashes, crash, crash.crash_id in linked, locations)
        for crash in quarantined_crashes(root):
            if is_of_day(crash.crash_id, day):
                _note_found(crashes, crash, False, locations)
    lines = _scan_again(crashes, locations, day, wait)
    return Audit(
        day=day,
        locations=locations,
        crashes=crashes,
        lines=lines,
        dangling=sorted({crash_id for crash_id, link in links if _is_dangling(crash_id, link, crashes, locations)}),
        at_destinations={root: _count(locations, root, day, crashes) for root in locations.destinations},
        damaged=journal.damaged + misfiled + sum(other.damaged for other in others),
        # The subject of such a line is the number of lost lines, unless the line is damaged.
        lost=sum(int(line.subject) for line in process_lines if line.kind == "lost" and line.subject.isdecimal()),
        unclean_stops=list(_unclean_stops(locations, process_lines)),
    )


def _told_elsewhere(journals: Iterable[Journal], locations: CrashLocations) -> Iterator[Line]:
    """Yield the lines of other hosts. Their primaries are other stores than ours, also those of the same path."""
    for journal in journals:
        for line in journal:
            if line.where == locations.primary:
                yield line.at_place(f"{line.where} of {journal.directory}")
            else:
                yield line


def is_of_day(crash_id: str, day: str) -> bool:
    """Tell whether this is the id of a crash of that day (C{yyyymmdd})."""
    return is_crash_id(crash_id) and journal_day(crash_id) == day


def _is_dangling(crash_id: str, link: str, crashes: Mapping[str, Traces], locations: CrashLocations) -> bool:
    """Whether a link leads to no crash, and has not been removed together with its crash since we listed it."""
    traces = crashes.get(crash_id, NOTHING)
    if traces.waits_in | traces.stays_in | traces.unlinked_in | traces.quarantined_in or not os.path.lexists(link):
        return False
    return not any(os.path.lexists(place_in(root, crash_id, date_dir="").raw_crash) for root in locations.stores)


def _note_found(crashes: dict[str, Traces], crash: FoundCrash, is_linked: bool, locations: CrashLocations) -> None:
    """Add to C{crashes} that a crash was found in a store. If a link leads to it, the crash is new."""
    if crash.reason:
        how = "quarantined_in"
    elif not is_linked:
        how = "unlinked_in"
    else:
        is_moved_from = locations.stores[crash.root]
        how = "waits_in" if is_moved_from else "stays_in"
    crashes[crash.crash_id] = with_trace(crashes.get(crash.crash_id, NOTHING), how, crash.root)


def _scan_again(
    crashes: dict[str, Traces], locations: CrashLocations, day: str, wait: Callable[[], object]
) -> Mapping[str, Sequence[Line]]:
    """
    Look once more for the suspects: crashes that are in no store or have no link there, and should be or have.

    What is found is added to C{crashes}. The journal is read first, and then the stores are searched. A crash that is
    C{gone} is not searched for: its lines say that it was moved or quarantined. One that is C{unaccounted} has no such
    lines, so it should be in a store or at a destination.

    @return: the lines of the suspects that are still in no store, by their ids.
    """
    stores = frozenset(locations.stores)
    suspects = {
        crash_id
        for crash_id, traces in crashes.items()
        if fate_of(traces, stores) in _NOT_IN_A_STORE or is_unlinked(traces, stores)
    }
    if not suspects:
        return {}
    wait()
    lines: dict[str, dict[Line, None]] = {}
    others = [Journal(directory, day) for directory in locations.other_journals]
    for line in chain(Journal(locations.journals, day), _told_elsewhere(others, locations)):
        if line.subject in suspects and line.kind in CRASH_KINDS:
            crashes[line.subject] = with_trace(crashes[line.subject], line.kind, line.where, line.rule)
            if line.subject in lines or len(lines) < _MAX_CRASHES_WITH_LINES:
                lines.setdefault(line.subject, {})[line] = None
    destinations = [root for root in locations.destinations if locations.can_search(root)]
    for crash_id in suspects:
        if is_unlinked(crashes[crash_id], stores):  # It may have come after the links were listed.
            for root in crashes[crash_id].unlinked_in:
                if (crash := find_crash(root, crash_id)) is not None and crash.is_new():
                    _note_found(crashes, crash, True, locations)
        if fate_of(crashes[crash_id], stores) == "unaccounted":
            for root in stores:
                if (crash := find_crash(root, crash_id)) is not None:
                    _note_found(crashes, crash, crash.is_new(), locations)
            for root in destinations:
                if os.path.exists(place_in(root, crash_id, date_dir="").raw_crash):
                    crashes[crash_id] = with_trace(crashes[crash_id], "arrived_at", root)
    return {
        crash_id: list(of_crash)
        for crash_id, of_crash in lines.items()
        if fate_of(crashes[crash_id], stores) in _NOT_IN_A_STORE
    }


def _count(locations: CrashLocations, root: str, day: str, crashes: Mapping[str, Traces]) -> int | None:
    """
    Count which of C{crashes} are at the destination at C{root}.

    @return: None if the destination is not there, or a different store is mounted there.

    @raise OSError: the destination can't be read.
    """
    if not locations.can_search(root):
        return None
    return sum(crash.crash_id in crashes for crash in crashes_of_day(root, day))


def _unclean_stops(locations: CrashLocations, process_lines: Mapping[Line, None]) -> Iterator[UncleanStop]:
    """Yield the processes that ended without a stop: those that the journals name, and those nobody has noticed yet."""
    for line in process_lines:
        if line.kind == "unclean":
            try:
                after = time_of(seconds_of(line.where))
            except ValueError:  # a damaged line
                continue
            yield UncleanStop(process=line.subject, after=after, before=line.time)
    # Not of other hosts: the locks of their processes may not be seen here.
    for process, durable_until in ended_uncleanly(locations.journals):
        yield UncleanStop(process=process, after=time_of(durable_until), before="now")
