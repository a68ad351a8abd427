"""
Looking for every crash of a day, in the journal first and then in the stores. All of it blocks.

A crash that is moved in between is found in neither. So those that seem to be gone are looked for once more, after the
daemon has written the lines that it had in memory.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress

from collectord.audit.fates import NOTHING, Audit, Traces, UncleanStop, fate_of, is_unlinked, with_trace
from collectord.audit.locations import CrashLocations
from collectord.crashid import is_crash_id
from collectord.observe.journal.files import ended_uncleanly
from collectord.observe.journal.lines import OF_CRASHES, Journal, Line, journal_day, seconds_of, time_of
from collectord.storage.filesystem.finder import FoundCrash, crashes_of_day, find_crash, quarantined_crashes
from collectord.storage.filesystem.layout import place_in

_WITH_LINES = 10_000
"""Of how many crashes that are not where they should be the lines are collected."""


def audit(locations: CrashLocations, day: str, wait: Callable[[], object]) -> Audit:
    """
    Find out what became of the crashes of a day.

    @param day: C{yyyymmdd}.
    @param wait: returns once the daemon has surely written the lines about what happened before.

    @raise CannotAudit: a store is not there.
    @raise OSError: a store or the journal can't be read.
    """
    locations.refuse_absent()
    crashes: dict[str, Traces] = {}
    about_processes: list[Line] = []
    journal = Journal(locations.journals, day)
    strange = 0
    for line in journal:
        if line.kind not in OF_CRASHES:
            about_processes.append(line)
        elif line.about in crashes or is_of_day(line.about, day):
            crashes[line.about] = with_trace(crashes.get(line.about, NOTHING), line.kind, line.where, line.rule)
        else:
            strange += 1
    links: dict[str, str] = {}
    for root in locations.stores:
        new = _links(root, day)
        links |= new
        for crash in crashes_of_day(root, day):
            _note_found(crashes, crash, crash.crash_id in new, locations)
        for crash in quarantined_crashes(root):
            if is_of_day(crash.crash_id, day):
                _note_found(crashes, crash, False, locations)
    lines = _scan_again(crashes, locations, day, wait)
    return Audit(
        day=day,
        locations=locations,
        crashes=crashes,
        lines=lines,
        dangling=sorted(
            crash_id for crash_id, link in links.items() if _is_dangling(crash_id, link, crashes, locations)
        ),
        at_destinations={root: _count(locations, root, day, crashes) for root in locations.destinations},
        damaged=journal.damaged + strange,
        lost=sum(int(line.about) for line in about_processes if line.kind == "lost" and line.about.isdecimal()),
        unclean_stops=list(_unclean_stops(locations, about_processes)),
    )


def is_of_day(crash_id: str, day: str) -> bool:
    """Whether this is the id of a crash of that day."""
    return is_crash_id(crash_id) and journal_day(crash_id) == day


def _links(root: str, day: str) -> dict[str, str]:
    """The paths of the links of a day, which may be symlinks or small files, by the ids of their crashes."""
    # os.walk lists a symlink to a directory among the directories, and does not follow it.
    walk = os.walk(f"{root}/{day}/date")
    return {name: f"{slot}/{name}" for slot, dirs, files in walk for name in (*dirs, *files) if is_crash_id(name)}


def _is_dangling(crash_id: str, link: str, crashes: Mapping[str, Traces], locations: CrashLocations) -> bool:
    """Whether a link leads to no crash, and is still there: it did not go with its crash since it was listed."""
    traces = crashes.get(crash_id, NOTHING)
    if traces.waits_in | traces.stays_in | traces.unlinked_in | traces.aside_in or not os.path.lexists(link):
        return False
    return not any(os.path.lexists(place_in(root, crash_id, "").raw_crash) for root in locations.stores)


def _note_found(crashes: dict[str, Traces], crash: FoundCrash, is_new: bool, locations: CrashLocations) -> None:
    if crash.reason:
        how = "aside_in"
    elif not is_new:
        how = "unlinked_in"
    else:
        how = "waits_in" if locations.stores[crash.root] else "stays_in"
    crashes[crash.crash_id] = with_trace(crashes.get(crash.crash_id, NOTHING), how, crash.root)


def _scan_again(
    crashes: dict[str, Traces], locations: CrashLocations, day: str, wait: Callable[[], object]
) -> Mapping[str, Sequence[Line]]:
    """
    Look once more for the crashes that seem to be gone, in the journal first and then everywhere else.

    @return: the lines of those that are not where they should be, by their ids.
    """
    stores = frozenset(locations.stores)
    gone = {
        crash_id
        for crash_id, traces in crashes.items()
        if fate_of(traces, stores) in ("gone", "unaccounted") or is_unlinked(traces, stores)
    }
    if not gone:
        return {}
    wait()
    lines: dict[str, dict[Line, None]] = {}
    for line in Journal(locations.journals, day):
        if line.about in gone and line.kind in OF_CRASHES:
            crashes[line.about] = with_trace(crashes[line.about], line.kind, line.where, line.rule)
            if line.about in lines or len(lines) < _WITH_LINES:
                lines.setdefault(line.about, {})[line] = None
    for crash_id in gone:
        if is_unlinked(crashes[crash_id], stores):  # it may have arrived after the links were listed
            for root in crashes[crash_id].unlinked_in:
                if (crash := find_crash(root, crash_id)) is not None and crash.is_new():
                    _note_found(crashes, crash, True, locations)
        if fate_of(crashes[crash_id], stores) == "unaccounted":
            for root in stores:
                if (crash := find_crash(root, crash_id)) is not None:
                    _note_found(crashes, crash, crash.is_new(), locations)
            for root in locations.destinations:
                if os.path.exists(place_in(root, crash_id, "").raw_crash):
                    crashes[crash_id] = with_trace(crashes[crash_id], "arrived_at", root)
    missing = ("gone", "unaccounted", "arrived")
    return {crash_id: list(lines[crash_id]) for crash_id in lines if fate_of(crashes[crash_id], stores) in missing}


def _count(locations: CrashLocations, root: str, day: str, crashes: Mapping[str, Traces]) -> int | None:
    """How many of C{crashes} are at the destination at C{root}; None: it is not there, or another one is."""
    if locations.problem_of(root) or not os.path.isdir(root):
        return None
    return sum(crash.crash_id in crashes for crash in crashes_of_day(root, day))


def _unclean_stops(locations: CrashLocations, about_processes: Sequence[Line]) -> Iterator[UncleanStop]:
    for line in dict.fromkeys(about_processes):
        with suppress(ValueError):  # a damaged line
            if line.kind == "unclean":
                yield UncleanStop(process=line.about, after=time_of(seconds_of(line.where)), before=line.time)
    for process, after in ended_uncleanly(locations.journals):
        yield UncleanStop(process=process, after=time_of(after), before="now")
