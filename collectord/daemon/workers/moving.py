"""
The part of a worker that moves crashes.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from collectord.concurrency.tasks import gather, spawn
from collectord.concurrency.timeouts import with_timeout
from collectord.daemon.delivery import DeliveryPipeline
from collectord.daemon.reload import ReplaceableDelivery
from collectord.daemon.workers.messages import Message, Sinks
from collectord.errors import StorageError
from collectord.model import CrashEvent
from collectord.settings.schema import Settings
from collectord.settings.snapshot import SettingsSnapshot
from collectord.storage.chain.backend import CHECK_S, Backend

_CHECK_S = 60.0
"""
How often a worker that takes no submissions checks its stores. Other hosts that share one believe that a process whose
staging directory does not change for some minutes is gone.
"""


class Moving:
    """
    Moves crashes.

    @param names: the names of the stores, by their staging ids.
    @param is_apart: whether the worker does nothing else. Then it moves all that is moved in this daemon, and its
        parent tells it what it has to know of those that take submissions.
    @param on_event: called with each step of a crash.
    @param tell: sends a message to the parent.
    @ivar services: the services that do the work.
    """

    def __init__(
        self,
        settings: Settings,
        backends: Sequence[Backend],
        names: Mapping[str, str],
        on_event: Callable[[CrashEvent], None],
        tell: Callable[[Message], None],
        reactor: Any,
        *,
        is_apart: bool,
    ) -> None:
        self._backends = backends
        self._names = names
        self._on_event = on_event
        self._tell = tell
        self._reactor = reactor
        self._is_apart = is_apart
        self._is_pressed = False
        self._settings = settings.crashmover
        self._delivery = ReplaceableDelivery(self._new_delivery(settings), reactor)
        checks = [_StoreChecks(backends, reactor)] if is_apart else []
        self.services: Sequence[IService] = (self._delivery, *checks)

    @property
    def pipeline(self) -> DeliveryPipeline:
        """The delivery pipeline in use."""
        return self._delivery.pipeline

    def _new_delivery(self, settings: Settings) -> DeliveryPipeline:
        return DeliveryPipeline(
            settings,
            self._backends,
            self._names,
            self._on_event,
            self._reactor,
            share="all" if self._is_apart else "destinations",
            is_pressed=(lambda: self._is_pressed) if self._is_apart else None,
        )

    def kept(self, store: str, count: int = 1) -> None:
        """Note that the store of that name keeps so many more crashes."""
        self.pipeline.wake(store, count)

    def press(self, is_pressed: bool) -> None:
        """Note whether crashes wait for a disk in those who take them."""
        self._is_pressed = is_pressed

    def prepare(self, snapshot: SettingsSnapshot) -> Callable[[], Awaitable[None]]:
        """As L{WorkerPart.prepare<collectord.daemon.workers.worker.WorkerPart.prepare>}."""
        settings = snapshot.settings
        delivery = None if settings.crashmover == self._settings else self._new_delivery(settings)

        async def apply() -> None:
            if delivery is not None:
                self._settings = settings.crashmover
                await self._delivery.replace(delivery)

        return apply

    def report(self, *, last: bool) -> None:
        """As L{WorkerPart.report<collectord.daemon.workers.worker.WorkerPart.report>}."""
        if states := self.pipeline.sink_states():
            self._tell(Sinks(states))


class _StoreChecks(Service):
    """Checks all stores once a minute, so that others see that this process is there."""

    _log = Logger()

    def __init__(self, backends: Sequence[Backend], reactor: Any) -> None:
        self._backends = backends
        self._reactor = reactor
        self._loop = LoopingCall(self._check_all)
        self._loop.clock = reactor

    def startService(self) -> None:
        super().startService()
        self._loop.start(_CHECK_S, now=False)

    def stopService(self) -> None:
        super().stopService()
        self._loop.stop()

    def _check_all(self) -> Deferred[None]:
        checks = [self._check(backend) for backend in self._backends]
        return spawn(gather(checks), self._log, "the stores could not be checked")

    async def _check(self, backend: Backend) -> None:
        with suppress(StorageError):  # the crashmover and the parent say what is wrong
            await with_timeout(backend.storage.check(), CHECK_S, self._reactor, backend.name)
