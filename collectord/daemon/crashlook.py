"""
Looks up all that is known of one crash: in the stores, in destinations that are file systems, and in the journal.

All of it blocks.
"""

import json
import os
from collections.abc import Callable, Sequence

from attrs import evolve, frozen

from collectord.daemon.dumpfiles import dump_file
from collectord.model import COLLECTOR_NAMES, checksums_in, metadata_of
from collectord.observe.crashpage import CrashLocation, CrashPage, JournalEntry, facts_of, moved_to
from collectord.storage.filesystem.finder import FoundCrash, find_crash

_TOLD_OTHERWISE = ("dump_checksums", "dumps")
"""Metadata that is about the dumps, and is shown with them."""


@frozen(kw_only=True)
class CrashLookUp:
    """
    Looks up crashes.

    @ivar roots: the root directories of the stores.
    @ivar moves: tells whether crashes of the store with this root are moved.
    @ivar destinations: returns the root directories of the destinations that are file systems.
    @ivar events: returns what the journal has on a crash.
    """

    roots: Sequence[str]
    moves: Callable[[str], bool]
    destinations: Callable[[], Sequence[str]]
    events: Callable[[str], Sequence[JournalEntry]]

    def crash(self, crash_id: str) -> CrashPage | None:
        """Return all that is known of a crash; None: nothing is."""
        found = self._copies(crash_id)
        events = self.events(crash_id)
        if not found and not events:
            return None
        facts = facts_of(events)
        page = CrashPage(crash_id=crash_id, annotations=None, facts=facts, dumps=[], places=[], events=events)
        if found:  # The primary's copy is shown.
            page = _with_content(page, found[0])
        here = {crash.root for crash in found}
        there = [place for place in moved_to(events) if place.store not in (*here, *self.roots)]
        return evolve(page, places=[*(self._place(crash) for crash in found), *there])

    def dump(self, crash_id: str, name: str) -> tuple[str, int] | None:
        """
        Return the path of a dump and its size; None: it is not there.

        @raise OSError: its size can't be found out.
        """
        for crash in self._copies(crash_id):
            if name in crash.dumps:
                return crash.dumps[name], os.path.getsize(crash.dumps[name])
        return None

    def _copies(self, crash_id: str) -> Sequence[FoundCrash]:
        roots = [*self.roots, *self.destinations()]
        return [crash for root in roots if (crash := _find(root, crash_id)) is not None]

    def _place(self, crash: FoundCrash) -> CrashLocation:
        if crash.reason:
            return CrashLocation(store=crash.root, state=f"in the quarantine: {crash.reason}")
        if crash.root not in self.roots:
            return CrashLocation(store=crash.root, state="was moved there")
        waits = self.moves(crash.root) and crash.is_new()
        return CrashLocation(store=crash.root, state="waits to be moved" if waits else "stays")


def _find(root: str, crash_id: str) -> FoundCrash | None:
    try:
        return find_crash(root, crash_id)
    except OSError:  # Another store may have it.
        return None


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
        return f"seen {value['seen']}, kept {value['kept']}"
    if name == "metadata.collector_notes" and isinstance(value, list):
        return "\n".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
