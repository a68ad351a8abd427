"""
C{collectord crashes}: lists and verifies the crashes in the stores.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import click
from attrs import frozen
from click.exceptions import Exit
from rich.text import Text

from collectord.cli.crash_files import export
from collectord.cli.crash_view import ReadCrash, read_crash, show_crash
from collectord.cli.erase import erase
from collectord.cli.moved_away import say_what_was_moved
from collectord.cli.remove import remove
from collectord.cli.renew import renew
from collectord.cli.shared import (
    EXIT_STATUS,
    WRONG,
    add_row,
    config_option,
    counted,
    json_option,
    say,
    shortened,
    show,
    show_json,
    table,
    tracked,
)
from collectord.cli.stores import (
    a_day,
    a_time,
    crash_ids_argument,
    crashes_in,
    days_option,
    found_in,
    refuse_unless_one_choice,
    store_option,
    store_roots,
)
from collectord.crashid import day_of
from collectord.storage.filesystem.finder import problems_of
from collectord.units import size_in_words


@click.group(epilog=EXIT_STATUS)
def crashes() -> None:
    """Look after the crashes in the stores."""


@crashes.command("list", epilog=EXIT_STATUS)
@days_option("Only crashes of this day")
@click.option("--product", help="Only crashes with this ProductName.")
@click.option("--version", help="Only crashes with this Version.")
@click.option("--fingerprint", help="Only crashes with this fingerprint, as collectord top shows it.")
@click.option(
    "--since", type=a_time, metavar="TIME", help="Only crashes received since: 30min, 6h, 2d, a day, or a day and time."
)
@click.option("--new", "only_new", is_flag=True, help="Only crashes that wait to be moved.")
@click.option("--limit", type=click.IntRange(min=0), default=100, show_default=True, help="At most so many; 0: all.")
@store_option
@config_option
@json_option
def list_crashes(
    days: Sequence[str],
    product: str | None,
    version: str | None,
    fingerprint: str | None,
    since: datetime | None,
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
    collectord crashes list --fingerprint 1:0c63752c57c65e4d --since 6h
    collectord crashes list --new --limit 0 --json | jq -r .crash_id
    """
    wanted = _Wanted(product, version, fingerprint, since, only_new)
    found = _chosen(store_roots(config, stores), days, wanted)
    rows = list(islice(found, limit or None))
    if as_json:
        for crash in rows:
            show_json(crash.row())
    else:
        _show_list(rows)
    if not rows and not (stores or only_new or since or len(days) > 1):
        asked = {"product": product, "version": version, "fingerprint": fingerprint}
        known = {name: value for name, value in asked.items() if value is not None}
        say_what_was_moved(config, days[0] if days else a_day("today"), known)
    if limit and next(found, None) is not None:
        say(f"there are more than {limit}: --limit 0 lists all")


@frozen
class _Wanted:
    """What crashes have to have; None: it does not matter."""

    product: str | None
    version: str | None
    fingerprint: str | None
    since: datetime | None
    only_new: bool

    def is_so(self, crash: ReadCrash) -> bool:
        row = crash.row()
        asked = {"product": self.product, "version": self.version, "fingerprint": self.fingerprint}
        if any(value is not None and row[name] != value for name, value in asked.items()):
            return False
        if self.since is not None and not _was_since(row["submitted"], self.since):
            return False
        return crash.is_new or not self.only_new


def _was_since(submitted: object, since: datetime) -> bool:
    try:
        at = datetime.fromisoformat(str(submitted))
    except ValueError:
        return False
    return (at if at.tzinfo else at.replace(tzinfo=UTC)) >= since


def _chosen(roots: Sequence[str], days: Sequence[str], wanted: _Wanted) -> Iterator[ReadCrash]:
    for found in tracked(crashes_in(roots, days), "reading crashes"):
        if wanted.since is not None and day_of(found.crash_id) < wanted.since.date():
            continue
        crash = read_crash(found)
        if crash is not None and wanted.is_so(crash):
            yield crash


def _show_list(rows: Sequence[ReadCrash]) -> None:
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
        show(f"{counted(looked_at, 'crash', 'crashes')}, {wrong or 'none'} broken")
    if wrong:
        raise Exit(WRONG)


crashes.add_command(show_crash)
crashes.add_command(export)
crashes.add_command(remove)
crashes.add_command(erase)
crashes.add_command(renew)
