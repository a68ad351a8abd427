"""
C{collectord quarantine}: the crashes that the crashmover put aside.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from click.exceptions import Exit

from collectord.cli.crashes import show_crash
from collectord.cli.shared import (
    EXIT_STATUS,
    WRONG,
    CannotRun,
    add_row,
    config_option,
    json_option,
    say,
    shortened,
    show,
    show_json,
    table,
    tracked,
)
from collectord.cli.stores import a_crash_id, store_option, store_roots
from collectord.settings.loading import load_settings
from collectord.storage.filesystem.finder import FoundCrash, quarantined_crash, quarantined_crashes
from collectord.storage.filesystem.manual import staging_in
from collectord.storage.filesystem.quarantine import CannotRelease, release
from collectord.storage.filesystem.staging import Modes, StagingDirectory


@click.group(epilog=EXIT_STATUS)
def quarantine() -> None:
    """
    Look after crashes that the crashmover put aside, for they are broken or could not be read.

    What is wrong with one is in its reason. When that was put right, "release" gives it back to the crashmover.
    """


@quarantine.command("list", epilog=EXIT_STATUS)
@store_option
@config_option
@json_option
def list_quarantined(stores: Sequence[str], config: Path | None, as_json: bool) -> None:
    """List the crashes in the quarantine, and why they are there. With --json each is one line."""
    shown = table("crash id", "reason", "dumps", "store", right=["dumps"])
    for root in store_roots(config, stores):
        for crash in quarantined_crashes(root):
            if as_json:
                row = {"crash_id": crash.crash_id, "reason": crash.reason, "dumps": sorted(crash.dumps), "store": root}
                show_json(row)
            else:
                add_row(shown, crash.crash_id, shortened(crash.reason), len(crash.dumps), root)
    if not as_json:
        show(shown)


quarantine.add_command(show_crash)


@quarantine.command("release", epilog=EXIT_STATUS)
@click.argument("crash_ids", nargs=-1, required=True, type=a_crash_id, metavar="CRASH_ID...")
@click.option(
    "--as-it-is",
    is_flag=True,
    help="Release a crash whose dumps are missing, or are not what was received. Its raw crash then says so.",
)
@store_option
@config_option
@json_option
def release_crashes(
    crash_ids: Sequence[str], as_it_is: bool, stores: Sequence[str], config: Path | None, as_json: bool
) -> None:
    """
    Put crashes back in their place, as new: the crashmover tries again.

    A crash that is still broken would come back at once, and is refused: put it right first, or say --as-it-is. One
    whose raw crash is no JSON has to be put right. Run this as the user of the daemon.

    \b
    sudo -u collectord collectord quarantine release 8f63752c-57c6-4e5d-b2cf-cabde2160622
    """
    roots = store_roots(config, stores)
    modes = modes_of_stores(config) if not stores else {}
    found = [crash for crash_id in crash_ids for crash in _quarantined(roots, crash_id)]
    refused = False
    for root in dict.fromkeys(crash.root for crash in found):
        mine = [crash for crash in found if crash.root == root]
        with staging_in(root, modes.get(root, Modes())) as staging:
            for crash in tracked(mine, "releasing", len(mine)):
                refused |= not _release(crash, staging, as_it_is, as_json)
    if refused:
        raise Exit(WRONG)


def _quarantined(roots: Sequence[str], crash_id: str) -> list[FoundCrash]:
    found = [crash for root in roots if (crash := quarantined_crash(root, crash_id)) is not None]
    if not found:
        raise CannotRun(f"{crash_id}: not in the quarantine of {' or '.join(roots)}")
    return found


def _release(crash: FoundCrash, staging: StagingDirectory, as_it_is: bool, as_json: bool) -> bool:
    why = ""
    try:
        place = release(crash, staging, as_it_is=as_it_is)
    except (CannotRelease, OSError) as e:
        why = str(e)
        say(f"{crash.crash_id} stays in the quarantine: {why}")
    else:
        if not as_json:
            show(f"{crash.crash_id}: the raw crash and {len(crash.dumps)} dumps are in {place.name_dir}, and it is new")
    if as_json:
        show_json({"crash_id": crash.crash_id, "store": crash.root, "released": not why, "why_not": why or None})
    return not why


def modes_of_stores(config: Path | None) -> Mapping[str, Modes]:
    """The permissions of what each store of the settings makes, by its root."""
    return {
        os.path.abspath(store.root): Modes(directory=store.directory_mode, file=store.file_mode)
        for store in load_settings(config).storage
    }
