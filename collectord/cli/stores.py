"""
How a command line chooses stores, days and crashes: options, arguments, and what they lead to.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from collectord.audit.locations import locations_of
from collectord.cli.shared import CannotRun, say
from collectord.crashid import is_crash_id
from collectord.settings.loading import load_settings
from collectord.storage.filesystem.finder import FoundCrash, crash_days, crashes_of_day, find_crash

F = TypeVar("F", bound=Callable[..., Any])

_AGO = re.compile(r"([0-9]{1,6})(min|h|d)")
_UNITS = {"min": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_WITH_PREFIX = re.compile(r"(?:CrashID=)?(?:[A-Za-z0-9._-]*[._-])?([0-9a-f]{8}-[0-9a-f-]{27})")

store_option = click.option(
    "--store",
    "stores",
    multiple=True,
    type=click.Path(),
    metavar="ROOT",
    help="Look in this store instead of those in the settings. May be given several times.",
)


def a_crash_id(text: str) -> str:
    """
    Read a crash id, bare or as clients see it: C{bp-…}, C{CrashID=bp-…}.

    @raise BadParameter: it is not a crash id.
    """
    found = _WITH_PREFIX.fullmatch(text.strip())
    if found is None or not is_crash_id(found[1]):
        raise click.BadParameter(f"{text!r} is not a crash id.")
    return found[1]


def a_day(text: str) -> str:
    """
    Read a day: C{yyyymmdd}, C{yyyy-mm-dd}, C{today} or C{yesterday}, in UTC.

    @return: C{yyyymmdd}.
    @raise BadParameter: it is not a day.
    """
    today = datetime.now(UTC)
    if text in ("today", "yesterday"):
        return f"{today - timedelta(days=text == 'yesterday'):%Y%m%d}"
    try:
        return f"{datetime.strptime(text.replace('-', ''), '%Y%m%d'):%Y%m%d}"
    except ValueError as e:
        raise click.BadParameter(f"{text!r} is not a day: write yyyymmdd, yyyy-mm-dd, today or yesterday.") from e


def a_time(text: str) -> datetime:
    """
    Read a time: so long ago (C{30min}, C{6h}, C{2d}), a day as L{a_day} has it, or C{yyyy-mm-ddThh:mm}, in UTC.

    @raise BadParameter: it is no time.
    """
    ago = _AGO.fullmatch(text)
    try:
        if ago is not None:
            return datetime.now(UTC) - int(ago[1]) * _UNITS[ago[2]]
        if "T" in text:
            at = datetime.fromisoformat(text)
            return at if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as e:
        raise click.BadParameter(f"{text!r} is no time: write 30min, 6h, 2d, a day, or yyyy-mm-ddThh:mm.") from e
    return datetime.strptime(f"{a_day(text)}Z", "%Y%m%d%z")


def crash_ids_argument(*, required: bool) -> Callable[[F], F]:
    """Declare the argument C{crash_ids}: several crash ids."""
    metavar = "CRASH_ID..." if required else "[CRASH_ID]..."
    return click.argument("crash_ids", nargs=-1, required=required, type=a_crash_id, metavar=metavar)


def days_option(which: str) -> Callable[[F], F]:
    """
    Declare the option C{--day}, which may be given several times.

    @param which: the crashes that it chooses, for C{--help}.
    """
    text = f"{which}: yyyymmdd, yyyy-mm-dd, today or yesterday (UTC). May be given several times."
    return click.option("--day", "days", multiple=True, type=a_day, metavar="DAY", help=text)


def refuse_unless_one_choice(crash_ids: Sequence[str], days: Sequence[str], everything: bool, option: str) -> None:
    """
    Refuse a command line that does not choose crashes in exactly one way: by their ids, by day, or all.

    @param option: the option for all of them.
    @raise UsageError: it chooses them in no way, or in more than one.
    """
    if bool(crash_ids) + bool(days) + everything != 1:
        raise click.UsageError(f"Name crashes, or give --day, or {option}.")


def store_roots(config: Path | None, stores: Sequence[str]) -> list[str]:
    """
    Return the roots of the stores to look in: those that C{--store} names, or else those of the settings, in order.

    A store of the settings that is not there is left out, with a note.

    @raise CannotRun: a store that C{--store} names is not there, or none of the settings is.
    @raise ConfigError: the settings can't be used.
    """
    roots = [os.path.abspath(root) for root in stores or (store.root for store in load_settings(config).storage)]
    missing = [root for root in roots if not os.path.isdir(root)]
    if missing and (stores or len(missing) == len(roots)):
        raise CannotRun(f"there is no store at {', '.join(missing)}")
    for root in missing:
        say(f"there is no store at {root}, so it is left out")
    return [root for root in roots if root not in missing]


def moved_roots(config: Path | None) -> set[str]:
    """
    Return the roots of the stores from which a daemon with these settings moves crashes.

    @raise ConfigError: the settings can't be used.
    """
    stores = locations_of(load_settings(config)).stores
    return {os.path.abspath(root) for root, is_moved_from in stores.items() if is_moved_from}


def found_in(roots: Sequence[str], crash_id: str) -> list[FoundCrash]:
    """
    Find a crash in every store that has it.

    @raise CannotRun: no store has it.
    """
    found = [crash for root in roots if (crash := find_crash(root, crash_id)) is not None]
    if not found:
        raise CannotRun(f"{crash_id}: not in {' or '.join(roots)}")
    return found


def crashes_in(roots: Sequence[str], days: Sequence[str] = ()) -> Iterator[FoundCrash]:
    """
    Yield the crashes of each store, the newest day first.

    @param days: only the crashes of these days (C{yyyymmdd}); if it is empty, those of all days.

    @raise OSError: a directory can't be read.
    """
    for root in roots:
        for day in sorted(days or crash_days(root), reverse=True):
            yield from crashes_of_day(root, day)
