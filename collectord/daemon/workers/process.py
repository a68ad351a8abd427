"""
A worker process as its parent sees it: it sends messages, writes log lines, and ends.
"""

import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from collectord.daemon.workers.messages import (
    CHANNEL,
    STOP,
    Counted,
    CrashEvents,
    LineSplitter,
    Ready,
    Saving,
    Seen,
    Sinks,
    Work,
    decode,
)
from collectord.index.tally import Tally
from collectord.model import CrashEvent
from collectord.observe.aggregate import Snapshot
from collectord.observe.rate import RecentRate
from collectord.observe.sinks import SinkState
from collectord.observe.status import WorkerStatus
from collectord.storage.chain.backend import SLOW_S

_DIE_S = 2.0
"""A process that is still there so long after it was killed waits for a disk. It is given up."""
_LONGEST = 2**20
"""Bytes of a log line; a longer one is cut."""


class Parent(Protocol):
    """What a worker process needs of its parent. All of it is called on the reactor thread."""

    def began(self, worker: "WorkerProcess") -> None:
        """Note that C{worker} takes submissions now, or moves crashes."""

    def on_event(self, event: CrashEvent) -> None:
        """Note what has happened to a crash in a worker."""

    def on_tally(self, tally: Tally) -> None:
        """Note which reports a worker has seen."""

    def counted(self, worker: "WorkerProcess", metrics: Snapshot) -> None:
        """Note the current values of all metrics of C{worker}."""

    def pressed(self) -> None:
        """Note that crashes may have begun or ceased to wait for a disk in a worker."""

    def write(self, lines: bytes) -> None:
        """Write log lines of a worker, each of which ends with a newline."""

    def gone(self, worker: "WorkerProcess", why: str) -> None:
        """Note that C{worker} has ended, or was given up. This is called once."""


class WorkerProcess(ProcessProtocol):
    """
    One worker process, and the parent's end of its pipes.

    @ivar number: tells it from the others of its kind, from 1 on; its successor gets the same.
    @ivar since: when it was started, in seconds since the epoch.
    @ivar is_heard: it has sent a message.
    @ivar silent_s: seconds since its last message or its start, as the silence watch counts them.
    @ivar received: how many submissions it has received a second of late.
    @ivar is_hung: it has been silent for too long.
    @ivar is_ready: it has said that it takes submissions, or moves crashes.
    @ivar is_killed: it was killed, and will end.
    @ivar ready: fires once it takes submissions, or has ended without.
    @ivar ended: fires when it has ended, or was given up.
    @ivar waited: for how many seconds the oldest crash has waited that is being saved there, by the name of its store.
    @ivar sinks: how the destinations and publishers are that it moves crashes to.
    @ivar expendable: no other worker is started in its place when it ends.
    """

    _log = Logger()

    def __init__(self, parent: Parent, work: Work, number: int, since: float, clock: Any) -> None:
        self._parent = parent
        self._clock = clock
        self._lines = LineSplitter(self._line_received)
        self._unfinished: dict[int, bytes] = {}
        self.work = work
        self.number = number
        self.since = since
        self.sinks: Sequence[SinkState] = ()
        self.waited: Mapping[str, float] = {}
        self.pid = 0
        self.is_heard = self.is_ready = self.is_hung = self.is_killed = self.expendable = False
        self.silent_s = 0.0
        self.received = RecentRate()
        self.ready: Deferred[None] = Deferred()
        self.ended: Deferred[None] = Deferred()

    @property
    def name(self) -> str:
        """What it is called in the log and on the page, such as C{worker 1}; its own log lines begin with that."""
        return f"{self.work.noun} {self.number}"

    @property
    def answers(self) -> bool:
        """Whether it does its work, and is not hung."""
        return self.is_ready and not self.is_hung

    @property
    def is_pressed(self) -> bool:
        """Whether crashes wait for a disk there."""
        return any(seconds > SLOW_S for seconds in self.waited.values())

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.pid = self.transport.pid

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        if childFD == CHANNEL:
            self._lines.feed(data)
        else:
            self._logged(childFD, data)

    def _logged(self, descriptor: int, data: bytes) -> None:
        """Hand on whole lines only, since lines of other workers are written in between."""
        whole, end, rest = (self._unfinished.get(descriptor, b"") + data).rpartition(b"\n")
        if len(rest) > _LONGEST:
            whole, end, rest = whole + end + rest, b"\n", b""
        self._unfinished[descriptor] = rest
        if end:
            self._parent.write(whole + end)

    def _line_received(self, line: bytes) -> None:
        self.is_heard = True
        self.silent_s = 0.0
        try:
            message = decode(line)
        except (ValueError, TypeError):
            self._log.failure("{worker} (pid {pid}) sent what can't be understood", worker=self.name, pid=self.pid)
            return
        match message:
            case Ready():
                self.is_ready = True
                self.ready.callback(None)
                self._parent.began(self)
            case CrashEvents(events):
                for event in events:
                    self._parent.on_event(event)
            case Counted(metrics):
                self._parent.counted(self, metrics)
            case Seen(tally):
                self._parent.on_tally(tally)
            case Sinks(states):
                self.sinks = states
            case Saving(waited):
                self.waited = waited
                self._parent.pressed()

    def send(self, word: bytes) -> None:
        """Send it one line. If it has ended, the line is lost."""
        if self.transport is not None:
            with suppress(KeyError):  # The pipe is closed already.
                self.transport.writeToChild(0, word + b"\n")

    def stop(self) -> None:
        """Ask it to finish what it has begun, and to end."""
        self.expendable = True
        self.send(STOP)

    def kill(self) -> None:
        """Kill it. Within two seconds it has ended, or is given up."""
        if self.transport is not None and not self.ended.called:
            self.is_killed = True
            with suppress(ProcessExitedAlready):
                self.transport.signalProcess("KILL")
            self._clock.callLater(_DIE_S, self._over, "it was killed, and does not end")

    def processEnded(self, reason: Failure) -> None:
        for rest in self._unfinished.values():
            if rest:
                self._parent.write(rest + b"\n")
        self._over(_in_words(reason.value))

    def _over(self, why: str) -> None:
        if self.ended.called:
            return
        if not self.ready.called:
            self.ready.callback(None)
        self._parent.gone(self, why)
        self.ended.callback(None)


def states_of(workers: Sequence[WorkerProcess]) -> Sequence[WorkerStatus]:
    """Return the state of each of C{workers} that does its work or hangs, but of none that is still starting."""
    return [
        WorkerStatus(
            pid=worker.pid,
            name=worker.name,
            since=worker.since,
            problem=f"hangs: nothing was heard of it for {worker.silent_s:.0f} s" if worker.is_hung else "",
            per_s=worker.received.per_s if worker.work.receives and not worker.is_hung else None,
        )
        for worker in workers
        if worker.is_ready or worker.is_hung
    ]


def _in_words(end: BaseException | None) -> str:
    number = getattr(end, "signal", None)
    if number is not None:
        return f"killed by {signal.Signals(number).name}"
    return f"exit status {getattr(end, 'exitCode', None)}"
