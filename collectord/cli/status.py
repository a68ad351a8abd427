"""
C{collectord status}: asks the admin port how a running daemon is, and says it in the words of the admin page.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from click.exceptions import Exit
from rich.text import Text

from collectord.admin.format import count, rate, span
from collectord.admin.machine import NOT_KNOWN, NOT_SINCE, NOT_YET, TAKES_CRASHES
from collectord.admin.state import LOST, loss_in_words
from collectord.cli.client import Response, Server
from collectord.cli.shared import (
    EXIT_STATUS,
    WRONG,
    CannotRun,
    add_row,
    config_option,
    facts,
    json_option,
    processes_in_words,
    say,
    shortened,
    show,
    show_json,
    table,
)
from collectord.net.localurl import url_of
from collectord.observe.status import Loss
from collectord.settings.loading import load_settings
from collectord.units import size_in_words

_PATH = "/overview.json"
_UNAUTHORIZED = (401, 403)


@click.command(epilog=EXIT_STATUS)
@click.option(
    "--url", help="Its admin port, as http://127.0.0.1:8001.  [default: the first of [admin] listen in the settings]"
)
@click.option(
    "--timeout", default=5.0, show_default=True, type=click.FloatRange(0, min_open=True), help="Seconds to wait for it."
)
@config_option
@json_option
def status(url: str | None, timeout: float, config: Path | None, as_json: bool) -> None:
    """
    Ask the running daemon how it is.

    It shows its stores, how many crashes wait to be moved, and how many reports come in. The exit status is 1 if
    anything needs attention, as on the admin page, and 2 if the daemon does not answer. If no store takes crashes, the
    first line says that crashes are being lost.

    \b
    collectord status
    collectord status --json | jq '.stores[].backlog'
    """
    admin = load_settings(config).admin
    if not url and not admin.listen:
        raise CannotRun("the daemon has no admin port ([admin] listen is empty); name that of another with --url")
    headers = {"Authorization": f"Bearer {admin.token}"} if admin.token else {}
    with Server(url or _url_of(admin.listen[0]), timeout, _PATH) as server:
        overview = _overview(server.ask("GET", headers))
    try:
        problems = list(_problems(overview))
        if as_json:
            show_json(overview)
        else:
            _show(overview)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as e:
        why = f"{type(e).__name__}: {e}"
        raise CannotRun(f"the answer can't be read; is the daemon of this command's version? ({why})") from e
    if not as_json:
        for problem in problems:
            say(problem)
    if problems:
        raise Exit(WRONG)


def _url_of(endpoint: str) -> str:
    if not (url := url_of(endpoint)):
        raise CannotRun(f"the URL of {endpoint!r} can't be known: name it with --url")
    return url


def _overview(answer: Response) -> Mapping[str, Any]:
    if answer.status in _UNAUTHORIZED:
        raise CannotRun(f"the admin port answers {answer.status}: does it have the same [admin] token and hosts?")
    try:
        overview = json.loads(answer.body) if answer.status == 200 else None
    except (ValueError, RecursionError):
        overview = None
    if not isinstance(overview, dict):
        raise CannotRun(
            f"not an admin port of collectord: it answers {answer.status} {shortened(answer.first_line, 100)}"
        )
    return overview


def _problems(overview: Mapping[str, Any]) -> Iterator[str]:
    if overview["loss"]:
        yield f"{LOST}: {_loss(overview)}"
    for trouble in overview["troubles"]:
        yield f"{trouble['where']}: {trouble['what']}"


def _loss(overview: Mapping[str, Any]) -> str:
    return loss_in_words(Loss(**overview["loss"]), overview["now"], overview["rates"]["lost"])


def _show(overview: Mapping[str, Any]) -> None:
    rates, movers = overview["rates"], overview["movers"]
    workers = processes_in_words(len(overview["workers"]), None if movers is None else len(movers))
    if overview["loss"]:
        show(Text(LOST, "bold red"), _loss(overview))
    show(
        facts(
            [
                ("collectord", overview["version"]),
                ("running for", span(overview["now"] - overview["started"])),
                ("workers", workers),
                ("connections", f"{overview['connections']}; {overview['receiving']} uploads"),
                ("crashes", f"{overview['saving']} being saved, {overview['moving']} being moved"),
                (
                    "per second",
                    ", ".join(f"{rate(rates[name])} {name}" for name in ("received", "kept", "refused", "moved"))
                    + f"; {size_in_words(rates['bytes_in'])}",
                ),
                *(
                    ("data in, in all", size_in_words(total))
                    if name == "bytes_in"
                    else (f"{name}, in all", count(total))
                    for name, total in overview["totals"].items()
                ),
            ]
        )
    )
    _show_stores(overview["stores"])
    if overview["sinks"]:
        _show_sinks(overview["sinks"])
    for one in (*overview["stores"], *overview["sinks"]):
        for caution in one["cautions"]:
            show(f"{one['name']}: {caution}")


def _show_stores(stores: Sequence[Mapping[str, Any]]) -> None:
    numbers = ["free", "full below", "waiting", "quarantine"]
    shown = table("store", "free", "full below", "waiting", "oldest", "quarantine", "state", right=numbers)
    for store in stores:
        add_row(
            shown,
            store["name"],
            _known(store["free_bytes"], size_in_words),
            size_in_words(store["min_free_bytes"]),
            "—" if store["backlog"] is None else count(store["backlog"]),
            span(store["oldest_age_s"]) if store["oldest_age_s"] else "",
            _known(store["quarantined"], count),
            _health(store["problem"]),
        )
    show(shown)


def _known(value: float | None, in_words: Callable[[float], str]) -> str:
    return NOT_KNOWN if value is None else in_words(value)


def _show_sinks(sinks: Sequence[Mapping[str, Any]]) -> None:
    shown = table("destination or publisher", "kind", "given", "failures", "state", right=["given", "failures"])
    for sink in sinks:
        health = _health(sink["problem"]) if sink["problem"] or sink["is_tried"] else Text(NOT_YET, "dim")
        if sink["resumes_in_s"] > 0:
            health.append(f" (again in {span(sink['resumes_in_s'])})")
        elif sink["problem"] and not sink["is_tried"]:
            health.append(f" ({NOT_SINCE})")
        add_row(shown, sink["name"], sink["kind"], count(sink["given"]), count(sink["failures"]), health)
    show(shown)


def _health(problem: str) -> Text:
    return Text(shortened(problem, 200), "red") if problem else Text(TAKES_CRASHES, "green")
