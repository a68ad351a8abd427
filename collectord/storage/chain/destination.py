"""
The destination C{type = "fallback"}: a chain of other destinations, each for what the one before failed to save.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from pydantic import Field
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from collectord.concurrency.timeouts import with_timeout
from collectord.errors import AllStoresFailed, CrashRejectedByStore, StorageError, UnclearRefusal
from collectord.interfaces import ICrashStorage, IDumpStaging, IStagedDump
from collectord.model import Content, Crash
from collectord.plugins import DESTINATIONS, PluginContext, PluginSettings, PluginType, make_plugin
from collectord.settings.urls import numbered
from collectord.storage.chain.backend import Backend
from collectord.storage.chain.chain import FallbackCrashStorage
from collectord.storage.chain.probe import PROBE_INTERVAL_S
from collectord.storage.chain.waitingroom import Waiter, WaitingRoom


class FallbackDestination(PluginSettings):
    """
    The settings of a destination of C{type = "fallback"}.

    @ivar of: the tables of the destinations, in order. Each gets the crashes that the one before failed to save.
    @ivar timeout_s: seconds for all of them together. Each has a time limit of its own, too.
    """

    timeout_s: float = Field(default=3600.0, gt=0)

    of: list[dict[str, Any]] = Field(min_length=2, repr=False)


@implementer(IDumpStaging)
class _NoStaging:
    """No dump is ever spilled to a destination, since the crashes that are moved lie on disk already."""

    def new_dump(self) -> IStagedDump:
        raise NotImplementedError

    def owns(self, content: Content) -> bool:
        return False

    async def wait_for_discards(self) -> None:
        return

    async def is_shared_by(self, staging_ids: Sequence[str]) -> bool:
        return False


@implementer(ICrashStorage)
class _TimeLimited:
    """A destination whose saves are cancelled after a time limit."""

    def __init__(self, storage: Any, timeout: float, clock: IReactorTime) -> None:
        self.name: str = storage.name
        self._storage = storage
        self._timeout = timeout
        self._clock = clock

    async def save(self, crash: Crash) -> str:
        return await with_timeout(self._storage.save(crash), self._timeout, self._clock, self.name)

    async def check(self) -> Mapping[str, int]:
        checked: Mapping[str, int] = await self._storage.check()
        return checked

    async def close(self) -> None:
        await self._storage.close()


@implementer(ICrashStorage)
class FallbackOfDestinations:
    """
    This destination saves each crash in the first of its destinations that can.

    If all of them fail, it does not try again: the crashmover does that, after a pause. If all of them refuse the
    crash, so does this one.
    """

    def __init__(self, backends: Sequence[Backend], clock: IReactorTime) -> None:
        self._chain = FallbackCrashStorage(backends, clock, WaitingRoom(clock, seconds=0.0, limit=0))
        self.name = self._chain.name
        self._clock = clock
        self._probed = clock.seconds()

    async def save(self, crash: Crash) -> str:
        now = self._clock.seconds()
        if now - self._probed > PROBE_INTERVAL_S:
            self._probed = now
            await self._chain.probe()
        refusals: list[StorageError] = []
        try:
            return await self._chain.first_available(
                lambda backend: _save(backend, crash, refusals), Waiter(now, lambda: 0)
            )
        except AllStoresFailed:
            if len(refusals) < len(self._chain.backends):
                raise
            raise min(refusals, key=lambda e: isinstance(e, CrashRejectedByStore)) from None

    @property
    def cautions(self) -> Sequence[str]:
        """What the destinations can't promise, in sentences, as far as that is known by now."""
        return [f"{backend.name}: {caution}" for backend in self._chain.backends for caution in backend.cautions()]

    async def check(self) -> Mapping[str, int]:
        return await self._chain.check()

    async def close(self) -> None:
        await self._chain.close()


async def _save(backend: Backend, crash: Crash, refusals: list[StorageError]) -> str:
    try:
        return await backend.storage.save(crash)
    except (CrashRejectedByStore, UnclearRefusal) as e:
        refusals.append(e)
        raise


def _fallback(settings: FallbackDestination, context: PluginContext) -> FallbackOfDestinations:
    plugins = [
        make_plugin(DESTINATIONS, table, context, f"[[crashmover.destination.of]] {number}")
        for number, table in enumerate(settings.of)
    ]
    backends = []
    for name, plugin in zip(numbered(plugin.instance.name for plugin in plugins), plugins, strict=True):
        timed = _TimeLimited(plugin.instance, plugin.settings.timeout_s, context.reactor)
        backends.append(
            Backend(
                name,
                timed,
                _NoStaging(),
                plugin.settings.timeout_s,
                cautions=partial(getattr, plugin.instance, "cautions", ()),
            )
        )
    return FallbackOfDestinations(backends, context.reactor)


FALLBACK = PluginType(FallbackDestination, _fallback)
"""The entry point C{fallback} of collectord's own destinations (in C{setup.py}) names this."""
