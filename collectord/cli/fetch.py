"""
C{collectord fetch}: brings crashes back from the destinations that they were moved to.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from attrs import field, frozen
from click.exceptions import Exit

from collectord.cli.crash_files import new_file
from collectord.cli.plugged import close, run_in_reactor, single_destinations
from collectord.cli.shared import EXIT_STATUS, WRONG, CannotRun, config_option, json_option, say, show, show_json
from collectord.cli.stores import crash_ids_argument
from collectord.concurrency.tasks import gather
from collectord.concurrency.timeouts import with_timeout
from collectord.daemon.delivery import make_plugins
from collectord.errors import CollectordError
from collectord.model import FetchedCrash, checksums_in
from collectord.plugins import DESTINATIONS, Plugin
from collectord.settings.loading import load_settings
from collectord.settings.schema import Settings
from collectord.settings.urls import without_secrets
from collectord.storage.filesystem.layout import dump_file


@frozen
class _Found:
    """
    What was found of a crash.

    @ivar where: the destination that has it; empty: none has.
    @ivar problems: why a destination could not say.
    """

    where: str
    crash: FetchedCrash | None = field(repr=False)
    problems: Sequence[str]


@click.command(epilog=EXIT_STATUS)
@crash_ids_argument(required=True)
@click.option("--to", default=".", type=click.Path(), help="The directory to write to.  [default: this one]")
@click.option("--force", is_flag=True, help="Overwrite existing files.")
@config_option
@json_option
def fetch(crash_ids: Sequence[str], to: str, force: bool, config: Path | None, as_json: bool) -> None:
    """
    Bring crashes back from their destination.

    The destinations of the settings are asked one after the other, those in a fallback as well. The first that has a
    crash gives it. Its raw crash and its dumps are written to a directory, under the names that they have in a store.
    Each dump is compared with the SHA-256 that it was received with. At the destination nothing changes.

    Another collector gives no crash back: the crash is in one of its stores, or was moved on from there.

    \b
    collectord fetch bp-8f63752c-57c6-4e5d-b2cf-cabde2160622
    collectord fetch 8f63752c-57c6-4e5d-b2cf-cabde2160622 --to /tmp/crash
    """
    settings = load_settings(config)
    if not settings.crashmover.destination:
        raise CannotRun("the settings have no destination")
    found = run_in_reactor(lambda reactor: fetch_all(settings, crash_ids, reactor))
    os.makedirs(to, exist_ok=True)
    wrong = False
    for crash_id, each in found.items():
        problems = list(each.problems)
        files: list[str] = []
        if each.crash is None:
            problems.append(f"no {'other ' if problems else ''}destination has it")
        else:
            files = _written(crash_id, each.crash, to, force)
            problems = list(_differences(each.crash))
        wrong |= bool(problems)
        if as_json:
            show_json({"crash_id": crash_id, "where": each.where or None, "files": files, "problems": problems})
            continue
        show(*files)
        for problem in problems:
            say(f"{crash_id}: {problem}")
    if wrong:
        raise Exit(WRONG)


def _written(crash_id: str, crash: FetchedCrash, directory: str, force: bool) -> list[str]:
    contents = {f"{crash_id}.json": crash.raw_crash}
    contents |= {dump_file(crash_id, name): content for name, content in crash.dumps.items()}
    for name, content in contents.items():
        with open(new_file(f"{directory}/{name}", force), "wb") as file:
            file.write(content)
    return [f"{directory}/{name}" for name in contents]


def _differences(crash: FetchedCrash) -> Iterator[str]:
    """Say what is not as it was received."""
    try:
        raw_crash = json.loads(crash.raw_crash)
    except ValueError as e:
        yield f"the raw crash is no JSON: {e}"
        return
    received = (checksums_in(raw_crash) if isinstance(raw_crash, dict) else None) or {}
    for name in sorted({*received, *crash.dumps}):
        found = hashlib.sha256(crash.dumps[name]).hexdigest() if name in crash.dumps else "nothing"
        if name in received and found != received[name]:
            yield f"the dump {name} has the checksum {found}; it was received with {received[name]}"


async def fetch_all(settings: Settings, crash_ids: Sequence[str], reactor: Any) -> Mapping[str, _Found]:
    """Look for each crash at each destination until one has it."""
    made = make_plugins(DESTINATIONS, single_destinations(settings), {}, reactor)
    try:
        return {crash_id: await _fetch(made, crash_id, reactor) for crash_id in crash_ids}
    finally:
        await gather(close(plugin, reactor) for plugin in made)


async def _fetch(made: Sequence[Plugin], crash_id: str, reactor: Any) -> _Found:
    problems = []
    for plugin in made:
        name = plugin.instance.name
        fetch_one = getattr(plugin.instance, "fetch", None)
        if fetch_one is None:
            problems.append(f"{name}: gives no crash back")
            continue
        try:
            crash = await with_timeout(fetch_one(crash_id), plugin.settings.timeout_s, reactor, name)
        except CollectordError as e:
            problems.append(without_secrets(str(e)))
        else:
            if crash is not None:
                return _Found(name, crash, ())
    return _Found("", None, problems)
