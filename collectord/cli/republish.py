"""
C{collectord republish}: publishes the ids of crashes again that were published before, for a queue that has lost them.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click
from attrs import define, field
from click.exceptions import Exit

from collectord.cli.plugged import close, run_in_reactor
from collectord.cli.shared import EXIT_STATUS, WRONG, CannotRun, config_option, counted, json_option, say, show_json
from collectord.cli.stores import a_crash_id, a_day
from collectord.concurrency.tasks import gather
from collectord.concurrency.timeouts import with_timeout
from collectord.daemon.delivery import make_plugins
from collectord.errors import CollectordError, PublishError, TimedOut
from collectord.model import Crash
from collectord.observe.journal.lines import journal_day
from collectord.observe.journal.reader import Journal
from collectord.observe.journal.writer import directory_of
from collectord.plugins import PUBLISHERS, Plugin
from collectord.settings.loading import load_settings
from collectord.settings.schema import Settings
from collectord.settings.urls import numbered, without_secrets

_AT_ONCE = 32
"""How many ids are published at the same time."""


def _day_or_id(context: click.Context, parameter: click.Parameter, values: Sequence[str]) -> tuple[str, ...]:
    return tuple(a_day(value) if _is_day(value) else a_crash_id(value) for value in values)


def _is_day(text: str) -> bool:
    return text in ("today", "yesterday") or text.replace("-", "").isdigit()


@click.command(epilog=EXIT_STATUS)
@click.argument("which", nargs=-1, required=True, callback=_day_or_id, metavar="DATE|CRASH_ID...")
@click.option("--publisher", "only", metavar="NAME", help="Publish with this one only, named as the log names it.")
@click.option("--dry-run", is_flag=True, help="Write the ids, and publish none.")
@click.option("--force", is_flag=True, help="Publish ids that are named even if the journal does not have them.")
@config_option
@json_option
def republish(
    which: Sequence[str], only: str | None, dry_run: bool, force: bool, config: Path | None, as_json: bool
) -> None:
    """
    Publish ids again, for a queue that has lost them.

    The ids are those of crashes that came on a day (UTC: yyyymmdd, yyyy-mm-dd, today or yesterday), or that are named.
    Only those are published of which the daemon's journal says that they were published before. So crashes that are
    not to be processed are left out, and those that were not moved yet, which the daemon will publish. It may be
    running. Each publisher of the settings gets all of them. An id that a queue still has comes there twice.

    Each host has a journal of its own: run this on all of them.

    \b
    collectord republish yesterday
    collectord republish 2016-06-22 --publisher "rabbitmq socorro.standard"
    collectord republish 8f63752c-57c6-4e5d-b2cf-cabde2160622
    """
    settings = load_settings(config)
    if not settings.ledger.enabled and not force:
        raise CannotRun("the daemon writes no journal to read the ids from ([ledger] enabled = false)")
    crash_ids = list(_published(directory_of(settings), which, force=force))
    if dry_run:
        for crash_id in crash_ids:
            show_json({"crash_id": crash_id}) if as_json else click.echo(crash_id)
        return
    outcome = run_in_reactor(lambda reactor: publish_all(settings, only, crash_ids, reactor))
    if as_json:
        show_json({"published": outcome.published, "left": outcome.left, "problem": outcome.problem})
    else:
        click.echo(f"{counted(len(outcome.published), 'id')} published again")
    if outcome.problem:
        say(f"{counted(len(outcome.left), 'id')} not published again: {outcome.problem}")
        raise Exit(WRONG)


def _published(directory: Path, which: Sequence[str], *, force: bool) -> Iterable[str]:
    """
    Return the ids that C{which} chooses, each once.

    @raise CannotRun: the journal has nothing of a day, or of an id.
    """
    found: dict[str, None] = {}
    for each in which:
        if len(each) == len("yyyymmdd"):
            journal = Journal(directory, each)
            of_day = [line.subject for line in journal if line.kind == "published"]
            if journal.damaged:
                say(f"the journal of {each} is damaged in {counted(journal.damaged, 'place')}, so ids may be missing")
            if not of_day:
                raise CannotRun(f"the journal of {each} in {directory} names no crash that was published")
            found.update(dict.fromkeys(of_day))
        else:
            lines = Journal(directory, journal_day(each)).lines_about(each)
            if not force and all(line.kind != "published" for line in lines):
                raise CannotRun(f"{each}: the journal in {directory} does not say that it was published; see --force")
            found[each] = None
    return found


@define
class Republished:
    """
    Which ids were published again, and which were not.

    @ivar published: the ids that every publisher has confirmed.
    @ivar left: the ids that were not published, or not by every publisher.
    @ivar problem: why some are left; empty: none is.
    """

    published: list[str] = field(factory=list)
    left: list[str] = field(factory=list)
    problem: str = ""


async def publish_all(settings: Settings, only: str | None, crash_ids: Sequence[str], reactor: Any) -> Republished:
    """
    Publish C{crash_ids} with each publisher, several at the same time. After the first error no further one is begun.

    @param only: the name of the publisher; None: all.
    @raise CannotRun: there is no such publisher, or one would take no ids now.
    """
    made = make_plugins(PUBLISHERS, settings, {}, reactor)
    try:
        chosen = _chosen(made, only)
        for plugin in chosen:
            await _checked(plugin, reactor)
        outcome = Republished()
        waiting = iter(crash_ids)
        await gather(_publish_some(chosen, waiting, outcome, reactor) for _ in range(_AT_ONCE))
        outcome.left.extend(waiting)
        return outcome
    finally:
        await gather(close(plugin, reactor) for plugin in made)


def _chosen(made: Sequence[Plugin], only: str | None) -> Sequence[Plugin]:
    if not made:
        raise CannotRun("the settings have no [[crashmover.publisher]]")
    names = numbered(plugin.instance.name for plugin in made)
    if only is not None and only not in names:
        raise CannotRun(f"there is no publisher {only!r}; there are: {', '.join(names)}")
    return [plugin for name, plugin in zip(names, made, strict=True) if only in (None, name)]


async def _checked(plugin: Plugin, reactor: Any) -> None:
    try:
        await with_timeout(plugin.instance.check(), plugin.settings.timeout_s, reactor, plugin.instance.name)
    except CollectordError as e:
        raise CannotRun(without_secrets(str(e))) from e


async def _publish_some(chosen: Sequence[Plugin], waiting: Iterable[str], outcome: Republished, reactor: Any) -> None:
    for crash_id in waiting:
        # The journal does not have the annotations. A queue for some crashes only is chosen by them.
        crash = Crash(crash_id=crash_id, raw_crash={"uuid": crash_id}, dumps=())
        try:
            for plugin in chosen:
                work = plugin.instance.publish(crash)
                await with_timeout(work, plugin.settings.timeout_s, reactor, plugin.instance.name)
        except (PublishError, TimedOut) as e:
            outcome.left.append(crash_id)
            outcome.problem = outcome.problem or without_secrets(str(e))
        else:
            outcome.published.append(crash_id)
        if outcome.problem:
            return
