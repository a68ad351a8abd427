"""
C{collectord crashes renew}: crashes whose link is lost are new again.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import click
from click.exceptions import Exit

from collectord.audit.locations import locations_of
from collectord.audit.scan import audit
from collectord.cli.quarantine import modes_of_stores
from collectord.cli.shared import (
    EXIT_STATUS,
    WRONG,
    CannotRun,
    config_option,
    json_option,
    say,
    show,
    show_json,
    tracked,
)
from collectord.cli.stores import a_crash_id, days_option, found_in, store_option, store_roots
from collectord.settings.loading import load_settings
from collectord.settings.schema import Settings
from collectord.storage.filesystem.finder import FoundCrash, crash_days, find_crash
from collectord.storage.filesystem.manual import staging_in
from collectord.storage.filesystem.renewing import CannotRenew
from collectord.storage.filesystem.renewing import renew as renew_crash
from collectord.storage.filesystem.staging import Modes, StagingDirectory

_WAIT_S = 1.0
"""The daemon writes its journal every quarter of a second."""


@click.command(epilog=EXIT_STATUS)
@click.argument("crash_ids", nargs=-1, type=a_crash_id, metavar="[CRASH_ID]...")
@days_option("Those of this day whose link is lost: yyyymmdd, today or yesterday (UTC). May be given several times.")
@click.option("--all-unlinked", "everything", is_flag=True, help="All whose link is lost, of every day.")
@store_option
@config_option
@json_option
def renew(
    crash_ids: Sequence[str],
    days: Sequence[str],
    everything: bool,
    stores: Sequence[str],
    config: Path | None,
    as_json: bool,
) -> None:
    """
    Make crashes new again, so that the crashmover moves them: as after a backup was copied back without their links.

    With --day and --all-unlinked those are taken of which the journal does not say that they were moved; crashes that
    are named are moved once more, whatever it says. Each has to be whole. Run this as the user of the daemon, which may
    be running.

    \b
    sudo -u collectord collectord crashes renew --day yesterday
    sudo -u collectord collectord crashes renew 8f63752c-57c6-4e5d-b2cf-cabde2160622
    """
    if bool(crash_ids) + bool(days) + everything != 1:
        raise click.UsageError("Name crashes, or give --day, or --all-unlinked.")
    roots = store_roots(config, stores)
    modes = {} if stores else modes_of_stores(config)
    if crash_ids:
        found = [crash for crash_id in crash_ids for crash in found_in(roots, crash_id)]
    else:
        found = list(_unlinked(load_settings(config), roots, days))
    refused = False
    for root in dict.fromkeys(crash.root for crash in found):
        mine = [crash for crash in found if crash.root == root]
        with staging_in(root, modes.get(root, Modes())) as staging:
            for crash in tracked(mine, "renewing", len(mine)):
                refused |= not _renew(crash, staging, as_json)
    if not as_json and not found:
        show("no link is lost")
    if refused:
        raise Exit(WRONG)


def _unlinked(settings: Settings, roots: Sequence[str], days: Iterable[str]) -> Iterator[FoundCrash]:
    if not settings.ledger.enabled:
        raise CannotRun("there is no journal that says which crashes were moved ([ledger] enabled = false): name them")
    locations = locations_of(settings)
    for day in days or sorted({day for root in roots for day in crash_days(root)}):
        for crash_id in audit(locations, day, lambda: time.sleep(_WAIT_S)).unlinked():
            for root in roots:
                if (crash := find_crash(root, crash_id)) is not None and not crash.reason:
                    yield crash


def _renew(crash: FoundCrash, staging: StagingDirectory, as_json: bool) -> bool:
    why, renewed = "", False
    try:
        renewed = renew_crash(crash, staging)
    except (CannotRenew, OSError) as e:
        why = str(e)
        say(f"{crash.crash_id} stays as it is: {why}")
    if as_json:
        show_json({"crash_id": crash.crash_id, "store": crash.root, "renewed": renewed, "why_not": why or None})
    elif not why:
        show(f"{crash.crash_id} is new{'' if renewed else ' already'}")
    return not why
