"""
C{collectord top}: which bugs and which products crash most, by the index of the daemon.
"""

import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import click
from attrs import asdict

from collectord.admin.format import count, span
from collectord.cli.shared import (
    EXIT_STATUS,
    CannotRun,
    add_row,
    config_option,
    json_option,
    shortened,
    show,
    show_json,
    table,
)
from collectord.daemon.indexing import index_directory
from collectord.index.database import asking, open_to_read
from collectord.index.top import products_seen, top_fingerprints
from collectord.index.values import FingerprintSeen, ProductSeen, ProductsSeen, TopOrder
from collectord.index.writer import index_path
from collectord.settings.loading import load_settings

_STEPS = 1_000_000_000
_VERSIONS = 4


@click.command(epilog=EXIT_STATUS)
@click.option(
    "--by",
    type=click.Choice(["hour", "day", "rising", "new"]),
    default="day",
    show_default=True,
    help="Most seen in the last hour or day; risen most in the last hour; or first seen within a day.",
)
@click.option("--products", "of_products", is_flag=True, help="Products and their versions instead of bugs.")
@click.option("--limit", type=click.IntRange(min=1), default=12, show_default=True, help="At most so many.")
@config_option
@json_option
def top(by: TopOrder, of_products: bool, limit: int, config: Path | None, as_json: bool) -> None:
    """
    Show which bugs crash most.

    A bug is a fingerprint: crashes at one place that were probably called the same way. All reports with it are
    counted, whether they were kept or not. This reads the index of a daemon with these settings, which may be running.

    \b
    collectord top --by rising
    collectord top --json | jq -r '.fingerprints[].fingerprint'
    """
    settings = load_settings(config)
    if not settings.index.enabled:
        raise CannotRun("the daemon keeps no index of crashes: [index] enabled is false")
    path, now = index_path(index_directory(settings)), time.time()
    try:
        opened = open_to_read(path)
    except sqlite3.Error as e:
        raise CannotRun(f"the index of the daemon can't be read: {path}: {e}") from e
    with closing(opened) as database, asking(database, _STEPS):
        products = products_seen(database, now, limit) if of_products else None
        bugs = None if of_products else top_fingerprints(database, now, by, limit)
    if as_json:
        show_json(asdict(products or bugs))  # type: ignore[arg-type]
    elif products is not None:
        _show_products(products)
    elif bugs is not None:
        _show_bugs(bugs.fingerprints, now)
        show(f"{count(bugs.total)} in the last 24 hours")


def _show_bugs(bugs: Sequence[FingerprintSeen], now: float) -> None:
    shown = table(
        *("fingerprint", "crashes at", "exception", "products", "1 h", "kept", "24 h", "kept", "first", "last"),
        right=["1 h", "kept", "24 h"],
        whole=["fingerprint"],
    )
    for bug in bugs:
        add_row(
            shown,
            bug.fingerprint,
            shortened(bug.place, 80),
            shortened(bug.exception, 40),
            _versions(bug.products),
            count(bug.hour.seen),
            count(bug.hour.kept),
            count(bug.day.seen),
            count(bug.day.kept),
            span(now - bug.first_seen),
            span(now - bug.last_seen),
        )
    show(shown)


def _versions(products: Sequence[ProductSeen]) -> str:
    named = [shortened(f"{product.product} {product.version}", 40) for product in products[:_VERSIONS]]
    return ", ".join([*named, "…"] if len(products) > _VERSIONS else named)


def _show_products(products: ProductsSeen) -> None:
    shown = table("product", "version", "1 h", "kept", "24 h", "kept", right=["1 h", "kept", "24 h"])
    for each in products.products:
        cells = each.hour.seen, each.hour.kept, each.day.seen, each.day.kept
        add_row(shown, shortened(each.product, 40), shortened(each.version, 40), *map(count, cells))
    if products.others:
        hour, day = products.others_hour, products.others_day
        add_row(shown, f"{count(products.others)} others", "", *map(count, (hour.seen, hour.kept, day.seen, day.kept)))
    show(shown)
