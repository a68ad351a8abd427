"""
C{collectord quarantine}: lists, shows and releases the crashes that were put aside.
"""

from collections.abc import Sequence
from pathlib import Path

import click
from click.exceptions import Exit

from collectord.cli.crash_view import show_found
from collectord.cli.erased import ByHand, tell, tell_index
from collectord.cli.shared import (
    EXIT_STATUS,
    WRONG,
    CannotRun,
    add_row,
    config_option,
    counted,
    json_option,
    say,
    shortened,
    show,
    show_json,
    table,
)
from collectord.cli.staged import modes_of_stores, with_staging
from collectord.cli.stores import a_crash_id, crash_ids_argument, store_option, store_roots
from collectord.settings.loading import load_settings
from collectord.storage.filesystem.finder import FoundCrash, quarantined_crash, quarantined_crashes
from collectord.storage.filesystem.quarantine import CannotRelease, release
from collectord.storage.filesystem.staging import StagingDirectory


@click.group(epilog=EXIT_STATUS)
def quarantine() -> None:
    """
    Look after crashes that were put aside.

    The crashmover puts a crash aside if it is broken or can't be read. Each has a reason, which says what is wrong.
    Once that is repaired, "release" gives the crash back to the crashmover.
    """


@quarantine.command("list", epilog=EXIT_STATUS)
@store_option
@config_option
@json_option
def list_quarantined(stores: Sequence[str], config: Path | None, as_json: bool) -> None:
    """
    List the crashes in the quarantine.

    This shows why each is there. With --json there is one line for each.
    """
    shown = table("crash id", "reason", "dumps", "store", right=["dumps"], whole=["crash id"])
    for root in store_roots(config, stores):
        for crash in quarantined_crashes(root):
            if as_json:
                row = {"crash_id": crash.crash_id, "reason": crash.reason, "dumps": sorted(crash.dumps), "store": root}
                show_json(row)
            else:
                add_row(shown, crash.crash_id, shortened(crash.reason), len(crash.dumps), root)
    if not as_json:
        show(shown)


@quarantine.command("show", epilog=EXIT_STATUS)
@click.argument("crash_id", type=a_crash_id)
@store_option
@config_option
@json_option
def show_quarantined(crash_id: str, stores: Sequence[str], config: Path | None, as_json: bool) -> None:
    """
    Show one crash in the quarantine.

    This shows why it is there, its annotations and its dumps, as "collectord crashes show" does.
    """
    show_found(_quarantined(store_roots(config, stores), crash_id), (), as_json)


@quarantine.command("release", epilog=EXIT_STATUS)
@crash_ids_argument(required=True)
@click.option(
    "--as-it-is",
    is_flag=True,
    help="Release crashes even if dumps are missing, or are not what was received. Their raw crashes then say so.",
)
@store_option
@config_option
@json_option
def release_crashes(
    crash_ids: Sequence[str], as_it_is: bool, stores: Sequence[str], config: Path | None, as_json: bool
) -> None:
    """
    Put crashes back where they were.

    They are new again, and the crashmover tries them again. A crash that is still broken is refused, since it would be
    put aside again at once: repair it first, or use --as-it-is. A raw crash that is not JSON has to be repaired. Run
    this as the user of the daemon.

    \b
    sudo -u collectord collectord quarantine release 8f63752c-57c6-4e5d-b2cf-cabde2160622
    """
    roots = store_roots(config, stores)
    modes = modes_of_stores(config, stores)
    found = [crash for crash_id in crash_ids for crash in _quarantined(roots, crash_id)]
    settings = None if stores else load_settings(config)
    refused = False
    released: list[tuple[str, ByHand, str]] = []
    for crash, staging in with_staging(found, modes, "releasing"):
        if not _release(crash, staging, as_it_is, as_json):
            refused = True
            continue
        released.append((crash.crash_id, "moved", crash.root))
        if settings is not None and (problem := tell(settings, crash.crash_id, "moved", [crash.root])):
            say(f"{crash.crash_id}: released, but the journal does not say so: {problem}")
    if settings is not None and (problem := tell_index(settings, released)):
        say(f"released, but the index does not say so: {problem}")
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
            dumps = counted(len(crash.dumps), "dump")
            show(f"{crash.crash_id}: the raw crash and {dumps} are in {place.name_dir}, and it is new")
    if as_json:
        show_json({"crash_id": crash.crash_id, "store": crash.root, "released": not why, "why_not": why or None})
    return not why
