"""
Which stores, days and crashes a subcommand is about.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from collectord.cli.shared import CannotRun, say
from collectord.crashid import is_crash_id
from collectord.settings.loading import load_settings
from collectord.storage.filesystem.finder import FoundCrash, crash_days, crashes_of_day, find_crash

F = TypeVar("F", bound=Callable[..., Any])

_WITH_PREFIX = re.compile(r"(?:CrashID=)?(?:[A-Za-z0-9._-]*[._-])?([0-9a-f]{8}-[0-9a-f-]{27})")

store_option = click.option(
    "--store",
    "stores",
    multiple=True,
    type=click.Path(),
    metavar="ROOT",
    help="Look in this store, and not in those of the settings. May be given several times.",
)


def a_crash_id(text: str) -> str:
    """A crash id, bare or as clients see it: C{bp-…}, C{CrashID=bp-…}."""
    found = _WITH_PREFIX.fullmatch(text.strip())
    if found is None or not is_crash_id(found[1]):
        raise click.BadParameter(f"{text!r} is no crash id.")
    return found[1]


def a_day(text: str) -> str:
    """C{yyyymmdd}, C{today} or C{yesterday}, in UTC."""
    today = datetime.now(UTC)
    if text in ("today", "yesterday"):
        return f"{today - timedelta(days=text == 'yesterday'):%Y%m%d}"
    try:
        return f"{datetime.strptime(text.replace('-', ''), '%Y%m%d'):%Y%m%d}"
    except ValueError as e:
        raise click.BadParameter(f"{text!r} is no day: write yyyymmdd, today or yesterday.") from e


def days_option(text: str) -> Callable[[F], F]:
    """C{--day}, that may come several times."""
    return click.option("--day", "days", multiple=True, type=a_day, metavar="DAY", help=text)


def store_roots(config: Path | None, stores: Sequence[str]) -> list[str]:
    """
    The stores to look in: those that were named, else those of the settings; the primary first.

    @raise CannotRun: none of them is there.
    @raise ConfigError: the settings can't be used.
    """
    roots = [os.path.abspath(root) for root in stores or (store.root for store in load_settings(config).storage)]
    missing = [root for root in roots if not os.path.isdir(root)]
    if missing and (stores or len(missing) == len(roots)):
        raise CannotRun(f"there is no store at {', '.join(missing)}")
    for root in missing:
        say(f"there is no store at {root}: it is left out")
    return [root for root in roots if root not in missing]


def found_in(roots: Sequence[str], crash_id: str) -> list[FoundCrash]:
    """
    The crash in every store that has it.

    @raise CannotRun: none has.
    """
    found = [crash for root in roots if (crash := find_crash(root, crash_id)) is not None]
    if not found:
        raise CannotRun(f"{crash_id}: not in {' or '.join(roots)}")
    return found


def crashes_in(roots: Sequence[str], days: Sequence[str] = ()) -> Iterator[FoundCrash]:
    """
    All of the stores, the newest day first.

    @param days: these only, unless it is empty.
    """
    for root in roots:
        for day in sorted(days or crash_days(root), reverse=True):
            yield from crashes_of_day(root, day)
