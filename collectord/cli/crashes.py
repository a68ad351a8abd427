"""
C{collectord crashes}: lists, shows and verifies the crashes in the stores.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import click
from attrs import field, frozen
from click.exceptions import Exit
from rich.text import Text

from collectord.cli.crash_files import export, remove
from collectord.cli.shared import (
    EXIT_STATUS,
    WRONG,
    CannotRun,
    add_row,
    config_option,
    facts,
    json_option,
    say,
    shortened,
    show,
    show_json,
    size_in_words,
    table,
    tracked,
)
from collectord.cli.stores import (
    a_crash_id,
    crash_ids_argument,
    crashes_in,
    days_option,
    found_in,
    refuse_unless_one_choice,
    store_option,
    store_roots,
)
from collectord.model import COLLECTOR_NAMES, RawCrash, checksums_in, metadata_of
from collectord.storage.filesystem.finder import FoundCrash, link_of, problems_of


@click.group(epilog=EXIT_STATUS)
def crashes() -> None:
    """Look after the crashes in the stores."""


@frozen(kw_only=True)
class _ReadCrash:
    """
    A crash in a store and its raw crash, whose values come from a client and may be of any type.

    @ivar is_new: whether it waits to be moved.
    @ivar unreadable: why its raw crash can't be read; empty if it can.
    """

    crash: FoundCrash
    raw_crash: RawCrash = field(repr=False)
    is_new: bool
    unreadable: str = ""

    @property
    def metadata(self) -> Mapping[str, object]:
        """The metadata in its raw crash; empty if it has none."""
        return metadata_of(self.raw_crash)

    def row(self) -> dict[str, object]:
        """Return what C{list --json} shows of it."""
        return {
            "crash_id": self.crash.crash_id,
            "submitted": self.raw_crash.get("submitted_timestamp"),
            "product": self.raw_crash.get("ProductName"),
            "version": self.raw_crash.get("Version"),
            "size": self.metadata.get("payload_size"),
            "rule": self.metadata.get("throttle_rule"),
            "dumps": sorted(self.crash.dumps),
            "new": self.is_new,
            "store": self.crash.root,
            **({"problem": self.unreadable} if self.unreadable else {}),
        }


def _read(crash: FoundCrash) -> _ReadCrash | None:
    """Read the raw crash of C{crash}. Return None if it has been moved meanwhile."""
    try:
        raw_crash = crash.read()
    except FileNotFoundError:
        if not crash.reason:
            return None
        return _ReadCrash(crash=crash, raw_crash={}, is_new=False, unreadable="there is no raw crash")
    except (OSError, ValueError) as e:
        return _ReadCrash(crash=crash, raw_crash={}, is_new=crash.is_new(), unreadable=str(e))
    link = link_of(crash.root, crash.crash_id, raw_crash)
    return _ReadCrash(crash=crash, raw_crash=raw_crash, is_new=not crash.reason and os.path.lexists(link))


@crashes.command("list", epilog=EXIT_STATUS)
@days_option("Only crashes of this day")
@click.option("--product", help="Only crashes with this ProductName.")
@click.option("--new", "only_new", is_flag=True, help="Only crashes that wait to be moved.")
@click.option("--limit", type=click.IntRange(min=0), default=100, show_default=True, help="At most so many; 0: all.")
@store_option
@config_option
@json_option
def list_crashes(
    days: Sequence[str],
    product: str | None,
    only_new: bool,
    limit: int,
    stores: Sequence[str],
    config: Path | None,
    as_json: bool,
) -> None:
    """
    List crashes, newest day first.

    Those of one day are listed by their id. With --json there is one line for each crash.

    \b
    collectord crashes list --day today --product Firefox
    collectord crashes list --new --limit 0 --json | jq -r .crash_id
    """
    found = _wanted(store_roots(config, stores), days, product, only_new)
    rows = islice(found, limit or None)
    if as_json:
        for crash in rows:
            show_json(crash.row())
    else:
        _show_list(list(rows))
    if limit and next(found, None) is not None:
        say(f"there are more than {limit}: --limit 0 lists all")


def _wanted(roots: Sequence[str], days: Sequence[str], product: str | None, only_new: bool) -> Iterator[_ReadCrash]:
    for found in tracked(crashes_in(roots, days), "reading crashes"):
        crash = _read(found)
        if crash is None or (only_new and not crash.is_new):
            continue
        if product is None or crash.raw_crash.get("ProductName") == product:
            yield crash


def _show_list(rows: Sequence[_ReadCrash]) -> None:
    shown = table(
        "crash id",
        "submitted",
        "product",
        "version",
        "size",
        "rule",
        "dumps",
        "new",
        right=["size", "dumps"],
        whole=["crash id"],
    )
    for crash in rows:
        row = crash.row()
        if crash.unreadable:
            cells: list[object] = [Text(shortened(crash.unreadable, 80), "red"), "", "", "", ""]
        else:
            size = row["size"]
            cells = [
                shortened(str(row["submitted"])[:19], 19),
                *(_word(row[name]) for name in ("product", "version")),
                size_in_words(size) if isinstance(size, int) else "",
                _word(row["rule"]),
            ]
        add_row(shown, row["crash_id"], *cells, len(crash.crash.dumps), "new" if crash.is_new else "")
    show(shown)


def _word(value: object) -> str:
    return "" if value is None else shortened(value, 40)


@crashes.command("show", epilog=EXIT_STATUS)
@click.argument("crash_id", type=a_crash_id)
@store_option
@config_option
@json_option
def show_crash(crash_id: str, stores: Sequence[str], config: Path | None, as_json: bool) -> None:
    """
    Show one crash.

    This shows its annotations, its dumps, where it lies, and whether it waits to be moved. Long annotations are cut;
    --json shows them whole.

    \b
    collectord crashes show bp-8f63752c-57c6-4e5d-b2cf-cabde2160622
    """
    found = found_in(store_roots(config, stores), crash_id)
    read = [crash for crash in map(_read, found) if crash is not None]
    if not read:
        raise CannotRun(f"{crash_id}: it was moved or removed while it was read")
    if as_json:
        show_json([{**crash.row(), **_in_full(crash)} for crash in read])
    else:
        for crash in read:
            _show(crash)
    if any(crash.unreadable for crash in read):
        raise Exit(WRONG)


def _in_full(crash: _ReadCrash) -> dict[str, object]:
    return {
        "quarantined": crash.crash.reason or None,
        "files": {"raw_crash": crash.crash.raw_crash, **crash.crash.dumps},
        "raw_crash": crash.raw_crash,
    }


def _state(crash: _ReadCrash) -> str:
    if crash.crash.reason:
        return f"in the quarantine: {crash.crash.reason}"
    return "new: it waits to be moved" if crash.is_new else "it stays: it was moved, or nothing moves it"


def _show(crash: _ReadCrash) -> None:
    where = [("crash", crash.crash.crash_id), ("store", crash.crash.root), ("state", shortened(_state(crash)))]
    show(facts([*where, ("raw crash", crash.crash.raw_crash)]), "")
    if crash.unreadable:
        say(f"{crash.crash.crash_id}: the raw crash can't be read: {crash.unreadable}")
    annotations = {name: value for name, value in crash.raw_crash.items() if name not in COLLECTOR_NAMES}
    own = {name: value for name, value in crash.raw_crash.items() if name in COLLECTOR_NAMES - {"uuid", "metadata"}}
    shown = table("annotation", "value")
    for name, value in sorted(annotations.items()):
        add_row(shown, shortened(name, 80), shortened(value))
    show(shown)
    said = table("added by the collector", "")
    for name, value in [*own.items(), *sorted(crash.metadata.items())]:
        if name != "dump_checksums":
            add_row(said, shortened(name, 80), shortened(value if isinstance(value, str) else json.dumps(value)))
    show(said)
    checksums = checksums_in(crash.raw_crash) or {}
    dumps = table("dump", "size", "sha256 as received", "file", right=["size"])
    for name in sorted({*crash.crash.dumps, *checksums}):
        path = crash.crash.dumps.get(name)
        add_row(
            dumps, shortened(name, 40), _size(path), shortened(checksums.get(name, "unknown"), 64), path or "missing"
        )
    show(dumps)


def _size(path: str | None) -> str:
    try:
        return size_in_words(Path(path).stat().st_size) if path else ""
    except OSError:
        return "?"


@crashes.command(epilog=EXIT_STATUS)
@crash_ids_argument(required=False)
@days_option("All crashes of this day")
@click.option("--all", "everything", is_flag=True, help="All crashes in the stores.")
@store_option
@config_option
@json_option
def verify(
    crash_ids: Sequence[str],
    days: Sequence[str],
    everything: bool,
    stores: Sequence[str],
    config: Path | None,
    as_json: bool,
) -> None:
    """
    Verify that crashes are whole.

    This reads crashes, and compares each dump with the SHA-256 of what was received. There is a line for each crash
    that is broken; the exit status is then 1. With --json every crash has a line.

    \b
    collectord crashes verify --day yesterday
    collectord crashes verify --all --store /mnt/backup/crashes
    """
    refuse_unless_one_choice(crash_ids, days, everything, "--all")
    roots = store_roots(config, stores)
    found = (crash for one in crash_ids for crash in found_in(roots, one)) if crash_ids else crashes_in(roots, days)
    looked_at = wrong = 0
    for crash in tracked(found, "verifying", len(crash_ids) or None):
        problems = problems_of(crash)
        looked_at += 1
        wrong += bool(problems)
        if as_json:
            show_json({"crash_id": crash.crash_id, "store": crash.root, "problems": problems})
        elif problems:
            show(f"{crash.crash_id}: {'; '.join(problems)}")
    if not as_json:
        show(f"{looked_at} crashes: {'all are whole' if not wrong else f'{wrong} are broken'}")
    if wrong:
        raise Exit(WRONG)


crashes.add_command(export)
crashes.add_command(remove)
