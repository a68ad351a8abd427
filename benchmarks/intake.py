"""
What a crash costs from its bytes to the answer, without a disk and without a network: the CPU time of the reactor's
thread in one process, which disturbances change less than that of a whole daemon.

    chrt --rr 1 python -m benchmarks.intake [--sizes 10k,400k,5m] [--seconds 2] [--rows 30]

What it leaves out: the kernel, the thread that commits, and that threads wait for each other. To see which functions
take the time, run it by py-spy.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogBeginner

from benchmarks.bodies import Body, make_body
from collectord.daemon.garbage import collect_less
from collectord.daemon.ingest import IngestPipeline
from collectord.dialects.load import builtin_dialects
from collectord.duplicates.table import KeptTable
from collectord.index.tally import ReportTally
from collectord.model import Crash, CrashEvent
from collectord.observe.logging.events import LineObserver
from collectord.observe.recent import RecentCrashes
from collectord.settings.schema import Settings, Submission
from collectord.settings.stores import Storage
from collectord.storage.chain.backend import Backend
from collectord.testing.memory import MemoryCrashStorage
from collectord.throttle import load_rules

_CONNECTIONS = 16
_READ = 65_536
"""Bytes that are read from a socket at once."""

_ROUND = 2
"""Reports on each connection between two looks at the clock."""


class _Reactor(Clock):
    """A reactor without a loop: its time is that of the machine, and no call that is due later is made."""

    seconds = staticmethod(time.monotonic)

    def callFromThread(self, function: Any, *arguments: Any) -> None:
        function(*arguments)


class _Store(MemoryCrashStorage):
    """Keeps nothing, and answers when it is told to: as a store does that commits crashes in groups."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Deferred[None]] = []

    async def save(self, crash: Crash) -> str:
        done: Deferred[None] = Deferred()
        self.waiting.append(done)
        await done
        return self.name

    def commit(self) -> None:
        waiting, self.waiting = self.waiting, []
        for done in waiting:
            done.callback(None)


class _Transport:
    """The part of a TCP transport that a connection uses. It counts answers."""

    disconnecting = disconnected = False

    def __init__(self) -> None:
        self.answers = 0

    def write(self, data: bytes) -> None:
        if b"CrashID=bp-" not in data:
            raise SystemExit(f"no receipt: {data!r}")
        self.answers += 1

    def registerProducer(self, producer: object, streaming: bool) -> None: ...

    def unregisterProducer(self) -> None: ...

    def setTcpNoDelay(self, enabled: bool) -> None: ...

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 40_000)

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 8000)


class Intake:
    """
    The way of a report through a process, from the bytes of its request to the answer.

    @param rows: so many rows of an operator, and all built-in dialects, are in the table of dialects beside that of
        C{/submit}, to which the reports go.
    """

    def __init__(self, body: Body, rows: int = 0) -> None:
        self._body = body
        self._store = _Store()
        backend = Backend(name="memory", storage=self._store, staging=self._store, timeout=10.0)
        settings = Settings(storage=[Storage(root=Path(tempfile.gettempdir()))], submission=_submission(rows))
        recent, self._events, tally = RecentCrashes(), list[CrashEvent](), ReportTally()

        def on_event(event: CrashEvent) -> None:
            self._events.append(event)
            recent.note(event)

        self._pipeline = IngestPipeline(
            settings, load_rules("accept_all"), [backend], on_event, tally.note, KeptTable(is_shared=False), _Reactor()
        )
        self._connections = [self._connect() for _ in range(_CONNECTIONS)]

    def _connect(self) -> tuple[Any, _Transport]:
        channel, transport = self._pipeline.site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 40_000)), _Transport()
        assert channel is not None
        channel.makeConnection(transport)
        return channel, transport

    def requests(self, count: int) -> list[list[bytes]]:
        """Make the requests of so many reports, in the pieces in which they are read."""
        return [self._request() for _ in range(count)]

    def _request(self) -> list[bytes]:
        content = self._body.new()
        lines = ["POST /submit HTTP/1.1", "Host: 127.0.0.1:8000", f"Content-Length: {len(content)}"]
        lines += [f"{name}: {value}" for name, value in self._body.headers.items()]
        request = "\r\n".join([*lines, "", ""]).encode() + content
        return [request[at : at + _READ] for at in range(0, len(request), _READ)]

    def take(self, requests: Sequence[Sequence[bytes]]) -> float:
        """Take the reports, as many at once as there are connections; return the CPU seconds that it took."""
        began = time.thread_time()
        for first in range(0, len(requests), _CONNECTIONS):
            for (channel, _), pieces in zip(self._connections, requests[first : first + _CONNECTIONS], strict=True):
                for piece in pieces:
                    channel.dataReceived(piece)
            self._store.commit()
        taken = time.thread_time() - began
        self._events.clear()
        return taken

    @property
    def answers(self) -> int:
        """How many reports were answered with a crash id."""
        return sum(transport.answers for _, transport in self._connections)


def _submission(rows: int) -> Submission:
    if not rows:
        return Submission()
    key = {"key": ["query:key"], "keys": {"5f2c9a": "Editor"}}
    table = [{"name": "own", "path": f"/own{number}/{{product}}/crashes", **key} for number in range(rows)]
    return Submission(dialects=list(builtin_dialects()), dialect=table)


def microseconds(body: Body, seconds: float, tables: Sequence[int]) -> list[tuple[float, float]]:
    """Return the least and the median CPU time of a report, in microseconds, for each number of rows, in turns."""
    intakes = [Intake(body, rows) for rows in tables]
    rounds: list[list[float]] = [[] for _ in intakes]
    sent = 0
    end = time.monotonic() + seconds * len(intakes)
    while time.monotonic() < end or len(rounds[0]) < 5:
        for intake, taken in zip(intakes, rounds, strict=True):
            requests = intake.requests(_CONNECTIONS * _ROUND)
            sent += len(requests)
            taken.append(intake.take(requests) * 1e6 / len(requests))
    if (answers := sum(intake.answers for intake in intakes)) != sent:
        raise SystemExit(f"{sent} reports were sent, and {answers} answered")
    return [(min(taken), median(taken)) for taken in rounds]


def main(arguments: Sequence[str]) -> None:
    """Print a line for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each size")
    parser.add_argument("--sizes", type=lambda text: text.split(","), default=["10k", "400k"])
    parser.add_argument("--rows", type=int, default=0, help="of other dialects; then it is measured without them, too")
    options = parser.parse_args(arguments)
    log = LineObserver(len, "text", "info")
    log.writer.start()
    globalLogBeginner.beginLoggingTo([log], redirectStandardIO=False)
    collect_less()
    for name in options.sizes:
        tables = [0, options.rows] if options.rows else [0]
        found = microseconds(make_body(name), options.seconds, tables)
        for rows, (least, middle) in zip(tables, found, strict=True):
            others = f", with {rows} rows of other dialects and all that are built in" if rows else ""
            print(f"{name:10} {least:8.1f} µs at least, {middle:8.1f} in the median{others}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
