"""
C{collectord index}: lets the index of crashes be made again.
"""

import os
import sqlite3
from pathlib import Path

import click

from collectord.cli.shared import EXIT_STATUS, CannotRun, config_option, json_option, show, show_json
from collectord.daemon.indexing import index_directory
from collectord.index.byhand import empty_index
from collectord.index.database import is_damaged
from collectord.index.writer import index_path, remove_index
from collectord.observe.journal.files import is_written
from collectord.observe.journal.writer import directory_of
from collectord.settings.loading import load_settings
from collectord.settings.schema import Settings

_HOW_FAR = "and its log says how far that is"


@click.group(epilog=EXIT_STATUS)
def index() -> None:
    """Look after the index of crashes, which the admin page and "collectord top" ask."""


@index.command(epilog=EXIT_STATUS)
@config_option
@json_option
def rebuild(config: Path | None, as_json: bool) -> None:
    """
    Let the index be made again, from the journal and the stores.

    The daemon, which may be running, reads it all again, the newest crashes first, and keeps crashes meanwhile. How
    often each bug was seen stays known, unless the file of the index is damaged. Run this as the user of the daemon.

    \b
    sudo -u collectord collectord index rebuild
    """
    settings = load_settings(config)
    if not settings.index.enabled:
        raise CannotRun("there is no index: [index] enabled is false")
    directory = index_directory(settings)
    path = index_path(directory)
    if not os.path.exists(path):
        raise CannotRun(f"there is no index yet in {directory}: a daemon makes it")
    if os.geteuid() != (owner := os.stat(path).st_uid):
        raise CannotRun(f"only the user of the daemon can do that: {path} belongs to uid {owner}")
    is_new, damage = True, ""
    try:
        is_new = empty_index(directory)
    except sqlite3.Error as e:
        if not is_damaged(e):
            raise CannotRun(f"{path}: {e}") from e
        damage = str(e)
        remove_index(directory)
    by_whom = _by_whom(settings)
    if as_json:
        show_json({"path": path, "damage": damage or None, "was_asked_before": not is_new})
    elif damage:
        show(f"{path} was damaged ({damage}), and is removed. It will be made again: {by_whom}")
    else:
        what = "The index will be made again" if is_new else "The index is to be made again already"
        show(f"{what}: {by_whom}")


def _by_whom(settings: Settings) -> str:
    """Say who makes the index, and when; by the journal it is known whether a daemon runs."""
    try:
        runs = is_written(directory_of(settings)) if settings.ledger.enabled else None
    except OSError:
        runs = None
    if runs is None:
        return f"the daemon does so now if it runs, or else at its next start, {_HOW_FAR}"
    return f"{'the daemon runs, and does so now' if runs else 'no daemon runs; the next start does so'}, {_HOW_FAR}"
