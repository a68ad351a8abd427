"""
C{collectord crashes export}: copies the files of crashes.
"""

import os
import shutil
import sys
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from collectord.cli.shared import (
    EXIT_STATUS,
    CannotRun,
    config_option,
    json_option,
    show,
    show_json,
    tracked,
)
from collectord.cli.stores import crash_ids_argument, found_in, store_option, store_roots
from collectord.storage.filesystem.finder import FoundCrash


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
