"""
What all subcommands share: options, exit statuses, and how they write.

Texts that are shown may come from clients, and be hostile, so everything is cleaned before it is written.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import TypeVar

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console, JustifyMethod, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from collectord.errors import CollectordError
from collectord.settings.loading import DEFAULT_PATH

T = TypeVar("T")

WRONG = 1
"""The exit status if something was found wrong, or was refused."""
CANNOT_RUN = 2
"""The exit status if the command could not do its work."""

EXIT_STATUS = (
    "Exit status: 0: all is well. 1: something is wrong, or was refused. "
    "2: wrong usage, or the command could not do its work."
)

_NO_TERMINAL_WIDTH = 10_000
"""A width that keeps rich from folding lines that go to a file or a pipe."""
_SILENT_S = 1.0
"""Seconds until a progress bar is shown."""

config_option = click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=f"The settings of the daemon.  [default: {DEFAULT_PATH} if it is there, else built-in values]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON, for scripts.")


class CannotRun(CollectordError):
    """The command can't do what it was asked for; the text says why."""


def json_object(content: bytes, where: object) -> dict[str, object]:
    """
    Read annotations, written as a JSON object.

    @param where: what the content is from, for the error.
    @raise CannotRun: it is not a JSON object.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as e:
        raise CannotRun(f"{where}: not JSON: {e}") from e
    if not isinstance(found, dict):
        raise CannotRun(f"{where}: has to be a JSON object of annotations")
    return found


def clean(value: object) -> str:
    """Return C{value} as a text on one line, with control characters as escapes, so that no terminal obeys them."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value))


def shortened(value: object, longest: int = 400) -> str:
    """Return C{value} as L{clean} does, without the end if it is long."""
    text = str(value)
    return clean(text) if len(text) <= longest else f"{clean(text[:longest])}… ({len(text):,} characters)"


def counted(number: int, one: str, many: str = "") -> str:
    """
    Write a number of things, such as C{1 dump} or C{1,234 dumps}.

    @param one: the word for one of them.
    @param many: the word for several, if it is not C{one} with an C{s}.
    """
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def processes_in_words(workers: int, movers: int | None) -> str:
    """
    Write how many processes there are, as C{2} or C{2 to receive, 1 to move}.

    @param movers: those that only move crashes; None: there are to be none.
    """
    return str(workers) if movers is None else f"{workers} to receive, {movers} to move"


def show(*what: RenderableType) -> None:
    """Write texts and tables to standard output. Texts are cleaned, and their lines are not folded."""
    console = Console(width=None if sys.stdout.isatty() else _NO_TERMINAL_WIDTH, highlight=False)
    for item in what:
        console.print(Text(clean(item)) if isinstance(item, str) else item, soft_wrap=isinstance(item, str))


def show_json(value: object) -> None:
    """Write C{value} to standard output as JSON, in one line of ASCII."""
    click.echo(json.dumps(value))


def say(text: object) -> None:
    """Write what is wrong, or worth a note, to standard error, and put C{collectord:} before each line."""
    for line in str(text).splitlines():
        click.echo(f"collectord: {clean(line)}", err=True)


def table(*columns: str, right: Sequence[str] = (), whole: Sequence[str] = (), title: str = "") -> Table:
    """
    Make a table without rows.

    @param right: the columns that are aligned to the right, as numbers are.
    @param whole: the columns whose cells are never folded, however narrow the terminal is; the others are.
    """
    made = Table(box=SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for column in columns:
        justify: JustifyMethod = "right" if column in right else "left"
        made.add_column(column, justify=justify, overflow="fold", no_wrap=column in whole)
    return made


def add_row(to: Table, *cells: object, style: str = "") -> None:
    """Add a row to a table. Cells that are not L{Text} are cleaned first."""
    to.add_row(*(cell if isinstance(cell, Text) else Text(clean(cell)) for cell in cells), style=style or None)


def facts(rows: Iterable[tuple[str, object]]) -> Table:
    """Make a table of names and values, one pair in each row."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        add_row(grid, name, value)
    return grid


def tracked(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """
    Yield C{items}, and show a progress bar on standard error if that is a terminal and it takes longer than a second.

    @param what: what is being done, as the bar shows it.
    @param total: how many items there are; None if that is not known.
    """
    console = Console(stderr=True)
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
        redirect_stdout=sys.stdout.isatty(),  # Otherwise rich would write what belongs into a pipe to the terminal.
        redirect_stderr=True,
    )
    task = progress.add_task(what, total=total)
    began = monotonic()
    try:
        for item in items:
            yield item
            progress.advance(task)
            if monotonic() - began > _SILENT_S:
                progress.start()
    finally:
        progress.stop()
