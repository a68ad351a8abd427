"""
The reload at SIGHUP: the settings are read again, compared with those of now, and put into effect.

First everything that can fail is made anew, on a thread: settings, rules, certificates, destinations and publishers.
Only if all of it could be made does anything change.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from attrs import frozen
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from collectord import metrics
from collectord.concurrency.threadpool import ThreadRunner
from collectord.concurrency.timeouts import with_timeout
from collectord.daemon.delivery import DeliveryPipeline
from collectord.errors import ConfigError
from collectord.net.listeners import Listeners
from collectord.observe.systemd import Notifier
from collectord.settings.snapshot import SettingsSnapshot, needs_restart

_CLOSE_S = 10.0
"""Seconds that an old pipeline may take to close its destinations and publishers, after its moves have ended."""


class Reloadable(Protocol):
    """What a reload needs of the daemon."""

    @property
    def running(self) -> Any:
        """Whether the daemon was started, and does not stop yet."""

    @property
    def snapshot(self) -> SettingsSnapshot:
        """The settings that are in effect now."""

    @property
    def listeners(self) -> Sequence[Listeners]:
        """All ports, whose certificates are read again."""

    def new_delivery(self, snapshot: SettingsSnapshot) -> DeliveryPipeline:
        """
        Make a delivery pipeline from other settings. It may block, and is called on a thread.

        @raise ConfigError: it can't be made; the text says why.
        """

    async def apply(self, snapshot: SettingsSnapshot) -> None:
        """Put C{snapshot} into effect, except for what takes a restart."""


@frozen
class _Prepared:
    """
    What one reload has made anew, before anything changes.

    @ivar renewals: each makes the certificates of some ports those that were read.
    @ivar delivery: the new pipeline; None if its settings are the same as before.
    """

    snapshot: SettingsSnapshot
    renewals: Sequence[Callable[[], None]]
    delivery: DeliveryPipeline | None


class Reloader:
    """
    Reloads the settings of one daemon. All of it is to be called on the reactor thread.

    @param load: reads the settings. It may block, and raises L{ConfigError} if they are bad.
    """

    _log = Logger()

    def __init__(
        self,
        daemon: Reloadable,
        delivery: "ReplaceableDelivery",
        load: Callable[[], SettingsSnapshot],
        notifier: Notifier,
        in_thread: ThreadRunner,
    ) -> None:
        self._daemon = daemon
        self._delivery = delivery
        self._load = load
        self._notifier = notifier
        self._in_thread = in_thread
        self._reloading = self._wanted = False
        for result in ("done", "refused", "failed"):
            metrics.RELOADS.labels(result)

    async def reload(self) -> None:
        """
        Read the settings and put them into effect. If they are bad, that is logged and nothing changes.

        If a reload is running already this returns at once, and that one reads the settings once more: they may have
        changed since it did.
        """
        self._wanted = True
        if self._reloading:
            return
        self._reloading = True
        self._notifier.reloading()
        try:
            while self._wanted and self._daemon.running:
                self._wanted = False
                await self._reload_or_log()
        finally:
            self._reloading = False
            if self._daemon.running:
                self._notifier.ready()

    async def _reload_or_log(self) -> None:
        try:
            await self._take_effect(await self._in_thread(self._prepare))
        except ConfigError as e:
            metrics.RELOADS.labels("refused").inc()
            for line in str(e).splitlines():
                self._log.error("the settings are bad, and nothing changes: {why}", why=line)
        except Exception:
            metrics.RELOADS.labels("failed").inc()
            raise
        else:
            metrics.RELOADS.labels("done").inc()
            self._log.info("the settings were read again")

    def _prepare(self) -> _Prepared:
        """Read and make everything that can fail. This blocks, and changes nothing."""
        snapshot = self._load()
        renewals = [listeners.renewed() for listeners in self._daemon.listeners]
        now = self._daemon.snapshot
        is_same = snapshot.keeping_restart_only(now).settings.crashmover == now.settings.crashmover
        return _Prepared(snapshot, renewals, None if is_same else self._daemon.new_delivery(snapshot))

    async def _take_effect(self, prepared: _Prepared) -> None:
        for what in needs_restart(self._daemon.snapshot.settings, prepared.snapshot.settings):
            self._log.warn("{what} has changed: that takes a restart", what=what)
        for renew in prepared.renewals:
            renew()
        await self._daemon.apply(prepared.snapshot)
        if prepared.delivery is not None:
            await self._delivery.replace(prepared.delivery)


class ReplaceableDelivery(MultiService):
    """
    Runs the delivery pipeline, and replaces it by another one at a reload: the old one ends before the new one starts.

    @ivar pipeline: the one in use.
    """

    _log = Logger()

    def __init__(self, pipeline: DeliveryPipeline, clock: IReactorTime) -> None:
        super().__init__()
        self.pipeline = pipeline
        self._clock = clock
        self._ending: Deferred[None] = succeed(None)
        self._attach()

    def _attach(self) -> None:
        if self.pipeline.service is not None:
            self.pipeline.service.setServiceParent(self)

    async def replace(self, pipeline: DeliveryPipeline) -> None:
        """
        End the pipeline in use, which may take as long as its moves may, and start C{pipeline}.

        While the daemon stops nothing is replaced: the stop ends the pipeline in use.
        """
        if not self.running:
            return
        old, self.pipeline = self.pipeline, pipeline
        self._ending = Deferred.fromCoroutine(self._end(old))
        await self._ending
        if self.running:  # the daemon may have been stopped meanwhile
            self._attach()

    async def _end(self, pipeline: DeliveryPipeline) -> None:
        if pipeline.service is None:
            return
        try:
            stopped = pipeline.service.disownServiceParent()
            await with_timeout(stopped, pipeline.stop_s + _CLOSE_S, self._clock, "the old delivery pipeline")
        except Exception:
            self._log.failure("the old delivery pipeline did not end in order")

    def stopService(self) -> Deferred[None]:
        """Stop the pipeline in use, and wait for one that is being replaced."""
        return Deferred.fromCoroutine(self._stop(super().stopService()))

    async def _stop(self, stopped: Deferred[Any]) -> None:
        await stopped
        await self._ending
