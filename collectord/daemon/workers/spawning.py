"""
Which worker processes there have to be, and how one is started: its command, its environment, and the descriptors that
it inherits.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.interfaces import IListeningPort

from collectord.daemon.workers.messages import CHANNEL, TABLE, Work
from collectord.daemon.workers.process import WorkerProcess
from collectord.duplicates.table import KeptTable
from collectord.settings.schema import PREFIX, Settings


def wanted_workers(settings: Settings) -> Mapping[Work, int]:
    """Return how many workers of each kind there have to be; none: the daemon is one process."""
    receivers, movers = settings.submission.workers, settings.crashmover.processes
    if movers:
        return {Work.RECEIVE: receivers, Work.MOVE: movers}
    return {Work.BOTH: receivers} if receivers > 1 else {}


def longest_stop_s(settings: Settings) -> float:
    """Return for how many seconds a worker may finish at a stop what it has begun."""
    moves = bool(settings.crashmover.destination or settings.crashmover.processes)
    return max(settings.submission.stop_s, settings.crashmover.stop_s if moves else 0.0)


class Spawner:
    """
    Starts worker processes.

    @param out: takes what workers log; None if they write to the standard output of this process themselves.
    @param table: the memory that the workers share.
    @ivar ports: those that workers which take submissions inherit.
    """

    def __init__(self, out: Callable[[bytes], object] | None, table: KeptTable, reactor: Any) -> None:
        self._out = out
        self._table = table
        self._reactor = reactor
        self._devnull: int | None = None
        self.ports: Sequence[IListeningPort] = ()

    def spawn(self, worker: WorkerProcess) -> None:
        """
        Start the process of C{worker}.

        @raise OSError: processes, descriptors or memory have run out.
        """
        ports: Sequence[Any] = self.ports if worker.work.receives else ()
        first = TABLE + 1
        out, errors = ("r", "r") if self._out is not None else (self._standard(1), self._standard(2))
        descriptors = {0: "w", 1: out, 2: errors, CHANNEL: "r", TABLE: self._table.descriptor}
        descriptors |= {first + number: port.fileno() for number, port in enumerate(ports)}
        named = [f"{first + number}:{int(port.addressFamily)}" for number, port in enumerate(ports)]
        # A worker imports what this process does. With -P it imports nothing from the working directory.
        command = [
            sys.executable,
            "-P",
            "-m",
            "collectord.daemon.workers.worker",
            worker.work.value,
            worker.name,
            *named,
        ]
        self._reactor.spawnProcess(worker, sys.executable, command, env=_environment(), childFDs=descriptors)

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


def _environment() -> dict[str, str]:
    """
    Return the environment of a worker: without our settings, which it gets by its standard input, and with the import
    path of this process.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return environment | {"PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path if path)}
