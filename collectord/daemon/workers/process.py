"""
One worker, as its parent sees it: a process that tells what happens, logs, and ends.
"""

import signal
from contextlib import suppress
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from collectord.daemon.workers.messages import CHANNEL, STOP, Counted, CrashEvents, LineSplitter, Ready, decode
from collectord.model import CrashEvent
from collectord.observe.aggregate import Snapshot

_DIE_S = 2.0
"""Who was killed and is there for so much longer waits for a disk, and nobody waits for it."""
_LONGEST = 2**20


class Parent(Protocol):
    """What a worker is the worker of."""

    def began(self, worker: "WorkerProcess") -> None:
        """It takes submissions."""

    def on_event(self, event: CrashEvent) -> None:
        """Something became of a crash."""

    def counted(self, worker: "WorkerProcess", metrics: Snapshot) -> None:
        """Its metrics by now."""

    def write(self, lines: bytes) -> None:
        """It logged these, each with its end."""

    def gone(self, worker: "WorkerProcess", why: str) -> None:
        """It has ended, or is given up."""


class WorkerProcess(ProcessProtocol):
    """
    One process.

    @ivar since: it was started, in seconds since the epoch.
    @ivar is_heard: it has told something.
    @ivar silent_s: since it told something, or was started.
    @ivar is_hung: it is silent for too long.
    @ivar is_ready: it takes submissions, unless it is hung.
    @ivar is_killed: its end is a matter of time.
    @ivar ready: fires once it does, or has ended before.
    @ivar ended: fires when it is gone.
    @ivar expendable: nobody replaces it.
    """

    _log = Logger()

    def __init__(self, parent: Parent, since: float, clock: Any) -> None:
        self._parent = parent
        self._clock = clock
        self._lines = LineSplitter(self._line_received)
        self._unfinished: dict[int, bytes] = {}
        self.since = since
        self.pid = 0
        self.is_heard = self.is_ready = self.is_hung = self.is_killed = self.expendable = False
        self.silent_s = 0.0
        self.ready: Deferred[None] = Deferred()
        self.ended: Deferred[None] = Deferred()

    @property
    def answers(self) -> bool:
        """It takes submissions, and is not hung."""
        return self.is_ready and not self.is_hung

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.pid = self.transport.pid

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        if childFD == CHANNEL:
            self._lines.feed(data)
        else:
            self._logged(childFD, data)

    def _logged(self, descriptor: int, data: bytes) -> None:
        """Hand on whole lines: those of others come in between."""
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
            self._log.failure("worker {pid} said what nobody understands", pid=self.pid)
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

    def send(self, word: bytes) -> None:
        """One line to it; nobody hears it where it is gone."""
        if self.transport is not None:
            with suppress(KeyError):  # its end is closed
                self.transport.writeToChild(0, word + b"\n")

    def stop(self) -> None:
        """Ask it to end in order."""
        self.expendable = True
        self.send(STOP)

    def kill(self) -> None:
        """End it. In two seconds it is gone, or given up."""
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


def _in_words(end: BaseException | None) -> str:
    number = getattr(end, "signal", None)
    if number is not None:
        return f"killed by {signal.Signals(number).name}"
    return f"exit status {getattr(end, 'exitCode', None)}"
