"""
C{collectord crashes export} and C{remove}: copies the files of crashes, or removes them.
"""

import os
import shutil
import sys
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from click.exceptions import Exit

from collectord.cli.shared import (
    EXIT_STATUS,
    WRONG,
    CannotRun,
    config_option,
    counted,
    json_option,
    say,
    show,
    show_json,
    tracked,
)
from collectord.cli.stores import crash_ids_argument, found_in, store_option, store_roots
from collectord.storage.filesystem import removal
from collectord.storage.filesystem.finder import FoundCrash, find_crash, quarantined_crash, remains_of, symlinks_of


@click.command(epilog=EXIT_STATUS)
@crash_ids_argument(required=True)
@click.argument("to", type=click.Path(), metavar="DESTINATION")
@click.option(
    "--tar",
    "as_tar",
    is_flag=True,
    help='Write a tar file to DESTINATION, compressed if its name ends in ".gz"; "-" is standard output.',
)
@click.option("--force", is_flag=True, help="Overwrite existing files.")
@store_option
@config_option
@json_option
def export(
    crash_ids: Sequence[str],
    to: str,
    as_tar: bool,
    force: bool,
    stores: Sequence[str],
    config: Path | None,
    as_json: bool,
) -> None:
    """
    Copy crashes to a directory or a tar file.

    The raw crashes and dumps are copied to DESTINATION, under the names that they have in the store.

    \b
    collectord crashes export bp-8f63752c-57c6-4e5d-b2cf-cabde2160622 /tmp/crash
    collectord crashes export --tar 8f63752c-57c6-4e5d-b2cf-cabde2160622 - | ssh desk tar x
    """
    if as_json and as_tar and to == "-":
        raise click.UsageError("--json and a tar file can't both go to standard output.")
    roots = store_roots(config, stores)
    found = [found_in(roots, crash_id)[0] for crash_id in crash_ids]
    if as_tar:
        with _tar(to, force) as tar:
            for crash in tracked(found, "exporting", len(found)):
                for path in _files(crash):
                    tar.add(path, os.path.basename(path))
        written = [to]
    else:
        os.makedirs(to, exist_ok=True)
        written = [
            _copy(path, to, force) for crash in tracked(found, "exporting", len(found)) for path in _files(crash)
        ]
    if as_json:
        show_json({"crash_ids": list(crash_ids), "files": written})
    elif to != "-":
        show(*written)


def _files(crash: FoundCrash) -> list[str]:
    return [crash.raw_crash, *crash.dumps.values()]


def _copy(path: str, directory: str, force: bool) -> str:
    to = f"{directory}/{os.path.basename(path)}"
    with open(path, "rb") as source, open(new_file(to, force), "wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)
    return to


def new_file(path: str, force: bool) -> int:
    """Make a file that nobody else may read, since a dump holds memory of somebody's program."""
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if force else os.O_EXCL), 0o600)
    except FileExistsError as e:
        raise CannotRun(f"{path} is there already; --force overwrites it") from e


@contextmanager
def _tar(to: str, force: bool) -> Iterator[tarfile.TarFile]:
    if to == "-":
        if sys.stdout.isatty():
            raise CannotRun("a tar file can't be shown on a terminal: redirect standard output")
        with tarfile.open(mode="w|", fileobj=sys.stdout.buffer) as tar:
            yield tar
        return
    with open(new_file(to, force), "wb") as file:
        if to.endswith("gz"):
            with tarfile.open(mode="w:gz", fileobj=file) as tar:
                yield tar
        else:
            with tarfile.open(mode="w", fileobj=file) as tar:
                yield tar


@click.command(epilog=EXIT_STATUS)
@crash_ids_argument(required=True)
@click.option("--yes", "-y", is_flag=True, help="Do not ask for confirmation.")
@store_option
@config_option
@json_option
def remove(crash_ids: Sequence[str], yes: bool, stores: Sequence[str], config: Path | None, as_json: bool) -> None:
    """
    Remove crashes for good.

    The raw crashes and dumps are removed from every store that has them, and from the quarantine. If a raw crash is
    gone this removes what is left: dumps, and the link by which the crashmover finds it.

    \b
    collectord crashes remove bp-8f63752c-57c6-4e5d-b2cf-cabde2160622
    """
    roots = store_roots(config, stores)
    found = [crash for crash_id in crash_ids for crash in _crashes_or_remains(roots, crash_id)]
    for crash in found:
        if symlinks_of(crash) and os.path.lexists(crash.raw_crash):
            say(f"{crash.crash_id} was not moved, and may be nowhere else")
    if not yes:
        how_many = counted(len(found), "crash", "crashes")
        click.confirm(f"Remove {how_many} from {', '.join(roots)}?", abort=True, err=True)
    failed = False
    for crash in tracked(found, "removing", len(found)):
        try:
            _remove(crash)
        except OSError as e:
            failed = True
            say(f"{crash.crash_id}: not removed, or only in part: {e}")
        else:
            if as_json:
                show_json({"crash_id": crash.crash_id, "store": crash.root, "removed": True})
            else:
                show(f"{crash.crash_id}: removed from {crash.root}")
    if failed:
        raise Exit(WRONG)


def _crashes_or_remains(roots: Sequence[str], crash_id: str) -> list[FoundCrash]:
    if any(find_crash(root, crash_id) for root in roots):
        return found_in(roots, crash_id)
    return [left for root in roots if (left := remains_of(root, crash_id))] or found_in(roots, crash_id)


def _remove(crash: FoundCrash) -> None:
    """Remove a crash, and from the quarantine too, if it is in both places."""
    removal.remove(crash)
    if not crash.reason and (aside := quarantined_crash(crash.root, crash.crash_id)) is not None:
        removal.remove(aside)
