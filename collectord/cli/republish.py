"""
C{collectord republish}: publishes the ids of crashes again that were published before, for a queue that has lost them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from attrs import define, field, frozen
from click.exceptions import Exit
from twisted.internet.selectreactor import SelectReactor

from collectord.cli.plugged import close, run_in_reactor
from collectord.cli.shared import EXIT_STATUS, WRONG, CannotRun, config_option, counted, json_option, say, show_json
from collectord.cli.stores import a_crash_id, a_day
from collectord.concurrency.tasks import gather
from collectord.concurrency.timeouts import with_timeout
from collectord.daemon.delivery import make_plugins
from collectord.errors import CollectordError, PublishError, TimedOut
from collectord.model import Crash, NewCrash, RawCrash
from collectord.observe.journal.lines import journal_day
from collectord.observe.journal.reader import Journal
from collectord.observe.journal.writer import directory_of
from collectord.plugins import PUBLISHERS, Plugin
from collectord.settings.loading import load_settings
from collectord.settings.schema import Settings
from collectord.settings.urls import numbered, without_secrets
from collectord.storage.filesystem.unpublished import left_over as left_over_at
from collectord.storage.filesystem.unpublished import read_unpublished, remove_unpublished

_AT_ONCE = 32
"""How many ids are published at the same time."""


def _day_or_id(context: click.Context, parameter: click.Parameter, values: Sequence[str]) -> tuple[str, ...]:
    return tuple(a_day(value) if _is_day(value) else a_crash_id(value) for value in values)


def _is_day(text: str) -> bool:
    return text in ("today", "yesterday") or text.replace("-", "").isdigit()


@click.command(epilog=EXIT_STATUS)
@click.argument("which", nargs=-1, callback=_day_or_id, metavar="DATE|CRASH_ID...")
@click.option("--publisher", "only", metavar="NAME", help="Publish with this one only, named as the log names it.")
@click.option(
    "--left-over", metavar="NAME", help="Publish the ids that wait for a publisher of this name, which is no more."
)
@click.option("--dry-run", is_flag=True, help="Write the ids, and publish none.")
@click.option("--force", is_flag=True, help="Publish ids that are named even if the journal does not have them.")
@config_option
@json_option
def republish(
    which: Sequence[str],
    only: str | None,
    left_over: str | None,
    dry_run: bool,
    force: bool,
    config: Path | None,
    as_json: bool,
) -> None:
    """
    Publish ids again, for a queue that has lost them.

    The ids are those of crashes that came on a day (UTC: yyyymmdd, yyyy-mm-dd, today or yesterday), or that are named.
    Only those are published of which the daemon's journal says that they were published before. So crashes that are
    not to be processed are left out, and those that were not moved yet, which the daemon will publish. It may be
    running. Each publisher of the settings gets all of them. An id that a queue still has comes there twice.

    Each host has a journal of its own: run this on all of them.

    With --left-over no ids are published again, but those that still wait for a publisher that has another name by now,
    or is gone: see what check-config says of it.

    \b
    collectord republish yesterday
    collectord republish 2016-06-22 --publisher "rabbitmq socorro.standard"
    collectord republish 8f63752c-57c6-4e5d-b2cf-cabde2160622
    collectord republish --left-over "rabbitmq the.old.queue"
    """
    if bool(which) == (left_over is not None):
        raise click.UsageError("Name a day, crash ids, or --left-over NAME.")
    settings = load_settings(config)
    if left_over is not None:
        ids = list(_waiting_for(settings, left_over))
    elif settings.ledger.enabled or force:
        ids = list(_published(directory_of(settings), which, force=force))
    else:
        raise CannotRun("the daemon writes no journal to read the ids from ([ledger] enabled = false)")
    if dry_run:
        for each in ids:
            show_json({"crash_id": each.crash_id}) if as_json else click.echo(each.crash_id)
        return
    outcome = run_in_reactor(lambda reactor: publish_all(settings, only, ids, reactor))
    published = frozenset(outcome.published)
    for each in ids:
        if each.waits is not None and each.crash_id in published:
            remove_unpublished(each.waits)
    if as_json:
        show_json({"published": outcome.published, "left": outcome.left, "problem": outcome.problem})
    else:
        click.echo(f"{counted(len(outcome.published), 'id')} published again")
    if outcome.problem:
        say(f"{counted(len(outcome.left), 'id')} not published again: {outcome.problem}")
        raise Exit(WRONG)


@frozen
class ToRepublish:
    """
    An id that is to be published again.

    @ivar places: where each publisher, by its name, said that it has published it, if that was not the usual place.
    @ivar raw_crash: as much of it as is known.
    @ivar waits: where the id waits in a store; it is removed from there. None: it was published before.
    """

    crash_id: str
    places: Mapping[str, str] = {}
    raw_crash: RawCrash = field(factory=dict)
    waits: NewCrash | None = None


def _waiting_for(settings: Settings, publisher: str) -> Iterator[ToRepublish]:
    """
    Return the ids in all stores that wait for a publisher of that name.

    @raise CannotRun: there are none, or the daemon publishes them itself.
    """
    found = False
    try:
        if publisher in _names(make_plugins(PUBLISHERS, settings, {}, SelectReactor())):
            raise CannotRun(f"{publisher!r} is in the settings: the daemon publishes the ids that wait for it")
        for store in settings.storage:
            for new in left_over_at(str(store.root.absolute()), publisher):
                found = True
                yield ToRepublish(new.crash_id, raw_crash=read_unpublished(new), waits=new)
    except OSError as e:
        raise CannotRun(f"{e.filename}: {e.strerror}") from e
    if not found:
        raise CannotRun(f"no id waits for a publisher {publisher!r}")


def _published(directory: Path, which: Sequence[str], *, force: bool) -> Iterable[ToRepublish]:
    """
    Return the ids that C{which} chooses, each once.

    @raise CannotRun: the journal has nothing of a day, or of an id.
    """
    found: dict[str, dict[str, str]] = {}
    for each in which:
        if len(each) == len("yyyymmdd"):
            journal = Journal(directory, each)
            lines = [line for line in journal if line.kind == "published"]
            if journal.damaged:
                say(f"the journal of {each} is damaged in {counted(journal.damaged, 'place')}, so ids may be missing")
            if not lines:
                raise CannotRun(f"the journal of {each} in {directory} names no crash that was published")
        else:
            about = Journal(directory, journal_day(each)).lines_about(each)
            lines = [line for line in about if line.kind == "published"]
            if not force and not lines:
                raise CannotRun(f"{each}: the journal in {directory} does not say that it was published; see --force")
            found.setdefault(each, {})
        for line in lines:
            found.setdefault(line.subject, {})[line.where] = line.place
    return [ToRepublish(crash_id, places) for crash_id, places in found.items()]


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


async def publish_all(settings: Settings, only: str | None, ids: Sequence[ToRepublish], reactor: Any) -> Republished:
    """
    Publish C{ids} with each publisher, several at the same time. After the first error no further one is begun.

    @param only: the name of the publisher; None: all.
    @raise CannotRun: there is no such publisher, or one would take no ids now.
    """
    made = make_plugins(PUBLISHERS, settings, {}, reactor)
    try:
        chosen = _chosen(made, only)
        for plugin in chosen.values():
            await _checked(plugin, reactor)
        outcome = Republished()
        waiting = iter(ids)
        await gather(_publish_some(chosen, waiting, outcome, reactor) for _ in range(_AT_ONCE))
        outcome.left.extend(each.crash_id for each in waiting)
        return outcome
    finally:
        await gather(close(plugin, reactor) for plugin in made)


def _names(made: Sequence[Plugin]) -> Sequence[str]:
    return numbered(plugin.instance.name for plugin in made)


def _chosen(made: Sequence[Plugin], only: str | None) -> Mapping[str, Plugin]:
    """The publishers to use, by their names."""
    if not made:
        raise CannotRun("the settings have no [[crashmover.publisher]]")
    names = _names(made)
    if only is not None and only not in names:
        raise CannotRun(f"there is no publisher {only!r}; there are: {', '.join(names)}")
    return {name: plugin for name, plugin in zip(names, made, strict=True) if only in (None, name)}


async def _checked(plugin: Plugin, reactor: Any) -> None:
    try:
        await with_timeout(plugin.instance.check(), plugin.settings.timeout_s, reactor, plugin.instance.name)
    except CollectordError as e:
        raise CannotRun(without_secrets(str(e))) from e


async def _publish_some(
    chosen: Mapping[str, Plugin], waiting: Iterable[ToRepublish], outcome: Republished, reactor: Any
) -> None:
    for each in waiting:
        try:
            for name, plugin in chosen.items():
                work = _publish(plugin.instance, each, each.places.get(name, ""))
                await with_timeout(work, plugin.settings.timeout_s, reactor, plugin.instance.name)
        except (PublishError, TimedOut) as e:
            outcome.left.append(each.crash_id)
            outcome.problem = outcome.problem or without_secrets(str(e))
        else:
            outcome.published.append(each.crash_id)
        if outcome.problem:
            return


async def _publish(publisher: Any, each: ToRepublish, place: str) -> None:
    # The journal does not have the annotations, by which a queue for some crashes only is chosen.
    crash = Crash(crash_id=each.crash_id, raw_crash={"uuid": each.crash_id, **each.raw_crash}, dumps=())
    if place and hasattr(publisher, "publish_at"):
        await publisher.publish_at(place, crash)
    else:
        await publisher.publish(crash)
