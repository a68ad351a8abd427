"""
Looking for every crash of a day. All of it blocks.

Journal first, stores then: a crash that is moved meanwhile is missing in both, so those that seem to be gone are looked
for once more, after what the daemon had still to write.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress

from collectord.audit.known import NOTHING, Audit, Known, Unclean, fate_of, known_with
from collectord.audit.places import Places
from collectord.crashid import is_crash_id
from collectord.observe.journal import OF_CRASHES, Journal, Line, day_of, seconds_of, time_of
from collectord.observe.journalfiles import ended_uncleanly
from collectord.storage.finding import FoundCrash, crashes_of_day, find_crash, quarantined_crashes
from collectord.storage.layout import place_in

_TOLD = 10_000
"""Crashes whose lines are told, of those that are not where they should be."""


def audit(places: Places, day: str, wait: Callable[[], object]) -> Audit:
    """
    Account for the crashes of C{day} (C{yyyymmdd}).

    @param wait: until the daemon has surely written what happened by now.

    @raise CannotAudit: a store is not there.
    @raise OSError: a store or the journal can't be read.
    """
    places.refuse_absent()
    crashes: dict[str, Known] = {}
    about_processes: list[Line] = []
    journal = Journal(places.journals, day)
    strange = 0
    for line in journal:
        if line.what not in OF_CRASHES:
            about_processes.append(line)
        elif line.about in crashes or is_of(line.about, day):
            crashes[line.about] = known_with(crashes.get(line.about, NOTHING), line.what, line.where, line.rule)
        else:
            strange += 1
    for root in places.stores:
        new = _new_ids(root, day)
        for crash in crashes_of_day(root, day):
            _found(crashes, crash, crash.crash_id in new, places)
        for crash in quarantined_crashes(root):
            if is_of(crash.crash_id, day):
                _found(crashes, crash, False, places)
    lines = _look_again(crashes, places, day, wait)
    return Audit(
        day=day,
        places=places,
        crashes=crashes,
        lines=lines,
        there={root: _count(root, day, crashes) for root in places.destinations},
        damaged=journal.damaged + strange,
        lost=sum(int(line.about) for line in about_processes if line.what == "lost" and line.about.isdecimal()),
        unclean=list(_unclean(places, about_processes)),
    )


def is_of(crash_id: str, day: str) -> bool:
    """Whether it is the id of a crash of that day."""
    return is_crash_id(crash_id) and day_of(crash_id) == day


def _new_ids(root: str, day: str) -> set[str]:
    # To os.walk a symlink to a directory is a directory, but it does not follow it. Without symlinks there are files.
    walked = os.walk(f"{root}/{day}/date")
    return {name for _, links, files in walked for name in (*links, *files) if is_crash_id(name)}


def _found(crashes: dict[str, Known], crash: FoundCrash, is_new: bool, places: Places) -> None:
    how = "aside_in" if crash.reason else "waits_in" if is_new and places.stores[crash.root] else "stays_in"
    crashes[crash.crash_id] = known_with(crashes.get(crash.crash_id, NOTHING), how, crash.root)


def _look_again(
    crashes: dict[str, Known], places: Places, day: str, wait: Callable[[], object]
) -> Mapping[str, Sequence[Line]]:
    """
    For those that are gone, in the journal and then everywhere else.

    @return: the lines of those that still are.
    """
    stores = frozenset(places.stores)
    gone = {crash_id for crash_id, known in crashes.items() if fate_of(known, stores) in ("gone", "unaccounted")}
    if not gone:
        return {}
    wait()
    lines: dict[str, dict[Line, None]] = {}
    for line in Journal(places.journals, day):
        if line.about in gone and line.what in OF_CRASHES:
            crashes[line.about] = known_with(crashes[line.about], line.what, line.where, line.rule)
            if line.about in lines or len(lines) < _TOLD:
                lines.setdefault(line.about, {})[line] = None
    for crash_id in gone:
        if fate_of(crashes[crash_id], stores) == "unaccounted":
            for root in stores:
                if (crash := find_crash(root, crash_id)) is not None:
                    _found(crashes, crash, crash.is_new(), places)
            for root in places.destinations:
                if os.path.exists(place_in(root, crash_id, "").raw_crash):
                    crashes[crash_id] = known_with(crashes[crash_id], "arrived_at", root)
    told = ("gone", "unaccounted", "arrived")
    return {crash_id: list(lines[crash_id]) for crash_id in lines if fate_of(crashes[crash_id], stores) in told}


def _count(root: str, day: str, crashes: Mapping[str, Known]) -> int | None:
    """How many of C{crashes} are at a destination; None: it is not there."""
    if not os.path.isdir(root):
        return None
    return sum(crash.crash_id in crashes for crash in crashes_of_day(root, day))


def _unclean(places: Places, about_processes: Sequence[Line]) -> Iterator[Unclean]:
    for line in dict.fromkeys(about_processes):
        with suppress(ValueError):  # a damaged line
            if line.what == "unclean":
                yield Unclean(process=line.about, after=time_of(seconds_of(line.where)), before=line.time)
    for process, after in ended_uncleanly(places.journals):
        yield Unclean(process=process, after=time_of(after), before="now")
