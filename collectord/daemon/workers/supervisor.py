"""
The supervisor of the workers: it opens their ports, starts them, replaces those that die or hang, and collects what
they report.
"""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger

from collectord.concurrency.backoff import backoff_delay
from collectord.concurrency.sharing import shielded
from collectord.concurrency.tasks import gather
from collectord.concurrency.timeouts import with_timeout
from collectord.daemon.workers.messages import CHANNEL, DRAIN, HUNG, RELOAD, TABLE
from collectord.daemon.workers.process import WorkerProcess
from collectord.daemon.workers.silence import START_S, SilenceWatch
from collectord.duplicates.table import KeptTable
from collectord.errors import TimedOut
from collectord.index.tally import Tally
from collectord.metrics import WORKER_RESTARTS, WORKERS, WORKERS_HUNG
from collectord.model import CrashEvent
from collectord.net.listeners import Listeners, close_ports
from collectord.net.twisted_private import lend
from collectord.observe.aggregate import AggregatedRegistry, Snapshot
from collectord.observe.status import WorkerStatus
from collectord.settings.schema import PREFIX
from collectord.settings.snapshot import SettingsSnapshot

_END_S = 25.0
"""Beyond what uploads may take at a stop."""
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 30.0
_RETRY_S = 2.0
_STEADY_S = 10.0
"""Who lived so long did not die of its start."""


class _Nobody(ServerFactory):
    """Takes no connection, since only the workers read from the ports."""

    noisy = False


class Supervisor(Service):
    """
    Keeps a number of worker processes running on the same ports.

    @param snapshot: returns the settings in effect, which new workers get.
    @param out: takes what workers log; None if they write to the standard output of this process themselves.
    @param on_event: called with what happens to crashes in any worker.
    @param on_tally: called with the reports that any worker has seen.
    @param table: the memory that the workers share.
    @param ready: called once all workers take submissions for the first time.
    @param stop: seconds that uploads which have begun may take at a stop.
    @param now: returns the time in seconds since the epoch.
    """

    _log = Logger()

    def __init__(
        self,
        count: int,
        snapshot: Callable[[], SettingsSnapshot],
        listeners: Listeners,
        reactor: Any,
        *,
        out: Callable[[bytes], object] | None,
        on_event: Callable[[CrashEvent], None],
        on_tally: Callable[[Tally], None],
        table: KeptTable,
        ready: Callable[[], None],
        aggregated: AggregatedRegistry,
        stop: float,
        now: Callable[[], float],
    ) -> None:
        self._count = count
        self._snapshot = snapshot
        self._listeners = listeners
        self._reactor = reactor
        self._out = out
        self._table = table
        self._ready = ready
        self._stop_s = stop
        self._now = now
        self._ports: Sequence[IListeningPort] = ()
        self._workers: list[WorkerProcess] = []
        self._failures = 0
        self._restarting = self._draining = False
        self._announced = False
        self._aggregated = aggregated
        self._watch = SilenceWatch(lambda: self._workers, self._timeout, self._report_hung, reactor)
        self._devnull: int | None = None
        self.on_event = on_event
        self.on_tally = on_tally

    def privilegedStartService(self) -> None:
        """Open the ports. Only the workers take connections from them."""
        super().privilegedStartService()
        self._ports = self._listeners.open(_Nobody())
        for port in self._ports:
            lend(port)

    def startService(self) -> None:
        super().startService()
        for _ in range(self._count):
            self._spawn()
        self._watch.start()

    def _timeout(self) -> float:
        return self._snapshot().settings.submission.worker_timeout_s

    def began(self, worker: WorkerProcess) -> None:
        """As L{Parent.began<collectord.daemon.workers.process.Parent.began>}."""
        self._report_hung()
        if not self._announced and sum(worker.is_ready for worker in self._workers) >= self._count:
            self._announced = True
            self._ready()

    def counted(self, worker: WorkerProcess, metrics: Snapshot) -> None:
        """As L{Parent.counted<collectord.daemon.workers.process.Parent.counted>}."""
        if worker in self._workers:  # What one that was given up has counted is in the sums already.
            self._aggregated.update(worker, metrics)

    def states(self) -> Sequence[WorkerStatus]:
        """Return the state of each worker that takes submissions or hangs, but of none that is still starting."""
        return [
            WorkerStatus(
                pid=worker.pid,
                since=worker.since,
                problem=f"hangs: nothing was heard of it for {worker.silent_s:.0f} s" if worker.is_hung else "",
            )
            for worker in self._workers
            if worker.is_ready or worker.is_hung
        ]

    @property
    def is_hopeless(self) -> bool:
        """Whether no worker has answered for so long that only a new start of the daemon can help."""
        return self._watch.is_hopeless

    def _report_hung(self) -> None:
        """Show how many workers hang in the metrics, and tell the workers, since they answer the heartbeat."""
        hung = sum(worker.is_hung for worker in self._workers)
        WORKERS.set(sum(worker.answers for worker in self._workers))
        WORKERS_HUNG.set(hung)
        for worker in self._workers:
            worker.send(HUNG + b"%d" % hung)

    def write(self, data: bytes) -> None:
        """As L{Parent.write<collectord.daemon.workers.process.Parent.write>}."""
        if self._out is not None:
            self._out(data)

    def _spawn(self) -> WorkerProcess:
        worker = WorkerProcess(self, self._now(), self._reactor)
        inherited = [port.fileno() for port in self._ports]  # type: ignore[attr-defined]
        first = TABLE + 1
        out, errors = ("r", "r") if self._out is not None else (self._standard(1), self._standard(2))
        descriptors = {0: "w", 1: out, 2: errors, CHANNEL: "r", TABLE: self._table.descriptor}
        descriptors |= {first + number: descriptor for number, descriptor in enumerate(inherited)}
        families = [port.addressFamily for port in self._ports]  # type: ignore[attr-defined]
        named = [f"{first + number}:{int(family)}" for number, family in enumerate(families)]
        # A worker imports what this process does. With -P it imports nothing from the working directory.
        command = [sys.executable, "-P", "-m", "collectord.daemon.workers.worker", *named]
        self._reactor.spawnProcess(worker, sys.executable, command, env=_environment(), childFDs=descriptors)
        worker.send(self._snapshot().to_wire())
        if self._draining:
            worker.send(DRAIN)
        self._workers.append(worker)
        return worker

    def _standard(self, number: int) -> int:
        """
        Return the descriptor that becomes standard output or error of a worker.

        If ours was closed, another file may have got its number since; a worker then gets C{/dev/null}.
        """
        if (sys.__stdout__, sys.__stderr__)[number - 1] is not None:
            return number
        if self._devnull is None:
            self._devnull = os.open(os.devnull, os.O_WRONLY)
        return self._devnull

    def gone(self, worker: WorkerProcess, why: str) -> None:
        """As L{Parent.gone<collectord.daemon.workers.process.Parent.gone>}; start another one in its place."""
        self._workers.remove(worker)
        self._report_hung()
        self._aggregated.forget(worker)
        if worker.expendable or not self.running:
            return
        lived = self._now() - worker.since
        self._failures = 0 if lived > _STEADY_S else self._failures + 1
        pause = 0.0
        if self._failures:
            pause = backoff_delay(self._failures + 1, first=_FIRST_PAUSE_S, longest=_LONGEST_PAUSE_S)
        WORKER_RESTARTS.inc()
        self._log.error(
            "worker {pid} died ({why}); another starts in {pause:.1f} s",
            pid=worker.pid,
            why=why,
            pause=pause,
        )
        self._reactor.callLater(pause, self._replace)

    def _replace(self) -> None:
        try:
            while self.running and len(self._workers) < self._count:
                self._spawn()
        except OSError as e:  # Processes, descriptors or memory have run out, perhaps only for now.
            self._log.error("no worker can be started: {why}", why=e)
            self._reactor.callLater(_RETRY_S, self._replace)

    def start_draining(self) -> None:
        """Let all workers drain from now on, since the daemon is about to stop."""
        self._draining = True
        for worker in self._workers:
            worker.send(DRAIN)

    def reload(self) -> None:
        """Send the settings in effect to all workers."""
        wire = self._snapshot().to_wire()
        for worker in self._workers:
            worker.send(RELOAD + wire)

    async def restart(self) -> None:
        """Replace the workers one by one. Each ends when its successor is ready, so that no request is lost."""
        if self._restarting:
            return
        self._restarting = True
        try:
            for worker in list(self._workers):
                if self.running and worker in self._workers:
                    await self._replace_in_order(worker)
        finally:
            self._restarting = False
            self._replace()  # A worker that has died meanwhile was not replaced.

    async def _replace_in_order(self, worker: WorkerProcess) -> None:
        new = self._spawn()
        new.expendable = True
        try:
            await with_timeout(shielded(new.ready), START_S, self._reactor, f"worker {new.pid}")
        except TimedOut:
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

    async def _end(self, worker: WorkerProcess) -> None:
        try:
            await with_timeout(shielded(worker.ended), self._stop_s + _END_S, self._reactor, f"worker {worker.pid}")
        except TimedOut:
            self._log.error("worker {pid} does not end, and is killed", pid=worker.pid)
            worker.kill()
            await shielded(worker.ended)

    def stopService(self) -> Deferred[None]:
        """Close the ports here and in the workers, which finish what they have begun, all at the same time."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await close_ports(self._ports)
        self._watch.hurry(self._stop_s)
        workers = list(self._workers)
        for worker in workers:
            worker.stop()
        await gather(self._end(worker) for worker in workers)
        self._watch.stop()


def _environment() -> dict[str, str]:
    """
    Return the environment of a worker: without our settings, which it gets by its standard input, and with the import
    path of this process.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return environment | {"PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path if path)}
