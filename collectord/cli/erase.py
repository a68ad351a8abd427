"""
C{collectord crashes erase}: erases crashes everywhere the command can reach, and says where it can't.
"""

import os
import sqlite3
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from attrs import field, frozen
from click.exceptions import Exit

from collectord.audit.locations import CrashLocations, locations_of
from collectord.cli.erased import tell
from collectord.cli.plugged import close, run_in_reactor, single_destinations
from collectord.cli.shared import EXIT_STATUS, WRONG, config_option, counted, json_option, say, show, show_json
from collectord.cli.staged import modes_of_stores
from collectord.cli.stores import crash_ids_argument
from collectord.concurrency.tasks import gather
from collectord.concurrency.timeouts import with_timeout
from collectord.daemon.delivery import make_plugins
from collectord.daemon.indexing import index_directory
from collectord.errors import CollectordError
from collectord.index.byhand import erase_from_index
from collectord.model import CrashEvent
from collectord.plugins import DESTINATIONS, Plugin
from collectord.settings.loading import load_settings
from collectord.settings.schema import Settings
from collectord.settings.urls import without_secrets
from collectord.storage.filesystem.erasing import erase as erase_in_store
from collectord.storage.filesystem.manual import WrongUser, staging_in
from collectord.storage.filesystem.receipts import note_erased
from collectord.storage.filesystem.staging import Modes


@frozen
class _Outcome:
    """
    What came of it.

    @ivar erased: the places from which each crash was erased, by its id.
    @ivar left: why each crash may still be at a place, by its id and the place.
    """

    erased: Mapping[str, list[str]] = field(factory=lambda: defaultdict(list))
    left: Mapping[str, dict[str, str]] = field(factory=lambda: defaultdict(dict))


@click.command(epilog=EXIT_STATUS)
@crash_ids_argument(required=True)
@click.option("--yes", "-y", is_flag=True, help="Do not ask for confirmation.")
@config_option
@json_option
def erase(crash_ids: Sequence[str], yes: bool, config: Path | None, as_json: bool) -> None:
    """
    Erase crashes wherever they are.

    Each is erased from every store of the settings, also from the quarantine and the ids that are still to be
    published, and from every destination that can erase: file systems, S3, Google Cloud Storage and Azure. The journal
    says so afterwards. Places where a crash may still be are listed, and the exit status is then 1: another collector,
    a store that is not there, a destination that does not answer or does not allow it.

    Run this as the user of the daemon, which may be running. What nobody can reach from here (backups, old versions in
    a bucket, what a processor has made of the crash) is yours to look after.

    \b
    sudo -u collectord collectord crashes erase bp-8f63752c-57c6-4e5d-b2cf-cabde2160622
    """
    settings = load_settings(config)
    ids = list(dict.fromkeys(crash_ids))
    if not yes:
        click.confirm(f"Erase {counted(len(ids), 'crash', 'crashes')} everywhere?", abort=True, err=True)
    outcome = _Outcome()
    modes = modes_of_stores(config, ())
    _from_duplicates(settings, modes, ids, outcome)
    _from_stores(settings, modes, ids, outcome)
    if settings.crashmover.destination:
        run_in_reactor(lambda reactor: _from_destinations(settings, ids, outcome, reactor))
    wrong = False
    for crash_id in ids:
        if problem := tell(settings, crash_id, "erased", outcome.erased[crash_id]):
            outcome.left[crash_id]["the journal, which does not say that it was erased"] = problem
        if problem := _from_index(settings, crash_id):
            outcome.left[crash_id]["the index"] = problem
        wrong |= bool(outcome.left[crash_id]) or not outcome.erased[crash_id]
        _show(crash_id, outcome, as_json)
    if wrong:
        raise Exit(WRONG)


def _from_duplicates(settings: Settings, modes: Mapping[str, Modes], ids: Sequence[str], outcome: _Outcome) -> None:
    """
    Let the daemon answer none of the ids any more, before anything is erased: a crash id is a receipt. All stores are
    told, since their order may change; that one of them knows is enough.
    """
    locations = locations_of(settings)
    problems = []
    for root in locations.stores:
        if not (why := _problem_of(locations, root)):
            try:
                with staging_in(root, modes.get(root, Modes())) as staging:
                    note_erased(ids, staging)
            except OSError as e:
                why = e.strerror or str(e)
        problems += [why] if why else []
    if len(problems) == len(locations.stores):
        for crash_id in ids:
            outcome.left[crash_id]["the memory of duplicates, so its id may be answered again"] = problems[0]


def _problem_of(locations: CrashLocations, root: str) -> str:
    return locations.problem_of(root) or ("" if os.path.isdir(root) else "there is no store")


def _from_stores(settings: Settings, modes: Mapping[str, Modes], ids: Sequence[str], outcome: _Outcome) -> None:
    locations = locations_of(settings)
    # The primary comes last: meanwhile a crash of another store may be moved there. All are looked at twice, for a
    # daemon that was not restarted yet may have them in another order.
    for root in [*reversed(list(locations.stores))] * 2:
        if not (why := _problem_of(locations, root)):
            try:
                with staging_in(root, modes.get(root, Modes())) as staging:
                    for crash_id in ids:
                        try:
                            if erase_in_store(crash_id, staging) and root not in outcome.erased[crash_id]:
                                outcome.erased[crash_id].append(root)
                            outcome.left[crash_id].pop(root, None)
                        except OSError as e:
                            outcome.left[crash_id][root] = e.strerror or str(e)
            except WrongUser:
                raise
            except OSError as e:
                why = e.strerror or str(e)
        if why:
            for crash_id in ids:
                outcome.left[crash_id][root] = why


async def _from_destinations(settings: Settings, ids: Sequence[str], outcome: _Outcome, reactor: Any) -> None:
    made = make_plugins(DESTINATIONS, single_destinations(settings), {}, reactor)
    try:
        for plugin in made:
            for crash_id in ids:
                await _from_destination(plugin, crash_id, outcome, reactor)
    finally:
        await gather(close(plugin, reactor) for plugin in made)


async def _from_destination(plugin: Plugin, crash_id: str, outcome: _Outcome, reactor: Any) -> None:
    name = plugin.instance.name
    erase_one = getattr(plugin.instance, "erase", None)
    if erase_one is None:
        outcome.left[crash_id][name] = "it erases nothing that others ask it to; erase it there"
        return
    try:
        if await with_timeout(erase_one(crash_id), plugin.settings.timeout_s, reactor, name):
            outcome.erased[crash_id].append(name)
    except CollectordError as e:
        outcome.left[crash_id][name] = without_secrets(str(e))


def _from_index(settings: Settings, crash_id: str) -> str:
    """Erase a crash from the index; return why it is still there, if it is."""
    now = time.time()
    try:
        event = CrashEvent(at=now, crash_id=crash_id, kind="erased", where="")
        erase_from_index(index_directory(settings), [event], now)
    except (OSError, sqlite3.Error) as e:
        return str(e)
    return ""


def _show(crash_id: str, outcome: _Outcome, as_json: bool) -> None:
    erased, left = outcome.erased[crash_id], outcome.left[crash_id]
    if as_json:
        show_json({"crash_id": crash_id, "erased": erased, "left": left})
        return
    for place in erased:
        show(f"{crash_id}: erased from {place}")
    if not erased:
        say(f"{crash_id}: found nowhere")
    for place, why in left.items():
        say(f"{crash_id}: may still be in {place}: {why}")
