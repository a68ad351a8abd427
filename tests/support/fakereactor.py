"""
A reactor whose time, threads, ports and processes a test plays.
"""

import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import pytest
from attrs import define, field
from prometheus_client import Gauge
from twisted.internet.defer import Deferred, execute
from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IProcessProtocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from collectord import metrics
from collectord.concurrency.threadpool import ThreadPool


@pytest.fixture
def threads_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given to a thread pool is done at once, by whoever gives it."""
    monkeypatch.setattr(ThreadPool, "__call__", lambda self, work: execute(work))
    monkeypatch.setattr(ThreadPool, "do", lambda self, work: work())


def let_threads_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given to a thread pool from now on is never done."""
    monkeypatch.setattr(ThreadPool, "__call__", lambda self, work: Deferred())


@pytest.fixture
def signals_of_before() -> Iterator[None]:
    """The handlers of the signals that a daemon acts on are set back at the end."""
    numbers = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def gauges_of_before() -> Iterator[None]:
    """Gauges that ask a daemon for their values are plain numbers again at the end."""
    yield
    for gauge in vars(metrics).values():
        if isinstance(gauge, Gauge):
            for each in (gauge, *getattr(gauge, "_metrics", {}).values()):
                vars(each).pop("_child_samples", None)  # there is no public way back from set_function


@define(slots=False, eq=False)
class FakePort:
    """
    A port that listens, and takes no connection: the test does what a client would.

    @ivar factory: what it was opened for.
    @ivar reading: whether clients are let in.
    """

    factory: Any = None
    reading: bool = True
    closed: bool = False
    listening: socket.socket = field(factory=lambda: socket.create_server(("127.0.0.1", 0)))

    @property
    def addressFamily(self) -> int:
        return self.listening.family

    def fileno(self) -> int:
        return self.listening.fileno()

    def getHost(self) -> object:
        return None

    def doRead(self) -> None:
        """Nobody is taken."""

    def startReading(self) -> None:
        self.reading = True

    def stopReading(self) -> None:
        self.reading = False

    def stopListening(self) -> None:
        self.closed = True
        self.listening.close()


@define(eq=False)
class FakeProcess:
    """
    A process that was spawned.

    @ivar received: what was written to its standard input.
    @ivar dies: it ends when it is killed; else it waits for a disk.
    @ivar lives: it is for L{FakeReactor.run} to let it speak.
    """

    protocol: Any
    pid: int
    command: Sequence[str]
    environment: dict[str, str]
    descriptors: dict[int, Any]
    received: list[bytes] = field(factory=list)
    killed: bool = False
    dies: bool = True
    ended: bool = False
    lives: bool = True

    def writeToChild(self, descriptor: int, data: bytes) -> None:
        assert descriptor == 0
        self.received.append(data)

    def signalProcess(self, name: str) -> None:
        assert name == "KILL"
        if self.ended:
            raise ProcessExitedAlready
        self.killed = True
        if self.dies:
            self.end(signal.SIGKILL)

    def end(self, number: int | None = None) -> None:
        """It ends by a signal, or with exit status 1."""
        self.ended = True
        self.protocol.processEnded(Failure(ProcessTerminated(None if number else 1, number)))

    @property
    def words(self) -> list[bytes]:
        """The commands that it got after its settings."""
        return [data.split()[0] for data in self.received[1:]]


class FakeReactor(Clock):
    """
    Time passes when the test says so; calls from threads are made at once.

    @ivar ports: that were opened.
    @ivar processes: that were spawned, also those that have ended.
    @ivar refuses: what spawning raises; None: it works.
    @ivar when_running: what is to be called once it runs.
    @ivar at_shutdown: what is to be called after its end.
    @ivar stopped: it was told to stop.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ports: list[FakePort] = []
        self.processes: list[FakeProcess] = []
        self.refuses: OSError | None = None
        self.when_running: list[Callable[[], object]] = []
        self.at_shutdown: list[Callable[[], object]] = []
        self.stopped = False

    def callFromThread(self, function: Callable[..., object], *arguments: Any) -> None:
        function(*arguments)

    def callWhenRunning(self, function: Callable[[], object]) -> None:
        self.when_running.append(function)

    def addSystemEventTrigger(self, phase: str, event: str, function: Callable[[], object]) -> None:
        assert (phase, event) == ("after", "shutdown")
        self.at_shutdown.append(function)

    def stop(self) -> None:
        self.stopped = True

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> FakePort:
        self.ports.append(FakePort(factory))
        return self.ports[-1]

    def adoptStreamPort(self, descriptor: int, family: int, factory: Any) -> FakePort:
        self.ports.append(FakePort(factory))
        return self.ports[-1]

    def spawnProcess(
        self,
        protocol: IProcessProtocol,
        executable: str,
        command: Sequence[str],
        env: dict[str, str],
        childFDs: dict[int, Any],
    ) -> None:
        if self.refuses is not None:
            raise self.refuses
        process = FakeProcess(protocol, 1000 + len(self.processes), command, env, childFDs)
        self.processes.append(process)
        cast(Any, protocol).makeConnection(process)

    @property
    def there(self) -> list[FakeProcess]:
        """The processes that have not ended."""
        return [process for process in self.processes if not process.ended]
