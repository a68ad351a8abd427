"""
The parent of the workers: it opens their ports, starts them again when they die, and hears what happens in them.
"""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import ProcessProtocol, ServerFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from collectord.config import PREFIX
from collectord.errors import TookTooLong
from collectord.listening import Listeners, close_ports
from collectord.metrics import WORKER_RESTARTS, WORKERS
from collectord.model import Happening
from collectord.observe.overview import Worker as WorkerState
from collectord.observe.sums import Sums
from collectord.patience import shielded, within
from collectord.reloading import Loaded
from collectord.workers.messages import CHANNEL, DRAIN, PIPED, RELOAD, STOP, Counted, Happened, Lines, Ready, decode

_START_S = 30.0
_END_S = 25.0
"""Beyond what uploads may take at a stop."""
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 30.0
_STEADY_S = 10.0
"""Who lived so long did not die of its start."""


class Worker(ProcessProtocol):
    """
    One process.

    @ivar since: it was started, in seconds since the epoch.
    @ivar is_ready: it takes submissions.
    @ivar ready: fires once it does, or has ended before.
    @ivar ended: fires when it is gone.
    @ivar expendable: nobody replaces it.
    """

    _log = Logger()

    def __init__(self, supervisor: "Supervisor") -> None:
        self._supervisor = supervisor
        self._lines = Lines(self._told)
        self.since = 0.0
        self.pid = 0
        self.expendable = False
        self.is_ready = False
        self.ready: Deferred[None] = Deferred()
        self.ended: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.pid = self.transport.pid

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        if childFD == CHANNEL:
            self._lines.feed(data)
        else:
            self._supervisor.write(data)

    def _told(self, line: bytes) -> None:
        try:
            message = decode(line)
        except (ValueError, TypeError):
            self._log.failure("worker {pid} said what nobody understands", pid=self.pid)
            return
        match message:
            case Ready():
                self.is_ready = True
                self.ready.callback(None)
                self._supervisor.began()
            case Happened(happenings):
                for happening in happenings:
                    self._supervisor.happened(happening)
            case Counted(metrics):
                self._supervisor.sums.update(self, metrics)

    def tell(self, word: bytes) -> None:
        """One line to it; nobody hears it where it is gone."""
        if self.transport is not None:
            with suppress(KeyError):  # its end is closed
                self.transport.writeToChild(0, word + b"\n")

    def stop(self) -> None:
        """Ask it to end in order."""
        self.expendable = True
        self.tell(STOP)

    def kill(self) -> None:
        """End it."""
        if self.transport is not None and not self.ended.called:
            self.transport.signalProcess("KILL")

    def processEnded(self, reason: Failure) -> None:
        if not self.is_ready:
            self.ready.callback(None)
        self._supervisor.gone(self, reason)
        self.ended.callback(None)


class _Nobody(ServerFactory):
    """Takes no connection: the port is not read here."""

    noisy = False


class Supervisor(Service):
    """
    @param loaded: what the workers live by, now.
    @param out: takes what they log; None: they write to the standard output of this process.
    @param happened: is told what they tell.
    @param ready: is called once all of them take submissions.
    @param stop: seconds that uploads may take at the end.
    """

    _log = Logger()

    def __init__(
        self,
        count: int,
        loaded: Callable[[], Loaded],
        listeners: Listeners,
        reactor: Any,
        *,
        out: Callable[[bytes], None] | None,
        happened: Callable[[Happening], None],
        ready: Callable[[], None],
        sums: Sums,
        stop: float,
        now: Callable[[], float],
    ) -> None:
        self._count = count
        self._loaded = loaded
        self._listeners = listeners
        self._reactor = reactor
        self._out = out
        self._ready = ready
        self._stop_s = stop
        self._now = now
        self._ports: Sequence[IListeningPort] = ()
        self._workers: list[Worker] = []
        self._failures = 0
        self._restarting = self._draining = False
        self._told_ready = False
        self.happened = happened
        self.sums = sums

    def privilegedStartService(self) -> None:
        """Open the ports; only the workers take from them."""
        super().privilegedStartService()
        self._ports = self._listeners.open(_Nobody())
        for port in self._ports:
            port.stopReading()  # type: ignore[attr-defined]
            # It is the workers', too: Twisted would shut it down for them as well.
            port._shouldShutdown = False  # type: ignore[attr-defined]

    def startService(self) -> None:
        super().startService()
        for _ in range(self._count):
            self._spawn()

    def began(self) -> None:
        """A worker takes submissions."""
        self._count_ready()
        if not self._told_ready and len(self.states()) >= self._count:
            self._told_ready = True
            self._ready()

    def states(self) -> Sequence[WorkerState]:
        """Those that take submissions."""
        return [WorkerState(pid=worker.pid, since=worker.since) for worker in self._workers if worker.is_ready]

    def _count_ready(self) -> None:
        WORKERS.set(len(self.states()))

    def write(self, data: bytes) -> None:
        """What a worker logged."""
        if self._out is not None:
            self._out(data)

    def _spawn(self) -> Worker:
        worker = Worker(self)
        inherited = [port.fileno() for port in self._ports]  # type: ignore[attr-defined]
        first = CHANNEL + 1
        out: int | str = "r" if self._out is not None else 1
        descriptors = {0: "w", 1: out, 2: out if out == "r" else 2, CHANNEL: "r"}
        descriptors |= {first + number: descriptor for number, descriptor in enumerate(inherited)}
        families = [port.addressFamily for port in self._ports]  # type: ignore[attr-defined]
        named = [f"{first + number}:{int(family)}" for number, family in enumerate(families)]
        piped = [PIPED] if self._out is not None else []
        command = [sys.executable, "-m", "collectord.workers.child", *piped, *named]
        self._reactor.spawnProcess(worker, sys.executable, command, env=_environment(), childFDs=descriptors)
        worker.tell(self._loaded().handed())
        if self._draining:
            worker.tell(DRAIN)
        worker.since = self._now()
        self._workers.append(worker)
        return worker

    def gone(self, worker: Worker, reason: Failure) -> None:
        """A worker ended."""
        self._workers.remove(worker)
        self._count_ready()
        self.sums.forget(worker)
        if worker.expendable or not self.running:
            return
        lived = self._now() - worker.since
        self._failures = 0 if lived > _STEADY_S else self._failures + 1
        pause = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(self._failures, 10)) if self._failures else 0.0
        WORKER_RESTARTS.inc()
        self._log.error(
            "worker {pid} died ({why}); another starts in {pause:.1f} s",
            pid=worker.pid,
            why=_in_words(reason.value),
            pause=pause,
        )
        self._reactor.callLater(pause, self._replace)

    def _replace(self) -> None:
        while self.running and len(self._workers) < self._count:
            self._spawn()

    def stops(self) -> None:
        """The daemon is about to stop: all of them drain until then."""
        self._draining = True
        for worker in self._workers:
            worker.tell(DRAIN)

    def reload(self) -> None:
        """All of them live by the settings of now."""
        handed = self._loaded().handed()
        for worker in self._workers:
            worker.tell(RELOAD + handed)

    async def restart(self) -> None:
        """Replace them one after the other; each goes when the next one is there, so that no request is lost."""
        if self._restarting:
            return
        self._restarting = True
        try:
            for worker in list(self._workers):
                if self.running and worker in self._workers:
                    await self._replace_in_order(worker)
        finally:
            self._restarting = False
            self._replace()  # who died meanwhile was not missed

    async def _replace_in_order(self, worker: Worker) -> None:
        new = self._spawn()
        new.expendable = True
        try:
            await within(shielded(new.ready), _START_S, self._reactor, f"worker {new.pid}")
        except TookTooLong:
            new.kill()
        new.expendable = not new.is_ready
        if new.expendable:
            if not self.running:
                return
            self._log.error("worker {pid} does not start; {old} stays", pid=new.pid, old=worker.pid)
            return
        worker.stop()
        await self._end(worker)
        self._log.info("worker {pid} takes the place of {old}", pid=new.pid, old=worker.pid)

    async def _end(self, worker: Worker) -> None:
        try:
            await within(shielded(worker.ended), self._stop_s + _END_S, self._reactor, f"worker {worker.pid}")
        except TookTooLong:
            self._log.error("worker {pid} does not end, and is killed", pid=worker.pid)
            worker.kill()

    def stopService(self) -> Deferred[None]:
        """The port closes here and in the workers; they finish what they have begun."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await close_ports(self._ports)
        workers = list(self._workers)
        for worker in workers:
            worker.stop()
        for worker in workers:
            await self._end(worker)


def _environment() -> dict[str, str]:
    """That of a worker: its settings come by its standard input, and those of others are none of its business."""
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}


def _in_words(end: BaseException | None) -> str:
    number = getattr(end, "signal", None)
    if number is not None:
        return f"killed by {signal.Signals(number).name}"
    return f"exit status {getattr(end, 'exitCode', None)}"
