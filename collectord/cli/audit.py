"""
C{collectord audit}: says what became of every crash of a day.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from attrs import evolve
from click.exceptions import Exit

from collectord.audit.fates import FATES, Audit
from collectord.audit.locations import CrashLocations, locations_of
from collectord.audit.rebuild import Rebuilt, rebuild
from collectord.audit.scan import audit
from collectord.cli.shared import (
    EXIT_STATUS,
    WRONG,
    CannotRun,
    add_row,
    config_option,
    counted,
    facts,
    json_option,
    say,
    show,
    show_json,
    table,
)
from collectord.cli.stores import a_day
from collectord.settings.loading import load_settings
from collectord.storage.filesystem.identity import read_mark

_WAIT_S = 1.0
"""After so long the lines of what happened before are surely written: the daemon writes every quarter of a second."""
_SHOWN = 100
"""The most crashes that are listed without C{--json}."""
_STEPS = {
    "kept": "kept in",
    "moved": "moved to",
    "published": "published by",
    "removed": "removed from",
    "quarantined": "quarantined in",
    "expired": "expired in",
    "erased": "were erased from",
}


@click.command("audit", epilog=EXIT_STATUS)
@click.argument("day", metavar="DATE", type=a_day)
@click.option("--unaccounted", "only_ids", is_flag=True, help="Write only the ids of crashes that are unaccounted for.")
@click.option("--unlinked", "only_unlinked", is_flag=True, help="Write only the ids of crashes whose link is lost.")
@click.option("--dangling", "only_dangling", is_flag=True, help="Write only the ids of links without a crash.")
@click.option("--rebuild", "rewrite", is_flag=True, help="First write the journal of that day anew; see above.")
@click.option(
    "--ledger",
    "ledgers",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIRECTORY",
    help="Also read the journals in DIRECTORY, of a daemon on another host that moves crashes out of the same store. "
    "May be given several times.",
)
@config_option
@json_option
def audit_command(
    day: str,
    only_ids: bool,
    only_unlinked: bool,
    only_dangling: bool,
    rewrite: bool,
    ledgers: Sequence[Path],
    config: Path | None,
    as_json: bool,
) -> None:
    """
    Account for every crash of a day.

    DATE is the day (UTC): yyyymmdd, yyyy-mm-dd, today or yesterday. The daemon's journal says what happened to each
    crash. The stores, and destinations that are file systems, show where it is. A crash is unaccounted for if it was
    kept, is in no store, and no line says that it was moved. Run this on the host of the daemon, as its user.

    A new crash has a link, by which the crashmover finds it. A crash in a store that has lost its link, and of which no
    line says that it was moved, would never be moved: "crashes renew" makes it new again.

    --rebuild writes a damaged or lost journal anew, from the lines that can be read and the crashes in the stores.

    Two hosts may move crashes out of one store that they share, such as a fallback. Each has lines of what it did, so
    give the journals of the other by --ledger.

    \b
    collectord audit yesterday
    collectord audit 2016-06-22 --unaccounted
    """
    settings = load_settings(config)
    if not settings.ledger.enabled:
        raise CannotRun("the daemon writes no journal to audit ([ledger] enabled = false)")
    locations = evolve(locations_of(settings), other_journals=ledgers)
    rebuilt = rebuild(locations, day) if rewrite else None
    found = audited(locations, day)
    if only_ids:
        for crash_id in found.of_fate("unaccounted"):
            show_json(_crash(found, crash_id)) if as_json else click.echo(crash_id)
    elif only_unlinked or only_dangling:
        for crash_id in [*(found.unlinked() if only_unlinked else ()), *(found.dangling if only_dangling else ())]:
            show_json({"crash_id": crash_id}) if as_json else click.echo(crash_id)
    elif as_json:
        show_json(_in_full(found, rebuilt))
    else:
        _show(found, rebuilt)
    if found.fates()["unaccounted"] or found.unlinked():
        raise Exit(WRONG)


def audited(locations: CrashLocations, day: str) -> Audit:
    """
    Audit the crashes of C{day} (C{yyyymmdd}), beside a daemon that may be running. This may take seconds.

    @raise CannotAudit: a store is not there.
    @raise OSError: a store or the journal can't be read.
    """
    return audit(locations, day, lambda: time.sleep(_WAIT_S))


def _in_full(found: Audit, rebuilt: Rebuilt | None) -> Mapping[str, object]:
    return {
        "day": found.day,
        "crashes": len(found.crashes),
        "fates": found.fates(),
        **{kind: found.by_location(kind) for kind in _STEPS},
        "at_destinations": found.at_destinations,
        "unclean_stops": [{"process": u.process, "after": u.after, "before": u.before} for u in found.unclean_stops],
        "damaged_lines": found.damaged,
        "lost_lines": found.lost,
        "unlinked": found.unlinked(),
        "dangling": list(found.dangling),
        "rebuilt": None if rebuilt is None else {"read": rebuilt.read, "added": rebuilt.added},
        **{
            fate: [_crash(found, crash_id) for crash_id in found.of_fate(fate)]
            for fate in ("unaccounted", "arrived", "gone")
        },
    }


def _crash(found: Audit, crash_id: str) -> Mapping[str, object]:
    traces = found.crashes[crash_id]
    return {
        "crash_id": crash_id,
        "rule": traces.rule,
        **{kind: sorted(getattr(traces, kind)) for kind in _STEPS},
        "arrived_at": sorted(traces.arrived_at),
        "lines": [
            {"time": line.time, "what": line.kind, "where": line.where} for line in found.lines.get(crash_id, ())
        ],
        "in_doubt": found.unclean_stop_of(crash_id) is not None,
    }


def _show(found: Audit, rebuilt: Rebuilt | None) -> None:
    if rebuilt is not None:
        show(
            f"The journal was written anew. Lines kept: {rebuilt.read:,}; damaged lines left out: {rebuilt.damaged:,}; "
            f"lines added for crashes that are on disk: {rebuilt.added:,}."
        )
    show(f"{counted(len(found.crashes), 'crash', 'crashes')} of {found.day}")
    fates = table("crashes", "", "which is", right=["crashes"])
    for fate, count in found.fates().items():
        style = "bold red" if fate == "unaccounted" and count else "" if count else "dim"
        add_row(fates, f"{count:,}", fate, FATES[fate], style=style)
    show(fates)
    locations = table("crashes", "", "where", right=["crashes"])
    for kind, in_words in _STEPS.items():
        for where, count in found.by_location(kind).items():
            add_row(locations, f"{count:,}", in_words, where)
    for root, there in found.at_destinations.items():
        add_row(
            locations,
            "?" if there is None else f"{there:,}",
            "are at",
            f"{root}, which is not there" if there is None else root,
        )
    show(locations)
    _show_trouble(found)
    _show_missing(found)


def _show_trouble(found: Audit) -> None:
    rows: list[tuple[str, object]] = [
        ("unclean stop", f"{unclean.process}, between {unclean.after} and {unclean.before}")
        for unclean in found.unclean_stops
    ]
    if found.damaged:
        rows.append(("damaged lines", f"{found.damaged:,} in the journal; --rebuild writes it without them"))
    if found.lost:
        rows.append(("lost lines", f"{found.lost:,}, since the journal could not be written for a while"))
    if unlinked := found.unlinked():
        rows.append(
            (
                "no link",
                f"{counted(len(unlinked), 'crash', 'crashes')}, such as {unlinked[0]}: no line says that it was moved, "
                f"and it never would be; collectord crashes renew --day {found.day} makes all of them new again",
            )
        )
    if found.dangling:
        rows.append(
            (
                "no crash",
                f"{counted(len(found.dangling), 'link')} without a crash (--dangling), such as that of "
                f"{found.dangling[0]}",
            )
        )
    for root in found.locations.stores:
        if read_mark(root) is None:
            rows.append(("no mark", f"{root}: no daemon has used it yet, or its file system is not mounted"))
    unknown = sorted({*found.by_location("kept")} - {*found.locations.stores})
    if unknown:
        rows.append(("not audited", f"{', '.join(unknown)}: the settings have no such store"))
    if rows:
        show(facts(rows))


def _show_missing(found: Audit) -> None:
    missing = found.of_fate("unaccounted", "arrived")
    if not missing:
        return
    shown = table("crash id", "", "last line", "kept in", "rule", "", whole=["crash id"])
    for crash_id in missing[:_SHOWN]:
        traces = found.crashes[crash_id]
        last = max(found.lines.get(crash_id, ()), default=None)
        fate = found.fate(crash_id)
        add_row(
            shown,
            crash_id,
            f"at {', '.join(sorted(traces.arrived_at))}" if fate == "arrived" else fate,
            "" if last is None else f"{last.time} {last.kind} {last.where}",
            ", ".join(sorted(traces.kept)),
            traces.rule,
            "lines were lost by an unclean stop" if _is_explained(found, crash_id) else "",
            style="red" if fate == "unaccounted" else "",
        )
    show(shown)
    if len(missing) > _SHOWN:
        say(f"{len(missing) - _SHOWN:,} more: --json lists all of them")


def _is_explained(found: Audit, crash_id: str) -> bool:
    """
    Whether lines about the crash were lost by an unclean stop, and nothing else.

    That holds only for a crash that is somewhere. Of one that is nowhere, more than lines may have been lost.
    """
    return found.fate(crash_id) == "arrived" and found.unclean_stop_of(crash_id) is not None
