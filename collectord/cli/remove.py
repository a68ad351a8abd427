"""
C{collectord crashes remove}: removes crashes from the stores, by their ids or by their age.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from pathlib import Path

import click
from click.exceptions import Exit

from collectord.cli.erased import ByHand, tell, tell_index
from collectord.cli.shared import EXIT_STATUS, WRONG, config_option, counted, json_option, say, show, show_json, tracked
from collectord.cli.staged import modes_of_stores
from collectord.cli.stores import crash_ids_argument, found_in, store_option, store_roots
from collectord.settings.loading import load_settings
from collectord.settings.schema import Settings
from collectord.storage.filesystem import removal
from collectord.storage.filesystem.finder import (
    FoundCrash,
    crash_days,
    crashes_of_day,
    find_crash,
    quarantined_crash,
    quarantined_crashes,
    remains_of,
    symlinks_of,
)
from collectord.storage.filesystem.keeplimits import is_over
from collectord.storage.filesystem.manual import staging_in
from collectord.storage.filesystem.staging import Modes
from collectord.storage.filesystem.versions import version_of

Version = tuple[int, ...]
OldCrashes = Iterator[tuple[FoundCrash, Version]]
Removals = Iterator[tuple[FoundCrash, Callable[[], None]]]
"""Crashes, and what removes each."""


@click.command(epilog=EXIT_STATUS)
@crash_ids_argument(required=False)
@click.option(
    "--older-than", type=click.IntRange(min=1), metavar="DAYS", help="All crashes of so many days ago and before."
)
@click.option(
    "--waiting", is_flag=True, help="With --older-than: also those that wait to be moved, or are in the quarantine."
)
@click.option("--yes", "-y", is_flag=True, help="Do not ask for confirmation.")
@store_option
@config_option
@json_option
def remove(
    crash_ids: Sequence[str],
    older_than: int | None,
    waiting: bool,
    yes: bool,
    stores: Sequence[str],
    config: Path | None,
    as_json: bool,
) -> None:
    """
    Remove crashes from the stores for good.

    The raw crashes and dumps are removed from every store that has them, and from the quarantine. If a raw crash is
    gone this removes what is left: dumps, and the link by which the crashmover finds it. With --older-than crashes that
    wait to be moved stay, and so does the quarantine; run that as the user of the daemon, which may be running.
    "collectord crashes erase" removes a crash from its destinations as well.

    \b
    collectord crashes remove bp-8f63752c-57c6-4e5d-b2cf-cabde2160622
    sudo -u collectord collectord crashes remove --older-than 90
    """
    if bool(crash_ids) == (older_than is not None):
        raise click.UsageError("Name crashes, or give --older-than.")
    roots = store_roots(config, stores)
    if older_than is None:
        named = _named(roots, crash_ids)
        removals: Removals = ((crash, partial(_remove, crash)) for crash in named)
        number = len(named)
    else:
        moved = set() if waiting else _moved_from(roots, load_settings(config))
        number = sum(1 for _ in tracked(_old(roots, older_than, moved, waiting), "looking"))
        removals = _removals(_old(roots, older_than, moved, waiting), modes_of_stores(config, stores))
    if not yes and number:
        click.confirm(f"Remove {counted(number, 'crash', 'crashes')} from {', '.join(roots)}?", abort=True, err=True)
    settings = None if stores else load_settings(config)
    failed = False
    removed: list[tuple[str, ByHand, str]] = []
    for crash, remove_it in tracked(removals, "removing", number):
        try:
            remove_it()
        except FileNotFoundError:
            continue  # somebody else has moved or removed it just now
        except OSError as e:
            failed = True
            say(f"{crash.crash_id}: not removed, or only in part: {e}")
            continue
        removed.append((crash.crash_id, "expired", crash.root))
        if settings is not None and (problem := tell(settings, crash.crash_id, "expired", [crash.root])):
            failed = True
            say(f"{crash.crash_id}: removed, but the journal does not say so: {problem}")
        if as_json:
            show_json({"crash_id": crash.crash_id, "store": crash.root, "removed": True})
        else:
            show(f"{crash.crash_id}: removed from {crash.root}")
    if settings is not None and (problem := tell_index(settings, removed)):
        failed = True
        say(f"removed, but the index does not say so: {problem}")
    if not number and not as_json:
        show("no crash is so old")
    if failed:
        raise Exit(WRONG)


def _moved_from(roots: Sequence[str], settings: Settings) -> set[str]:
    """
    Those of C{roots} where crashes with a link wait to be moved, now or once the crashmover is on again: all but stores
    of these settings where crashes stay, by whatever path.
    """
    moves_from = settings.crashmover.moves_from
    stay = [store.root for number, store in enumerate(settings.storage) if not moves_from(primary=number == 0)]
    return {root for root in roots if not any(_is_same(root, other) for other in stay)}


def _is_same(root: str, other: Path) -> bool:
    with suppress(OSError):
        return os.path.samefile(root, other)
    return False


def _named(roots: Sequence[str], crash_ids: Sequence[str]) -> list[FoundCrash]:
    found = [crash for crash_id in crash_ids for crash in _crashes_or_remains(roots, crash_id)]
    for crash in found:
        if symlinks_of(crash) and os.path.lexists(crash.raw_crash):
            say(f"{crash.crash_id} was not moved, and may be nowhere else")
    return found


def _old(roots: Sequence[str], days: int, moved: set[str], with_quarantine: bool) -> OldCrashes:
    """
    Yield the crashes whose day ended so many days ago, and that have been in their store for so long, with their
    versions.

    @param moved: the roots of stores where crashes with a link are left out.
    """
    now = datetime.now(UTC)
    for root in roots:
        for day in crash_days(root):
            if is_over(day, days, now):
                for crash in crashes_of_day(root, day):
                    version = _old_version(crash, days, now)
                    if version and not (root in moved and crash.is_new()):
                        yield crash, version
        if with_quarantine:
            for crash in quarantined_crashes(root):
                version = _old_version(crash, days, now)
                if version and is_over(f"20{crash.crash_id[-6:]}", days, now):
                    yield crash, version


def _removals(found: OldCrashes, modes: Mapping[str, Modes]) -> Removals:
    """Yield each of these old crashes and what removes it, while the store has a staging directory for that."""
    for root, crashes in groupby(found, key=lambda each: each[0].root):
        with staging_in(root, modes.get(root, Modes())) as staging:
            for crash, version in crashes:
                how = partial(removal.remove, crash)
                yield crash, how if crash.reason else partial(removal.remove_claimed, crash, staging, version)


def _old_version(crash: FoundCrash, days: int, now: datetime) -> Version:
    """Return the version of a raw crash; an empty one if it has not been in its store for so long, or is gone."""
    try:
        version = version_of(crash.raw_crash)
    except FileNotFoundError:
        return (0, 0) if crash.reason else ()
    return version if now.timestamp() - version[1] / 1e9 >= days * 86400 else ()


def _crashes_or_remains(roots: Sequence[str], crash_id: str) -> list[FoundCrash]:
    if any(find_crash(root, crash_id) for root in roots):
        return found_in(roots, crash_id)
    return [left for root in roots if (left := remains_of(root, crash_id))] or found_in(roots, crash_id)


def _remove(crash: FoundCrash) -> None:
    """Remove a crash, and from the quarantine too, if it is in both places."""
    removal.remove(crash)
    if not crash.reason and (aside := quarantined_crash(crash.root, crash.crash_id)) is not None:
        removal.remove(aside)
