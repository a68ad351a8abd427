"""
The crashmover of a daemon, made from its settings: from which stores crashes are moved, and to which destinations.
"""

import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from twisted.application.service import IService

from collectord.concurrency.lateness import Lateness
from collectord.concurrency.threadpool import ThreadPool
from collectord.crashmover.loop import CrashmoverService
from collectord.crashmover.mover import Crashmover
from collectord.crashmover.pace import Pace
from collectord.crashmover.service import Crashmovers
from collectord.crashmover.sink import Sink, SinkKind
from collectord.errors import ConfigError
from collectord.interfaces import ICrashSource
from collectord.model import Crash, CrashEvent
from collectord.observe.sinks import SinkState
from collectord.plugins import DESTINATIONS, PUBLISHERS, Plugin, PluginContext, make_plugin
from collectord.settings.schema import Settings
from collectord.settings.urls import numbered
from collectord.storage.chain.backend import Backend
from collectord.storage.filesystem.known import state_directory

_THREADS = 2
"""Threads that read one source. With more of them, passing Python's global lock around costs more than they gain."""
_LATE_S = 0.02
"""If the reactor is later than this, those who send crashes wait for the machine."""


Share = Literal["all", "destinations", "nothing"]
"""
Which of the moves a process makes: all; only those to destinations, and none to the primary; or none, but it knows what
others move, and finds out whether the settings can be used.
"""


class DeliveryPipeline:
    """
    Everything that moves crashes out of the stores: a loop for each store, and the destinations and publishers.

    Without destinations, crashes that a fallback store keeps are moved home to the primary store.

    @param names: the names of the stores, by their staging ids.
    @param on_event: called with each step of a crash.
    @param is_pressed: tells whether those who take crashes in need the machine; None: they are in this process.
    @ivar stop_s: seconds that moves which have begun may take at a stop.
    @ivar service: runs the loops; None if nothing is ever moved.
    @ivar sinks: all destinations and publishers.

    @raise ConfigError: a destination or publisher can't be made.
    """

    def __init__(
        self,
        settings: Settings,
        backends: Sequence[Backend],
        names: Mapping[str, str],
        on_event: Callable[[CrashEvent], None],
        reactor: Any,
        *,
        share: Share = "all",
        is_pressed: Callable[[], bool] | None = None,
    ) -> None:
        self._names = names
        self._settings = settings.crashmover
        self.stop_s = self._settings.stop_s
        self._on_event = on_event
        self._reactor = reactor
        self.sinks: Sequence[Sink] = ()
        self._threads: list[ThreadPool] = []
        self._loops: dict[str, CrashmoverService] = {}
        self._publishing: dict[tuple[str, str], CrashmoverService] = {}  # by store and publisher
        self._lateness = Lateness(reactor)
        self._backends = backends
        self._is_pressed = is_pressed or self._is_pressed_here
        self.service: IService | None = None
        if self._settings.enabled and (share != "destinations" or self._settings.destination):
            self._make(settings, backends, runs=share != "nothing")

    @property
    def roots(self) -> Sequence[str]:
        """The root directories of the destinations that are file systems."""
        return [str(root) for root in self._settings.filesystem_roots()]

    def moves(self, store: str) -> bool:
        """Tell whether the crashes of the store of that name are moved at all."""
        return store in self._loops

    def sink_states(self) -> Sequence[SinkState]:
        """Return how the destinations and publishers are for this process."""
        return [
            SinkState(sink.name, sink.problem, sink.resumes_in, tuple(sink.cautions()), sink.is_tried)
            for sink in self.sinks
        ]

    def wake(self, store: str, count: int = 1) -> None:
        """Note that the store of that name keeps so many more crashes, so that they are moved soon."""
        loop = self._loops.get(store)
        if loop is not None:
            loop.wake(count)

    def left(self, store: str) -> None:
        """Note that another process of the daemon has moved a crash out of the store of that name."""
        loop = self._loops.get(store)
        if loop is not None:
            loop.left()

    def _is_pressed_here(self) -> bool:
        return self._lateness.seconds > _LATE_S or any(backend.is_slow for backend in self._backends)

    def _make(self, settings: Settings, backends: Sequence[Backend], *, runs: bool) -> None:
        _refuse_circles(settings)
        destinations = make_plugins(DESTINATIONS, settings, self._names, self._reactor)
        publishers = make_plugins(PUBLISHERS, settings, self._names, self._reactor)
        if destinations:
            names = iter(numbered(plugin.instance.name for plugin in (*destinations, *publishers)))
            destination_sinks = [
                self._plugin_sink(next(names), plugin, "moved", plugin.instance.save) for plugin in destinations
            ]
            publisher_sinks = [
                self._plugin_sink(next(names), plugin, "published", plugin.instance.publish) for plugin in publishers
            ]
            self.sinks = [*destination_sinks, *publisher_sinks]
            for backend in backends:
                self._add(backend, destination_sinks, publisher_sinks, keep=self._settings.keep)
        else:
            primary, *others = backends
            homes = [self._home(primary, backend) for backend in others]
            self.sinks = homes
            for backend, home in zip(others, homes, strict=True):
                self._add(backend, [home], [], keep=False)
        if self._loops:
            closable = [plugin.instance for plugin in (*destinations, *publishers)]
            sinks, loops = (self.sinks, (*self._loops.values(), *self._publishing.values())) if runs else ((), ())
            self.service = Crashmovers(sinks, closable, self._threads, self._lateness, self._reactor)
            for loop in loops:
                loop.setServiceParent(self.service)

    def _home(self, primary: Backend, backend: Backend) -> Sink:
        async def check() -> None:
            # The primary must make its staging directory first. If the other store is the same directory by another
            # path, it finds that out by the staging directory of the primary.
            await primary.storage.check()
            await backend.prepare()

        return self._sink(primary.name, "moved", primary.storage.save, check, primary.timeout)

    def _plugin_sink(self, name: str, plugin: Plugin, kind: SinkKind, deliver: Callable[..., Any]) -> Sink:
        settings = plugin.settings
        return self._sink(
            name,
            kind,
            deliver,
            plugin.instance.check,
            settings.timeout_s,
            verify=settings.verify,
            cautions=lambda: getattr(plugin.instance, "cautions", ()),
            place_of=_place_of(plugin, kind),
        )

    def _sink(
        self,
        name: str,
        kind: SinkKind,
        deliver: Callable[..., Any],
        check: Callable[[], Any],
        timeout: float,
        *,
        verify: bool = True,
        cautions: Callable[[], Sequence[str]] = tuple,
        place_of: Callable[[Crash], str] = lambda crash: "",
    ) -> Sink:
        return Sink(
            name,
            kind,
            deliver,
            check,
            timeout=timeout,
            verify=verify,
            clock=self._reactor,
            chance=random.random,
            cautions=cautions,
            place_of=place_of,
        )

    def _add(
        self, backend: Backend, destination_sinks: Sequence[Sink], publisher_sinks: Sequence[Sink], *, keep: bool
    ) -> None:
        assert backend.source is not None
        threads = ThreadPool(f"move {backend.name}", _THREADS, self._reactor.callFromThread)
        self._threads.append(threads)
        mover = self._mover(backend, destination_sinks, publisher_sinks, keep=keep)
        self._loops[backend.name] = self._loop(mover, backend.source(threads))
        for sink in publisher_sinks:
            assert backend.unpublished is not None
            # What it "keeps" is the crash, which is at its destinations: only its id leaves the source.
            mover = self._mover(backend, [sink], [], keep=True)
            self._publishing[backend.name, sink.name] = self._loop(mover, backend.unpublished(sink.name, threads))

    def _mover(
        self, backend: Backend, destination_sinks: Sequence[Sink], publisher_sinks: Sequence[Sink], *, keep: bool
    ) -> Crashmover:
        return Crashmover(
            destination_sinks,
            publisher_sinks,
            keep=keep,
            clock=self._reactor,
            chance=random.random,
            on_event=self._on_event,
            on_remembered=lambda publisher: self._publishing[backend.name, publisher].wake(),
            now=time.time,
        )

    def _loop(self, mover: Crashmover, source: ICrashSource) -> CrashmoverService:
        return CrashmoverService(
            mover,
            source,
            interval=self._settings.interval_s,
            pace=Pace(self._settings.concurrency, self._is_pressed, self._reactor),
            stop=self._settings.stop_s,
            clock=self._reactor,
        )


def _place_of(plugin: Plugin, kind: SinkKind) -> Callable[[Crash], str]:
    """What a destination says of the id of a crash, and a publisher of the crash."""
    place_of: Callable[[Any], str] = getattr(plugin.instance, "place_of", lambda _: "")
    return place_of if kind == "published" else lambda crash: place_of(crash.crash_id)


def make_plugins(group: str, settings: Settings, names: Mapping[str, str], reactor: Any) -> list[Plugin]:
    """
    Make all destinations or all publishers of C{settings}.

    @param group: L{DESTINATIONS} or L{PUBLISHERS}.
    @param names: the names of the stores, by their staging ids.

    @raise ConfigError: one can't be made.
    """
    context = PluginContext(reactor, names, state_directory(settings.state.directory, os.environ))
    mover = settings.crashmover
    key, tables = ("destination", mover.destination) if group == DESTINATIONS else ("publisher", mover.publisher)
    return [make_plugin(group, table, context, f"[[crashmover.{key}]] {number}") for number, table in enumerate(tables)]


def _refuse_circles(settings: Settings) -> None:
    """
    Check that no crash would be moved to where it is already.

    @raise ConfigError: a destination has the root of a store.
    """
    roots = {store.root.absolute() for store in settings.storage}
    for root in settings.crashmover.filesystem_roots():
        if root in roots:
            raise ConfigError(f"[[crashmover.destination]] root = {str(root)!r}: is the root of a [[storage]]")
