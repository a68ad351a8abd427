"""
What a statsd server hears, on a real socket.
"""

import re
import socket
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
from attrs import define, field
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from collectord import metrics
from collectord.observe.aggregate import AggregatedRegistry, snapshot_of
from collectord.observe.statsd import PACKET_BYTES, Resolver, StatsdLines, StatsdService, packets
from tests.support.cases import for_each

T = TypeVar("T")

_LINE = re.compile(r"[a-z][A-Za-z0-9_.-]*:[0-9.]+\|(c|g|ms)(\|#[a-z_]+:[A-Za-z0-9_-]*(,[a-z_]+:[A-Za-z0-9_-]*)*)?")


def at_once(work: Callable[[], T]) -> Deferred[T]:
    """No thread: what it does is done when it returns."""
    try:
        return succeed(work())
    except Exception:
        return fail()


@define
class Rig:
    """A statsd server, and a service that tells it of three metrics."""

    server: socket.socket
    clock: Clock = field(factory=Clock)
    registry: CollectorRegistry = field(factory=CollectorRegistry)
    answers: Counter = field(init=False)
    connections: Gauge = field(init=False)
    seconds: Histogram = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.answers = Counter("collectord_answers", ".", ["status", "reason"], registry=self.registry)
        self.connections = Gauge("collectord_connections", ".", registry=self.registry)
        self.seconds = Histogram("collectord_save_seconds", ".", ["store"], registry=self.registry)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.getsockname()[1]}"

    def service(self, *, tags: bool = False, host: str = "", resolve: Resolver = socket.getaddrinfo) -> StatsdService:
        address, metrics = host or self.address, self.registry.collect
        return StatsdService(address, 10.0, metrics, at_once, self.clock, tags=tags, resolve=resolve)

    def heard(self) -> list[str]:
        """Lines, since the last look."""
        lines: list[str] = []
        while True:
            try:
                lines += self.server.recv(65536).decode().split("\n")
            except BlockingIOError:
                return lines


@pytest.fixture
def rig() -> Iterator[Rig]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.setblocking(False)
        yield Rig(server)


def test_each_interval_and_at_the_end(rig: Rig) -> None:
    service = rig.service()
    rig.answers.labels("200", "kept").inc(3)
    service.startService()
    assert rig.heard() == ["collectord.answers.200.kept:3|c", "collectord.connections:0|g"]
    rig.answers.labels("200", "kept").inc()
    rig.answers.labels("400", "malformed_bad_gzip").inc(2)
    rig.connections.set(12)
    rig.clock.advance(9.9)
    assert rig.heard() == []
    rig.clock.advance(0.2)
    assert rig.heard() == [
        "collectord.answers.200.kept:1|c",
        "collectord.answers.400.malformed_bad_gzip:2|c",
        "collectord.connections:12|g",
    ]
    rig.clock.advance(10)
    assert rig.heard() == ["collectord.connections:12|g"]
    rig.answers.labels("200", "kept").inc(5)
    service.stopService()
    assert rig.heard() == ["collectord.answers.200.kept:5|c", "collectord.connections:12|g"]
    rig.clock.advance(100)
    assert rig.heard() == []
    assert rig.clock.getDelayedCalls() == []


def test_a_histogram_is_a_count_a_sum_and_a_mean(rig: Rig) -> None:
    lines = StatsdLines()
    primary = rig.seconds.labels("/var/lib/collectord: primary")
    primary.observe(0.001)
    primary.observe(0.004)
    rig.seconds.labels("nfs").observe(2)
    name = "collectord.save_seconds.var_lib_collectord_primary"
    assert list(lines.of(rig.seconds.collect())) == [
        *(f"{name}.count:2|c", f"{name}.sum:0.005|c", f"{name}.mean:2.5|ms"),
        *("collectord.save_seconds.nfs.count:1|c", "collectord.save_seconds.nfs.sum:2|c"),
        "collectord.save_seconds.nfs.mean:2000|ms",
    ]
    primary.observe(0.1)
    assert list(lines.of(rig.seconds.collect())) == [f"{name}.count:1|c", f"{name}.sum:0.1|c", f"{name}.mean:100|ms"]


def test_bytes_have_no_timing() -> None:
    registry = CollectorRegistry()
    Histogram("collectord_save_bytes", ".", registry=registry).observe(10_240)
    assert list(StatsdLines().of(registry.collect())) == [
        "collectord.save_bytes.count:1|c",
        "collectord.save_bytes.sum:10240|c",
    ]


def test_labels_as_tags(rig: Rig) -> None:
    rig.answers.labels("200", "kept").inc()
    rig.seconds.labels("nfs").observe(1)
    assert list(StatsdLines(tags=True).of(rig.registry.collect())) == [
        "collectord.answers:1|c|#status:200,reason:kept",
        "collectord.connections:0|g",
        "collectord.save_seconds.count:1|c|#store:nfs",
        "collectord.save_seconds.sum:1|c|#store:nfs",
        "collectord.save_seconds.mean:1000|ms|#store:nfs",
    ]
    service = rig.service(tags=True)
    service.startService()
    assert "collectord.answers:1|c|#status:200,reason:kept" in rig.heard()
    service.stopService()


def test_a_counter_that_fell_began_again() -> None:
    lines = StatsdLines()
    for counted in (5, 2):
        registry = CollectorRegistry()
        Counter("collectord_received", ".", registry=registry).inc(counted)
        reported = list(lines.of(registry.collect()))
    assert reported == ["collectord.received:2|c"]


@for_each(
    ("value", "reported"),
    [(-1.5, ["collectord.age:0|g"]), (float("nan"), []), (2**40, ["collectord.age:1099511627776|g"])],
)
def test_gauges(value: float, reported: list[str]) -> None:
    registry = CollectorRegistry()
    Gauge("collectord_age", ".", registry=registry).set(value)
    assert list(StatsdLines().of(registry.collect())) == reported


def test_every_metric_makes_lines_that_a_server_can_read_also_the_sums_over_processes() -> None:
    registry = CollectorRegistry()
    for metric in metrics.declared():
        twin = type(metric.metric)(metric.name, ".", metric.labels, registry=registry)
        child = twin.labels(*(f"a:b|c#d\n{n}" for n, _ in enumerate(metric.labels))) if metric.labels else twin
        child.observe(1.5) if isinstance(child, Histogram) else child.inc()  # type: ignore[attr-defined]
    sums = AggregatedRegistry(registry)
    sums.update("worker", snapshot_of(registry))
    for tags in (False, True):
        lines = list(StatsdLines(tags=tags).of(sums.collect()))
        assert [line for line in lines if not _LINE.fullmatch(line)] == []
        assert len(lines) >= len(list(metrics.declared()))
        names = [line.partition(":")[0] for line in lines]
        assert len(set(names)) >= len(list(metrics.declared()))


def test_packets_are_filled_and_never_too_long() -> None:
    lines = [f"collectord.{'x' * (n % 90)}.{n}:1|c" for n in range(500)]
    sent = list(packets([*lines, "y" * (PACKET_BYTES + 1), "z" * PACKET_BYTES]))
    assert [len(packet) for packet in sent if len(packet) > 1400] == []
    assert [len(packet) for packet in sent[:-2] if len(packet) < 1400 - 120] == []
    assert b"\n".join(sent).decode().split("\n") == [*lines, "z" * PACKET_BYTES]


def test_a_server_that_is_not_there_harms_nobody(rig: Rig) -> None:
    service = rig.service()
    rig.server.close()
    with capturedLogs() as logs:
        service.startService()
        for _ in range(3):
            rig.clock.advance(10)
        service.stopService()
    assert logs == []


def test_a_host_is_looked_up_until_it_is_found(rig: Rig) -> None:
    asked = list[str]()

    def found_at_last(host: str, port: int, family: int, kind: int) -> list[tuple[Any, ...]]:
        asked.append(host)
        if len(asked) < 3:
            raise socket.gaierror(-2, "Name or service not known")
        return list(socket.getaddrinfo("127.0.0.1", port, family, kind))

    port = rig.address.rpartition(":")[2]
    service = rig.service(host=f"statsd.example:{port}", resolve=found_at_last)
    with capturedLogs() as logs:
        service.startService()
        rig.answers.labels("200", "kept").inc()
        rig.clock.advance(10)
        assert rig.heard() == []
        for _ in range(3):
            rig.clock.advance(10)
    assert asked == ["statsd.example"] * 3
    assert rig.heard().count("collectord.answers.200.kept:1|c") == 1
    reported = [log for log in logs if log["log_namespace"].startswith("collectord.observe.statsd")]
    assert [(log["log_level"].name, log["why"].errno) for log in reported] == [("warn", -2)]
    service.stopService()


def test_a_lookup_that_hangs_holds_up_no_stop(rig: Rig) -> None:
    waiting: list[tuple[Callable[[], socket.socket], Deferred[socket.socket]]] = []

    def hanging(work: Callable[[], socket.socket]) -> Deferred[socket.socket]:
        waiting.append((work, Deferred()))
        return waiting[-1][1]

    service = StatsdService(rig.address, 10.0, rig.registry.collect, hanging, rig.clock)  # type: ignore[arg-type]
    service.startService()
    rig.clock.advance(60)
    assert len(waiting) == 1
    service.stopService()
    connected = waiting[0][0]()
    waiting[0][1].callback(connected)
    assert connected.fileno() == -1
    assert rig.heard() == []
    assert rig.clock.getDelayedCalls() == []


def test_metrics_that_fail_once_end_nothing(rig: Rig) -> None:
    def broken() -> float:
        raise ValueError("once")

    service = rig.service()
    rig.connections.set_function(broken)
    with capturedLogs() as logs:
        service.startService()
    assert [str(log["log_failure"].value) for log in logs] == ["once"]
    rig.connections.set_function(lambda: 3)
    rig.clock.advance(10)
    assert rig.heard() == ["collectord.connections:3|g"]
    service.stopService()
