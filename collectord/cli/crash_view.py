"""
C{collectord crashes show}: reads one crash, and shows all of it.
"""

import json
import os
from collections.abc import Container, Mapping, Sequence
from pathlib import Path

import click
from attrs import asdict, field, frozen
from click.exceptions import Exit

from collectord.admin.format import milliseconds
from collectord.cli.shared import (
    EXIT_STATUS,
    WRONG,
    CannotRun,
    add_row,
    config_option,
    facts,
    json_option,
    say,
    shortened,
    show,
    show_json,
    table,
)
from collectord.cli.stores import a_crash_id, found_in, moved_roots, store_option, store_roots
from collectord.model import COLLECTOR_NAMES, RawCrash, checksums_in, metadata_of
from collectord.observe.crashpage import CrashLocation, JournalEntry, dumps_of, facts_of, moved_to
from collectord.observe.journal.lines import time_of
from collectord.observe.journal.reader import events_of
from collectord.observe.journal.writer import directory_of
from collectord.settings.loading import load_settings
from collectord.storage.filesystem.finder import FoundCrash, find_crash, links_of
from collectord.units import size_in_words


@frozen(kw_only=True)
class ReadCrash:
    """
    A crash in a store and its raw crash, whose values come from a client and may be of any type.

    @ivar is_new: whether it waits to be moved.
    @ivar unreadable: why its raw crash can't be read; empty if it can.
    """

    crash: FoundCrash
    raw_crash: RawCrash = field(repr=False)
    is_new: bool
    unreadable: str = ""

    @property
    def metadata(self) -> Mapping[str, object]:
        """The metadata in its raw crash; empty if it has none."""
        return metadata_of(self.raw_crash)

    def row(self) -> dict[str, object]:
        """Return what C{list --json} shows of it."""
        return {
            "crash_id": self.crash.crash_id,
            "submitted": self.raw_crash.get("submitted_timestamp"),
            "product": self.raw_crash.get("ProductName"),
            "version": self.raw_crash.get("Version"),
            "size": self.metadata.get("payload_size"),
            "rule": self.metadata.get("throttle_rule"),
            "fingerprint": self.metadata.get("fingerprint"),
            "dumps": sorted(self.crash.dumps),
            "new": self.is_new,
            "store": self.crash.root,
            **({"problem": self.unreadable} if self.unreadable else {}),
        }


def read_crash(crash: FoundCrash) -> ReadCrash | None:
    """Read the raw crash of C{crash}. Return None if it has been moved meanwhile."""
    try:
        raw_crash = crash.read()
    except FileNotFoundError:
        if not crash.reason:
            return None
        return ReadCrash(crash=crash, raw_crash={}, is_new=False, unreadable="there is no raw crash")
    except (OSError, ValueError) as e:
        return ReadCrash(crash=crash, raw_crash={}, is_new=crash.is_new(), unreadable=str(e))
    is_new = not crash.reason and any(map(os.path.lexists, links_of(crash, raw_crash)))
    return ReadCrash(crash=crash, raw_crash=raw_crash, is_new=is_new)


@click.command("show", epilog=EXIT_STATUS)
@click.argument("crash_id", type=a_crash_id)
@store_option
@config_option
@json_option
def show_crash(crash_id: str, stores: Sequence[str], config: Path | None, as_json: bool) -> None:
    """
    Show one crash.

    This shows its annotations, its dumps, where it lies, and whether it waits to be moved. Long annotations are cut;
    --json shows them whole. Of a crash that is not here any more, this shows what the journal has: when it was moved,
    where to, and by which queue it was published. If it was moved to a file system, name its root with --store.

    \b
    collectord crashes show bp-8f63752c-57c6-4e5d-b2cf-cabde2160622
    collectord crashes show bp-8f63752c-57c6-4e5d-b2cf-cabde2160622 --store /mnt/processed
    """
    roots = store_roots(config, stores)
    is_here = bool(stores) or any(find_crash(root, crash_id) for root in roots)
    if not is_here and (events := _events(config, crash_id)):
        show_events(crash_id, events, roots, as_json)
        return
    moved = None if stores else moved_roots(config)
    show_found(found_in(roots, crash_id), moved, as_json)


def _events(config: Path | None, crash_id: str) -> Sequence[JournalEntry]:
    settings = load_settings(config)
    try:
        return events_of(directory_of(settings), crash_id) if settings.ledger.enabled else ()
    except OSError as e:
        say(f"the journal can't be read: {e}")
        return ()


def show_events(crash_id: str, events: Sequence[JournalEntry], roots: Container[str], as_json: bool) -> None:
    """
    Show a crash that is in no store, by what the journal has of it.

    @param roots: of our own stores. Crashes are moved between these, too, and are then nowhere else.

    @raise Exit: no line says that it was moved.
    """
    moved = [place for place in moved_to(events) if place.store not in roots]
    if as_json:
        show_json(
            [
                {
                    "crash_id": crash_id,
                    **facts_of(events),
                    "places": [place.store for place in moved],
                    "events": [asdict(event) for event in events],
                }
            ]
        )
    else:
        _show_events(crash_id, events, moved)
    if not moved:
        raise Exit(WRONG)


def _end_of(events: Sequence[JournalEntry]) -> JournalEntry | None:
    """Return what says that a crash was erased or expired; None: nothing does."""
    return next((event for event in reversed(events) if event.what in ("erased", "expired")), None)


def _show_events(crash_id: str, events: Sequence[JournalEntry], moved: Sequence[CrashLocation]) -> None:
    state, end = "in no store any more", _end_of(events)
    if end is not None:
        state += f": {'erased' if end.what == 'erased' else 'removed for good'}"
    elif not moved:
        state += ", and no line says that it was moved"
    where = [("crash", crash_id), ("state", state)]
    where += [("moved to", shortened(place.store)) for place in moved]
    show(facts([*where, *((name, shortened(value)) for name, value in facts_of(events).items())]), "")
    shown = table("when (UTC)", "", "where", "took", whole=["when (UTC)"], right=["took"])
    for event in events:
        why = f"{event.where}: {event.place}" if event.what in ("quarantined", "expired") and event.place else ""
        took = "" if event.details.took_ms is None else milliseconds(event.details.took_ms)
        add_row(shown, time_of(event.at), event.what, shortened(why or event.place or event.where), took)
    show(shown)
    if received := dumps_of(events):
        dumps = table("dump, as received", "size", "kind", right=["size"])
        for dump in received:
            size = "" if dump.size is None else size_in_words(dump.size)
            add_row(dumps, shortened(dump.name, 40), size, dump.kind or dump.sent_as)
        show(dumps)
    if moved and end is None:
        show(f"collectord fetch {crash_id} brings it back")


def show_found(found: Sequence[FoundCrash], moved: Container[str] | None, as_json: bool) -> None:
    """
    Show one crash, as it was found in one store or more.

    @param moved: the roots of the stores from which a daemon moves crashes; None: nobody knows which these are.

    @raise CannotRun: it is in none of them any more.
    @raise Exit: its raw crash can't be read.
    """
    read = [crash for crash in map(read_crash, found) if crash is not None]
    if not read:
        raise CannotRun(f"{found[0].crash_id}: it was moved or removed while it was read")
    if as_json:
        show_json([{**crash.row(), **_in_full(crash)} for crash in read])
    else:
        for crash in read:
            _show(crash, moved)
    if any(crash.unreadable for crash in read):
        raise Exit(WRONG)


def _in_full(crash: ReadCrash) -> dict[str, object]:
    return {
        "quarantined": crash.crash.reason or None,
        "files": {"raw_crash": crash.crash.raw_crash, **crash.crash.dumps},
        "raw_crash": crash.raw_crash,
    }


def _state(crash: ReadCrash, moved: Container[str] | None) -> str:
    if crash.crash.reason:
        return f"in the quarantine: {crash.crash.reason}"
    if not crash.is_new:
        return "stays: it was moved, or nothing moves it"
    if moved is None:
        return "new: it was not moved from here"
    return "new: it waits to be moved" if crash.crash.root in moved else "stays: nothing moves it from here"


def _show(crash: ReadCrash, moved: Container[str] | None) -> None:
    where = [
        ("crash", crash.crash.crash_id),
        ("store", crash.crash.root),
        ("state", shortened(_state(crash, moved))),
    ]
    show(facts([*where, ("raw crash", crash.crash.raw_crash)]), "")
    if crash.unreadable:
        say(f"{crash.crash.crash_id}: the raw crash can't be read: {crash.unreadable}")
    annotations = {name: value for name, value in crash.raw_crash.items() if name not in COLLECTOR_NAMES}
    own = {name: value for name, value in crash.raw_crash.items() if name in COLLECTOR_NAMES - {"uuid", "metadata"}}
    shown = table("annotation", "value")
    for name, value in sorted(annotations.items()):
        add_row(shown, shortened(name, 80), shortened(value))
    show(shown)
    said = table("added by the collector", "")
    for name, value in [*own.items(), *sorted(crash.metadata.items())]:
        if name != "dump_checksums":
            add_row(said, shortened(name, 80), shortened(value if isinstance(value, str) else json.dumps(value)))
    show(said)
    checksums = checksums_in(crash.raw_crash) or {}
    dumps = table("dump", "size", "sha256 as received", "file", right=["size"])
    for name in sorted({*crash.crash.dumps, *checksums}):
        path = crash.crash.dumps.get(name)
        add_row(
            dumps, shortened(name, 40), _size(path), shortened(checksums.get(name, "unknown"), 64), path or "missing"
        )
    show(dumps)


def _size(path: str | None) -> str:
    try:
        return size_in_words(Path(path).stat().st_size) if path else ""
    except OSError:
        return "?"
