"""
The supervisor of the workers: it opens their ports, starts them, replaces those that die or hang, and collects what
they report.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import chain, count
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger

from collectord.concurrency.backoff import backoff_delay
from collectord.concurrency.sharing import shielded
from collectord.concurrency.tasks import gather
from collectord.concurrency.timeouts import with_timeout
from collectord.daemon.workers.messages import DRAIN, HUNG, RELOAD, Work
from collectord.daemon.workers.movers import MoverCalls
from collectord.daemon.workers.process import WorkerProcess, states_of
from collectord.daemon.workers.silence import START_S, SilenceWatch
from collectord.daemon.workers.spawning import Spawner
from collectord.duplicates.table import KeptTable
from collectord.errors import TimedOut
from collectord.index.tally import Tally
from collectord.metrics import MOVERS, MOVERS_WANTED, WORKER_RESTARTS, WORKERS, WORKERS_HUNG
from collectord.model import CrashEvent
from collectord.net.listeners import Listeners, close_ports
from collectord.net.twisted_private import lend
from collectord.observe.aggregate import AggregatedRegistry, Snapshot, total_in
from collectord.observe.sinks import SinkState
from collectord.observe.status import WorkerStatus
from collectord.settings.snapshot import SettingsSnapshot

_END_S = 25.0
"""Seconds beyond those that uploads may take at a stop, after which a worker that does not end is killed."""
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 30.0
_RETRY_S = 2.0
"""Seconds until it is tried again to start a worker where that was not possible."""
_STEADY_S = 10.0
"""A worker that lived for so many seconds did not die of a bad start, so the pauses begin anew."""


class _Nobody(ServerFactory):
    """Takes no connection, since only the workers read from the ports."""

    noisy = False


class Supervisor(Service):
    """
    Keeps a number of worker processes running: those that take submissions, on the same ports, and those that move
    crashes.

    @param wanted: how many there have to be for each work.
    @param snapshot: returns the settings in effect, which new workers get.
    @param out: takes what workers log; None if they write to the standard output of this process themselves.
    @param on_event: called with what happens to crashes in any worker.
    @param on_tally: called with the reports that any worker has seen.
    @param table: the memory that the workers share.
    @param ready: called once as many as are wanted take submissions for the first time.
    @param stop: seconds that uploads which have begun may take at a stop.
    @param now: returns the time in seconds since the epoch.
    """

    _log = Logger()

    def __init__(
        self,
        wanted: Mapping[Work, int],
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
        self._wanted = wanted
        self._snapshot = snapshot
        self._listeners = listeners
        self._reactor = reactor
        self._out = out
        self._spawner = Spawner(out, table, reactor)
        self._ready = ready
        self._stop_s = stop
        self._now = now
        self._workers: list[WorkerProcess] = []
        self._failures = Counter[Work]()
        self._restarting = self._draining = False
        self._announced = False
        self._aggregated = aggregated
        self._watch = SilenceWatch(lambda: self._workers, self._timeout, self._report_hung, reactor)
        self._calls = MoverCalls(lambda: self._workers, reactor)
        self._on_event = on_event
        self.on_tally = on_tally

    def privilegedStartService(self) -> None:
        """Open the ports. Only the workers take connections from them."""
        super().privilegedStartService()
        self._spawner.ports = self._listeners.open(_Nobody())
        for port in self._spawner.ports:
            lend(port)

    def startService(self) -> None:
        super().startService()
        MOVERS_WANTED.set(self._wanted.get(Work.MOVE, 0))
        for work in chain.from_iterable([work] * number for work, number in self._wanted.items()):
            self._spawn(work)
        self._watch.start()

    def _timeout(self) -> float:
        return self._snapshot().settings.submission.worker_timeout_s

    def began(self, worker: WorkerProcess) -> None:
        """As L{Parent.began<collectord.daemon.workers.process.Parent.began>}."""
        self._report_hung()
        receivers = sum(number for work, number in self._wanted.items() if work.receives)
        if not self._announced and sum(worker.is_ready for worker in self._receivers()) >= receivers:
            self._announced = True
            self._ready()

    def on_event(self, event: CrashEvent) -> None:
        """As L{Parent.on_event<collectord.daemon.workers.process.Parent.on_event>}."""
        if event.kind == "kept":
            self._calls.kept(event.where)
        self._on_event(event)

    def pressed(self) -> None:
        """As L{Parent.pressed<collectord.daemon.workers.process.Parent.pressed>}."""
        self._calls.pressed()

    def counted(self, worker: WorkerProcess, metrics: Snapshot) -> None:
        """As L{Parent.counted<collectord.daemon.workers.process.Parent.counted>}."""
        if worker in self._workers:  # What one that was given up has counted is in the sums already.
            self._aggregated.update(worker, metrics)
            worker.received.note(self._reactor.seconds(), total_in(metrics, "collectord_received"))

    def _receivers(self) -> Sequence[WorkerProcess]:
        return [worker for worker in self._workers if worker.work.receives]

    def receivers(self) -> Sequence[WorkerStatus]:
        """Return the state of each worker that takes submissions or hangs, but of none that is still starting."""
        return states_of(self._receivers())

    def movers(self) -> Sequence[WorkerStatus] | None:
        """Return the same of the workers that only move crashes; None if there are to be none."""
        if Work.MOVE not in self._wanted:
            return None
        return states_of([worker for worker in self._workers if worker.work is Work.MOVE])

    def sinks(self) -> Sequence[SinkState]:
        """Return how the destinations and publishers are for each worker that has told it."""
        return [state for worker in self._workers for state in worker.sinks]

    def waited(self, store: str) -> float:
        """Return for how many seconds the oldest crash has waited that is being saved in this store by any worker."""
        return max((worker.waited.get(store, 0.0) for worker in self._workers), default=0.0)

    @property
    def is_hopeless(self) -> bool:
        """Whether no worker has answered for so long that only a new start of the daemon can help."""
        return self._watch.is_hopeless

    def _report_hung(self) -> None:
        """Show how many workers hang in the metrics, and tell the workers, since they answer the heartbeat."""
        receivers = self._receivers()
        WORKERS.set(sum(worker.answers for worker in receivers))
        MOVERS.set(sum(worker.answers for worker in self._workers if worker.work is Work.MOVE))
        WORKERS_HUNG.set(sum(worker.is_hung for worker in self._workers))
        hung = sum(worker.is_hung for worker in receivers)
        for worker in receivers:
            worker.send(HUNG + b"%d" % hung)

    def write(self, data: bytes) -> None:
        """As L{Parent.write<collectord.daemon.workers.process.Parent.write>}."""
        if self._out is not None:
            self._out(data)

    def _spawn(self, work: Work, number: int | None = None) -> WorkerProcess:
        taken = {worker.number for worker in self._workers if worker.work is work}
        number = number or next(free for free in count(1) if free not in taken)
        worker = WorkerProcess(self, work, number, self._now(), self._reactor)
        self._spawner.spawn(worker)
        worker.send(self._snapshot().to_wire())
        if self._draining:
            worker.send(DRAIN)
        if work is Work.MOVE:
            self._calls.greet(worker)
        self._workers.append(worker)
        return worker

    def gone(self, worker: WorkerProcess, why: str) -> None:
        """As L{Parent.gone<collectord.daemon.workers.process.Parent.gone>}; start another one in its place."""
        self._workers.remove(worker)
        self._report_hung()
        self._calls.pressed()
        self._aggregated.forget(worker)
        if worker.expendable or not self.running:
            return
        lived = self._now() - worker.since
        self._failures[worker.work] = failures = 0 if lived > _STEADY_S else self._failures[worker.work] + 1
        pause = 0.0
        if failures:
            pause = backoff_delay(failures + 1, first=_FIRST_PAUSE_S, longest=_LONGEST_PAUSE_S)
        WORKER_RESTARTS.inc()
        self._log.error(
            "{worker} (pid {pid}) died ({why}); another starts in {pause:.1f} s",
            worker=worker.name,
            pid=worker.pid,
            why=why,
            pause=pause,
        )
        self._reactor.callLater(pause, self._replace)

    def _replace(self) -> None:
        try:
            for work, wanted in self._wanted.items():
                while self.running and sum(worker.work is work for worker in self._workers) < wanted:
                    self._spawn(work)
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
        new = self._spawn(worker.work, worker.number)
        new.expendable = True
        try:
            await with_timeout(shielded(new.ready), START_S, self._reactor, new.name)
        except TimedOut:
            new.kill()
            with suppress(TimedOut):  # Until it is gone it counts as one of those that are wanted.
                await with_timeout(shielded(new.ended), _END_S, self._reactor, new.name)
        new.expendable = not new.is_ready
        if new.expendable:
            if self.running:
                stays = f"; pid {worker.pid} stays" if worker in self._workers else ""
                self._log.error("{worker} (pid {pid}) does not start{stays}", worker=new.name, pid=new.pid, stays=stays)
            return
        worker.stop()
        await self._end(worker)
        self._log.info("{worker}: pid {pid} takes the place of {old}", worker=new.name, pid=new.pid, old=worker.pid)

    async def _end(self, worker: WorkerProcess) -> None:
        try:
            await with_timeout(shielded(worker.ended), self._stop_s + _END_S, self._reactor, worker.name)
        except TimedOut:
            self._log.error("{worker} (pid {pid}) does not end, and is killed", worker=worker.name, pid=worker.pid)
            worker.kill()
            await shielded(worker.ended)

    def stopService(self) -> Deferred[None]:
        """Close the ports here and in the workers, which finish what they have begun, all at the same time."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await close_ports(self._spawner.ports)
        self._watch.hurry(self._stop_s)
        workers = list(self._workers)
        for worker in workers:
            worker.stop()
        await gather(self._end(worker) for worker in workers)
        self._watch.stop()
        self._calls.stop()
