import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, cast

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from collectord.daemon.ingest import IngestPipeline
from collectord.daemon.lifecycle import CollectorService
from tests.support.cases import for_each


@define
class Port:
    done: list[str]
    listening: socket.socket = field(factory=lambda: socket.create_server(("127.0.0.1", 0)))

    def fileno(self) -> int:
        return self.listening.fileno()

    def doRead(self) -> None:
        self.listening.accept()[0].close()
        self.done.append("accepted")

    def stopListening(self) -> Deferred[None]:
        self.done.append("closed")
        return Deferred.fromCoroutine(_nothing())


async def _nothing() -> None:
    """It is closed."""


@define
class State:
    name: str = "/a"
    problem: str = ""
    figures: Mapping[str, int] = field(factory=lambda: {"free_bytes": 1})
    cautions: Sequence[str] = ()


@define
class Parts:
    """The parts of what collects; each of their steps waits for its Deferred."""

    done: list[str] = field(factory=list)
    waits: dict[str, Deferred[None]] = field(factory=dict)
    is_full: bool = False

    @property
    def site(self) -> Any:
        return self

    public = stores = waiting_room = duplicates = site

    def end(self) -> None:
        self.done.append("nobody waits")

    async def filled(self) -> None:
        self.done.append("filled")

    def guard(self, port: Port) -> None:
        self.done.append("guarded")

    def open(self) -> None:
        self.done.append("open")

    async def check_each(self) -> Sequence[State]:
        return [State(), State(problem="no space")]

    async def drain(self, seconds: float) -> None:
        await self._step(f"drain {seconds}")

    async def drained(self) -> None:
        await self._step("drained")

    async def wait_for_discards(self) -> None:
        await self._step("discarded")

    def _step(self, name: str) -> Awaitable[None]:
        self.done.append(name)
        self.waits[name] = Deferred()
        return self.waits[name]


def service(parts: Parts, clock: Clock, ready: Callable[[], None], port: Port | None = None) -> CollectorService:
    port = port or Port(parts.done)
    made = CollectorService(lambda site: [cast(Any, port)], cast(IngestPipeline, parts), clock, ready=ready, stop=30.0)
    made.privilegedStartService()
    made.startService()
    return made


def test_clients_are_let_in_once_the_stores_were_tried() -> None:
    parts = Parts()
    service(parts, Clock(), lambda: parts.done.append("ready"))
    assert parts.done == ["guarded", "filled", "open", "ready"]


def test_a_stop_step_by_step() -> None:
    parts, clock = Parts(), Clock()
    stopped = service(parts, clock, parts.done.clear).stopService()
    for step in ("drain 30.0", "drained", "discarded"):
        assert (parts.done[-1], stopped.called) == (step, False)
        parts.waits[step].callback(None)
    assert (parts.done, stopped.called) == (["closed", "nobody waits", "drain 30.0", "drained", "discarded"], True)
    assert clock.getDelayedCalls() == []


def test_a_stop_waits_for_no_disk_that_hangs() -> None:
    parts, clock = Parts(), Clock()
    stopped = service(parts, clock, parts.done.clear).stopService()
    parts.waits["drain 30.0"].callback(None)
    clock.advance(15)
    assert (parts.done[-1], stopped.called) == ("discarded", False)
    clock.advance(5)
    assert stopped.called


@for_each(("is_full", "taken"), [(False, ["accepted", "accepted"]), (True, [])])
def test_who_waits_to_be_let_in_is_not_reset_by_a_stop(is_full: bool, taken: list[str]) -> None:
    parts = Parts()
    parts.is_full = is_full
    port = Port(parts.done)
    with socket.create_connection(port.listening.getsockname()), socket.create_connection(port.listening.getsockname()):
        service(parts, Clock(), parts.done.clear, port).stopService()
    assert parts.done == [*taken, "closed", "nobody waits", "drain 30.0"]
    port.listening.close()
