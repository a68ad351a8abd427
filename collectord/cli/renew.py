"""
C{collectord crashes renew}: makes crashes new again whose link is lost, so that the crashmover finds them.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import click
from click.exceptions import Exit

from collectord.audit.locations import locations_of
from collectord.cli.audit import audited
from collectord.cli.shared import (
    EXIT_STATUS,
    WRONG,
    CannotRun,
    config_option,
    json_option,
    say,
    show,
    show_json,
)
from collectord.cli.staged import modes_of_stores, with_staging
from collectord.cli.stores import (
    crash_ids_argument,
    days_option,
    found_in,
    refuse_unless_one_choice,
    store_option,
    store_roots,
)
from collectord.settings.loading import load_settings
from collectord.settings.schema import Settings
from collectord.storage.filesystem.finder import FoundCrash, crash_days, find_crash
from collectord.storage.filesystem.renewing import CannotRenew
from collectord.storage.filesystem.renewing import renew as renew_crash
from collectord.storage.filesystem.staging import StagingDirectory


@click.command(epilog=EXIT_STATUS)
@crash_ids_argument(required=False)
@days_option("Crashes of this day whose link is lost")
@click.option("--all-unlinked", "everything", is_flag=True, help="All crashes whose link is lost, of every day.")
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
    Make crashes new again.

    The crashmover finds new crashes by their links. Crashes may have lost theirs when a backup was copied back without
    links. This makes the links again, so that the crashes are moved.

    --day and --all-unlinked leave out crashes that were moved, by the journal. Crashes that are named are moved again,
    even if the journal says that they were moved. A crash that is not whole is refused. Run this as the user of the
    daemon, which may be running.

    \b
    sudo -u collectord collectord crashes renew --day yesterday
    sudo -u collectord collectord crashes renew 8f63752c-57c6-4e5d-b2cf-cabde2160622
    """
    refuse_unless_one_choice(crash_ids, days, everything, "--all-unlinked")
    roots = store_roots(config, stores)
    modes = modes_of_stores(config, stores)
    if crash_ids:
        found = [crash for crash_id in crash_ids for crash in found_in(roots, crash_id)]
    else:
        found = list(_unlinked(load_settings(config), roots, days))
    refused = False
    for crash, staging in with_staging(found, modes, "renewing"):
        refused |= not _renew(crash, staging, as_json)
    if not as_json and not found:
        show("no crash has lost its link")
    if refused:
        raise Exit(WRONG)


def _unlinked(settings: Settings, roots: Sequence[str], days: Iterable[str]) -> Iterator[FoundCrash]:
    if not settings.ledger.enabled:
        raise CannotRun("no journal says which crashes were moved ([ledger] enabled = false): name the crashes instead")
    locations = locations_of(settings)
    for day in days or sorted({day for root in roots for day in crash_days(root)}):
        for crash_id in audited(locations, day).unlinked():
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
