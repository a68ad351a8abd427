"""
Looks up all that is known of one crash: in the stores, in destinations that are file systems, and in the journal.

All of it blocks.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from attrs import evolve, frozen

from collectord.daemon.dumpfiles import dump_file
from collectord.errors import LookUpFailed
from collectord.model import COLLECTOR_NAMES, checksums_in, metadata_of
from collectord.observe.crashpage import (
    LEFT,
    MOVED_THERE,
    CrashLocation,
    CrashPage,
    JournalEntry,
    dumps_of,
    facts_of,
    moved_to,
    sampled_in_words,
)
from collectord.storage.filesystem.finder import FoundCrash, find_crash

_TOLD_OTHERWISE = ("dump_checksums", "dumps")
"""Metadata that is about the dumps, and is shown with them."""
_NOTHING: Final[Mapping[str, Any]] = {"annotations": None, "facts": {}, "dumps": [], "places": []}


@frozen(kw_only=True)
class CrashLookUp:
    """
    Looks up crashes.

    @ivar roots: the root directories of the stores.
    @ivar moves: tells whether crashes of the store with this root are moved.
    @ivar destinations: returns the root directories of the destinations that are file systems.
    @ivar events: returns what the journal has on a crash.
    @ivar keep_s: for how many seconds after the last line of a day the journal keeps that day.
    """

    roots: Sequence[str]
    moves: Callable[[str], bool]
    destinations: Callable[[], Sequence[str]]
    events: Callable[[str], Sequence[JournalEntry]]
    keep_s: float

    def crash(self, crash_id: str, away: Mapping[str, str]) -> CrashPage | None:
        """
        Return all that is known of a crash; None: nothing is.

        @param away: which stores can't be asked now, and why.

        @raise LookUpFailed: nothing was found, but it may be where it could not be looked for.
        """
        not_asked = dict(away)
        found = self._copies(crash_id, not_asked)
        try:
            events = sorted(self.events(crash_id), key=lambda event: event.at)
        except OSError as e:
            events = []
            not_asked["the ledger"] = str(e)
        told = "; ".join(f"{where}: {why}" for where, why in not_asked.items())
        if not found and not events:
            if told:
                raise LookUpFailed(told)
            return None
        if found:  # The primary's copy is shown.
            page = _with_content(CrashPage(crash_id=crash_id, events=events, **_NOTHING), found[0])
        else:
            page = evolve(self._gone(crash_id, events), not_asked=told)
        here = [crash.root for crash in found]
        there = [self._left(place) for place in moved_to(events) if place.store not in (*here, *self.roots)]
        return evolve(page, places=[*(self._place(crash) for crash in found), *there])

    def dump(self, crash_id: str, name: str, away: Mapping[str, str]) -> tuple[str, int] | None:
        """
        Return the path of a dump and its size; None: it is not there.

        @param away: which stores can't be asked now.

        @raise OSError: its size can't be found out.
        """
        for crash in self._copies(crash_id, dict(away)):
            if name in crash.dumps:
                return crash.dumps[name], os.path.getsize(crash.dumps[name])
        return None

    def _copies(self, crash_id: str, not_asked: dict[str, str]) -> Sequence[FoundCrash]:
        """Find a crash everywhere but in C{not_asked}, to which is added what can't be read."""
        found = []
        for root in (*self.roots, *self.destinations()):
            if root in not_asked:
                continue
            try:
                crash = find_crash(root, crash_id)
            except OSError as e:  # Another store may have it.
                not_asked[root] = str(e)
            else:
                found += [] if crash is None else [crash]
        return found

    def _gone(self, crash_id: str, events: Sequence[JournalEntry]) -> CrashPage:
        """Return what the journal knows of a crash that is not here; of one that was erased, only that and when."""
        page = CrashPage(crash_id=crash_id, events=events, **_NOTHING, told_until=events[-1].at + self.keep_s)
        if page.erased is not None:
            return evolve(page, events=[JournalEntry(at=each.at, what=each.what, where=each.where) for each in events])
        return evolve(page, facts=facts_of(events), dumps=dumps_of(events))

    def _left(self, place: CrashLocation) -> CrashLocation:
        return evolve(place, state=LEFT) if place.store in self.destinations() else place

    def _place(self, crash: FoundCrash) -> CrashLocation:
        if crash.reason:
            return CrashLocation(store=crash.root, state=f"in the quarantine: {crash.reason}")
        if crash.root not in self.roots:
            return CrashLocation(store=crash.root, state=MOVED_THERE)
        waits = self.moves(crash.root) and crash.is_new()
        return CrashLocation(store=crash.root, state="waits to be moved" if waits else "stays")


def _with_content(page: CrashPage, crash: FoundCrash) -> CrashPage:
    try:
        raw_crash = crash.read()
    except (OSError, ValueError) as e:
        return evolve(page, annotations={}, facts={**page.facts, "raw crash": f"can't be read: {e}"})
    checksums = checksums_in(raw_crash) or {}
    facts = {name: raw_crash[name] for name in sorted(COLLECTOR_NAMES & set(raw_crash)) if name != "metadata"}
    about = metadata_of(raw_crash)
    facts |= {f"metadata.{name}": value for name, value in about.items() if name not in _TOLD_OTHERWISE}
    return evolve(
        page,
        annotations={str(name): str(value) for name, value in raw_crash.items() if name not in COLLECTOR_NAMES},
        facts={str(name): _fact_in_words(name, value) for name, value in facts.items()},
        dumps=[
            evolve(dump_file(name, path, str(checksums.get(name, ""))), sent_as=_sent_as(about.get("dumps"), name))
            for name, path in crash.dumps.items()
        ],
    )


def _sent_as(sent: object, name: str) -> str:
    """Return what the client said of a dump, by the metadata."""
    of_dump = sent.get(name) if isinstance(sent, dict) else None
    if not isinstance(of_dump, dict):
        return ""
    return ", ".join(str(of_dump[key]) for key in ("filename", "content_type") if of_dump.get(key))


def _fact_in_words(name: str, value: object) -> str:
    """Write a value of the raw crash as a text. One that is a list or an object is JSON, unless it is known better."""
    if name == "metadata.sampled" and isinstance(value, dict) and value.keys() == {"seen", "kept"}:
        return sampled_in_words(value["seen"], value["kept"])
    if name == "metadata.collector_notes" and isinstance(value, list):
        return "\n".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
