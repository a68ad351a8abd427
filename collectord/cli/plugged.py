"""
Runs destinations and publishers in the command: each is made as the daemon makes it, used, and closed.
"""

from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, TypeVar

import click
from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from collectord.concurrency.tasks import gather
from collectord.concurrency.timeouts import with_timeout
from collectord.daemon.delivery import make_plugins
from collectord.errors import CollectordError, TimedOut
from collectord.plugins import DESTINATIONS, PUBLISHERS, Plugin
from collectord.settings.schema import Settings
from collectord.settings.urls import numbered, without_secrets

T = TypeVar("T")

_CLOSE_S = 5.0

Kind = Literal["destination", "publisher"]


def run_in_reactor(work: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
    """
    Run C{work} with the reactor, which a process can run only once, and return what it returns.

    @raise Abort: it was interrupted.
    """
    from twisted.internet import reactor

    running: Any = reactor
    ended: list[T | Failure] = []

    def begin() -> None:
        done: Deferred[Any] = Deferred.fromCoroutine(work(running))
        done.addBoth(ended.append).addBoth(lambda _: running.stop())

    running.callWhenRunning(begin)
    running.run()
    if not ended:
        raise click.Abort
    result = ended[0]
    return result.raiseException() if isinstance(result, Failure) else result


@frozen
class TriedOut:
    """
    What came of trying a destination or publisher.

    @ivar problem: why it would take nothing now; empty: it would.
    @ivar cautions: what it can't promise, in sentences.
    """

    kind: Kind
    name: str
    problem: str
    cautions: Sequence[str] = ()

    @property
    def named_problem(self) -> str:
        """
        The problem, with the name of what has it.

        The words of the problem may leave that open: two buckets on two servers may have the same name.
        """
        return self.problem if self.problem.startswith(f"{self.name}: ") else f"{self.name}: {self.problem}"


async def try_all(settings: Settings, reactor: Any) -> Sequence[TriedOut]:
    """
    Ask each destination and publisher of C{settings} for its check, as the daemon does at its start, all at once.

    @raise ConfigError: one can't be made.
    """
    made: list[tuple[Kind, Plugin]] = [
        *(("destination", plugin) for plugin in make_plugins(DESTINATIONS, settings, {}, reactor)),
        *(("publisher", plugin) for plugin in make_plugins(PUBLISHERS, settings, {}, reactor)),
    ]
    names = numbered(plugin.instance.name for _, plugin in made)
    return await gather(_try_out(kind, name, plugin, reactor) for name, (kind, plugin) in zip(names, made, strict=True))


async def _try_out(kind: Kind, name: str, plugin: Plugin, reactor: Any) -> TriedOut:
    problem = ""
    try:
        await with_timeout(plugin.instance.check(), plugin.settings.timeout_s, reactor, name)
    except CollectordError as e:
        problem = without_secrets(str(e))
    except Exception as e:  # a bug in a plugin
        problem = without_secrets(f"{name}: {type(e).__name__}: {e}")
    cautions = tuple(getattr(plugin.instance, "cautions", ()))
    await close(plugin, reactor)
    return TriedOut(kind, name, problem, cautions)


async def close(plugin: Plugin, clock: IReactorTime) -> None:
    """Close a plugin as the daemon does: for a limited time."""
    with suppress(TimedOut):
        await with_timeout(plugin.instance.close(), _CLOSE_S, clock, plugin.instance.name)


def single_destinations(settings: Settings) -> Settings:
    """Return the settings with each destination for itself: in the place of a fallback those that are in it."""
    tables = list(_single(settings.crashmover.destination))
    mover = settings.crashmover.model_copy(update={"destination": tables})
    return settings.model_copy(update={"crashmover": mover})


def _single(tables: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for table in tables:
        if table.get("type") == "fallback":
            yield from _single(table.get("of", ()))
        else:
            yield table
