"""
What a crash costs from its bytes to the answer, without a disk and without a network: the CPU time of the reactor's
thread in one process, which disturbances change less than that of a whole daemon.

    chrt --rr 1 python -m benchmarks.intake [--sizes 10k,400k,5m] [--seconds 2]

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
from collectord.duplicates.table import KeptTable
from collectord.index.tally import ReportTally
from collectord.model import Crash, CrashEvent
from collectord.observe.logging.events import LineObserver
from collectord.observe.recent import RecentCrashes
from collectord.settings.schema import Settings
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
    """The way of a report through a process, from the bytes of its request to the answer."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._store = _Store()
        backend = Backend(name="memory", storage=self._store, staging=self._store, timeout=10.0)
        settings = Settings(storage=[Storage(root=Path(tempfile.gettempdir()))])
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


def microseconds(body: Body, seconds: float) -> tuple[float, float]:
    """Return the least and the median CPU time of a report, in microseconds."""
    intake = Intake(body)
    rounds: list[float] = []
    sent = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(rounds) < 5:
        requests = intake.requests(_CONNECTIONS * _ROUND)
        sent += len(requests)
        rounds.append(intake.take(requests) * 1e6 / len(requests))
    if intake.answers != sent:
        raise SystemExit(f"{sent} reports were sent, and {intake.answers} answered")
    return min(rounds), median(rounds)


def main(arguments: Sequence[str]) -> None:
    """Print a line for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each size")
    parser.add_argument("--sizes", type=lambda text: text.split(","), default=["10k", "400k"])
    options = parser.parse_args(arguments)
    log = LineObserver(len, "text", "info")
    log.writer.start()
    globalLogBeginner.beginLoggingTo([log], redirectStandardIO=False)
    collect_less()
    for name in options.sizes:
        least, middle = microseconds(make_body(name), options.seconds)
        print(f"{name:10} {least:8.1f} µs at least, {middle:8.1f} in the median", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
