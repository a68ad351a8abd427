"""
Looking for every crash of a day. All of it blocks.

Journal first, stores then: a crash that is moved meanwhile is missing in both, so those that seem to be gone are looked
for once more, after what the daemon had still to write.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress

from collectord.audit.fates import NOTHING, Audit, Known, Unclean, fate_of, is_unlinked, known_with
from collectord.audit.locations import Places
from collectord.crashid import is_crash_id
from collectord.observe.journal.files import ended_uncleanly
from collectord.observe.journal.lines import OF_CRASHES, Journal, Line, day_of, seconds_of, time_of
from collectord.storage.filesystem.finder import FoundCrash, crashes_of_day, find_crash, quarantined_crashes
from collectord.storage.filesystem.layout import place_in

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
        if line.kind not in OF_CRASHES:
            about_processes.append(line)
        elif line.about in crashes or is_of(line.about, day):
            crashes[line.about] = known_with(crashes.get(line.about, NOTHING), line.kind, line.where, line.rule)
        else:
            strange += 1
    links: dict[str, str] = {}
    for root in places.stores:
        new = _links(root, day)
        links |= new
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
        dangling=sorted(crash_id for crash_id, link in links.items() if _is_dangling(crash_id, link, crashes, places)),
        there={root: _count(places, root, day, crashes) for root in places.destinations},
        damaged=journal.damaged + strange,
        lost=sum(int(line.about) for line in about_processes if line.kind == "lost" and line.about.isdecimal()),
        unclean=list(_unclean(places, about_processes)),
    )


def is_of(crash_id: str, day: str) -> bool:
    """Whether it is the id of a crash of that day."""
    return is_crash_id(crash_id) and day_of(crash_id) == day


def _links(root: str, day: str) -> dict[str, str]:
    """The paths of the links of a day, or of what stands for them, by the ids of their crashes."""
    # To os.walk a symlink to a directory is a directory, but it does not follow it.
    walk = os.walk(f"{root}/{day}/date")
    return {name: f"{slot}/{name}" for slot, dirs, files in walk for name in (*dirs, *files) if is_crash_id(name)}


def _is_dangling(crash_id: str, link: str, crashes: Mapping[str, Known], places: Places) -> bool:
    """Whether a link leads to no crash, and did not leave with it since it was listed."""
    known = crashes.get(crash_id, NOTHING)
    if known.waits_in | known.stays_in | known.unlinked_in | known.aside_in or not os.path.lexists(link):
        return False
    return not any(os.path.lexists(place_in(root, crash_id, "").raw_crash) for root in places.stores)


def _found(crashes: dict[str, Known], crash: FoundCrash, is_new: bool, places: Places) -> None:
    if crash.reason:
        how = "aside_in"
    elif not is_new:
        how = "unlinked_in"
    else:
        how = "waits_in" if places.stores[crash.root] else "stays_in"
    crashes[crash.crash_id] = known_with(crashes.get(crash.crash_id, NOTHING), how, crash.root)


def _look_again(
    crashes: dict[str, Known], places: Places, day: str, wait: Callable[[], object]
) -> Mapping[str, Sequence[Line]]:
    """
    For those that are gone, in the journal and then everywhere else.

    @return: the lines of those that still are.
    """
    stores = frozenset(places.stores)
    gone = {
        crash_id
        for crash_id, known in crashes.items()
        if fate_of(known, stores) in ("gone", "unaccounted") or is_unlinked(known, stores)
    }
    if not gone:
        return {}
    wait()
    lines: dict[str, dict[Line, None]] = {}
    for line in Journal(places.journals, day):
        if line.about in gone and line.kind in OF_CRASHES:
            crashes[line.about] = known_with(crashes[line.about], line.kind, line.where, line.rule)
            if line.about in lines or len(lines) < _TOLD:
                lines.setdefault(line.about, {})[line] = None
    for crash_id in gone:
        if is_unlinked(crashes[crash_id], stores):  # it may have come after the links were listed
            for root in crashes[crash_id].unlinked_in:
                if (crash := find_crash(root, crash_id)) is not None and crash.is_new():
                    _found(crashes, crash, True, places)
        if fate_of(crashes[crash_id], stores) == "unaccounted":
            for root in stores:
                if (crash := find_crash(root, crash_id)) is not None:
                    _found(crashes, crash, crash.is_new(), places)
            for root in places.destinations:
                if os.path.exists(place_in(root, crash_id, "").raw_crash):
                    crashes[crash_id] = known_with(crashes[crash_id], "arrived_at", root)
    told = ("gone", "unaccounted", "arrived")
    return {crash_id: list(lines[crash_id]) for crash_id in lines if fate_of(crashes[crash_id], stores) in told}


def _count(places: Places, root: str, day: str, crashes: Mapping[str, Known]) -> int | None:
    """How many of C{crashes} are at a destination; None: it is not there, or another one is."""
    if places.problem_of(root) or not os.path.isdir(root):
        return None
    return sum(crash.crash_id in crashes for crash in crashes_of_day(root, day))


def _unclean(places: Places, about_processes: Sequence[Line]) -> Iterator[Unclean]:
    for line in dict.fromkeys(about_processes):
        with suppress(ValueError):  # a damaged line
            if line.kind == "unclean":
                yield Unclean(process=line.about, after=time_of(seconds_of(line.where)), before=line.time)
    for process, after in ended_uncleanly(places.journals):
        yield Unclean(process=process, after=time_of(after), before="now")
