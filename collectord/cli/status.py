"""
C{collectord status}: how a running daemon is, by its admin port.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
from click.exceptions import Exit
from rich.text import Text

from collectord.cli.http import Answer, Server, url_of
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
)
from collectord.config import load_settings

_PATH = "/overview.json"
_UNAUTHORIZED = (401, 403)


@click.command(epilog=EXIT_STATUS)
@click.option(
    "--url", help="The admin port, as http://127.0.0.1:8001.  [default: the first of [admin] listen in the settings]"
)
@click.option(
    "--timeout", default=5.0, show_default=True, type=click.FloatRange(0, min_open=True), help="Seconds to wait for it."
)
@config_option
@json_option
def status(url: str | None, timeout: float, config: Path | None, as_json: bool) -> None:
    """
    Ask the running daemon how it is: its stores, what waits to be moved, and what comes in.

    The exit status is 1 where a store, a destination or a publisher has a problem, 2 where the daemon does not answer.

    \b
    collectord status
    collectord status --json | jq '.stores[].backlog'
    """
    admin = load_settings(config).admin
    if not url and not admin.listen:
        raise CannotRun("the daemon has no admin port ([admin] listen is empty); give another one's by --url")
    headers = {"Authorization": f"Bearer {admin.token}"} if admin.token else {}
    with Server(url or url_of(admin.listen[0]), timeout, _PATH) as server:
        overview = _overview(server.ask("GET", headers))
    try:
        problems = list(_problems(overview))
        if as_json:
            show_json(overview)
        else:
            _show(overview)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as e:
        raise CannotRun(f"the answer is not that of this version of collectord: {type(e).__name__}: {e}") from e
    if not as_json:
        for problem in problems:
            say(problem)
    if problems:
        raise Exit(WRONG)


def _overview(answer: Answer) -> Mapping[str, Any]:
    if answer.status in _UNAUTHORIZED:
        raise CannotRun(f"the admin port answers {answer.status}: is [admin] token the daemon's?")
    try:
        overview = json.loads(answer.body) if answer.status == 200 else None
    except (ValueError, RecursionError):
        overview = None
    if not isinstance(overview, dict):
        raise CannotRun(f"this is no admin port of collectord: {answer.status} {shortened(answer.first_line, 100)}")
    return overview


def _problems(overview: Mapping[str, Any]) -> Iterator[str]:
    if not overview["workers"]:
        yield "no process takes submissions: the log of the daemon says why"
    for kind in ("stores", "outlets"):
        for one in overview[kind]:
            if one["problem"]:
                yield f"{one['name']}: {one['problem']}"


def _show(overview: Mapping[str, Any]) -> None:
    rates = overview["rates"]
    show(
        facts(
            [
                ("collectord", overview["version"]),
                ("running for", _duration(overview["now"] - overview["started"])),
                ("workers", len(overview["workers"])),
                ("connections", f"{overview['connections']}; {overview['receiving']} uploads"),
                ("crashes", f"{overview['saving']} being saved, {overview['moving']} being moved"),
                (
                    "per second",
                    f"{rates['received']:.1f} received, {rates['kept']:.1f} kept, {rates['refused']:.1f} refused, "
                    f"{rates['moved']:.1f} moved; {size_in_words(rates['bytes_in'])}",
                ),
                *((f"{name}, in all", f"{total:,}") for name, total in overview["totals"].items()),
            ]
        )
    )
    _show_stores(overview["stores"])
    if overview["outlets"]:
        _show_outlets(overview["outlets"])
    for one in (*overview["stores"], *overview["outlets"]):
        for caution in one["cautions"]:
            show(f"{one['name']}: {caution}")


def _show_stores(stores: Sequence[Mapping[str, Any]]) -> None:
    shown = table("store", "free", "waiting", "oldest", "quarantine", "", right=["free", "waiting", "quarantine"])
    for store in stores:
        add_row(
            shown,
            store["name"],
            "?" if store["free_bytes"] is None else size_in_words(store["free_bytes"]),
            "—" if store["backlog"] is None else f"{store['backlog']:,}",
            _duration(store["oldest_age_s"]) if store["oldest_age_s"] else "",
            store["quarantined"],
            _health(store["problem"]),
        )
    show(shown)


def _show_outlets(outlets: Sequence[Mapping[str, Any]]) -> None:
    shown = table("destination or publisher", "kind", "given", "failures", "", right=["given", "failures"])
    for outlet in outlets:
        health = _health(outlet["problem"])
        if outlet["resumes_in_s"]:
            health.append(f" (again in {_duration(outlet['resumes_in_s'])})")
        add_row(shown, outlet["name"], outlet["kind"], f"{outlet['given']:,}", outlet["failures"], health)
    show(shown)


def _health(problem: str) -> Text:
    return Text(shortened(problem, 200), "red") if problem else Text("well", "green")


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
