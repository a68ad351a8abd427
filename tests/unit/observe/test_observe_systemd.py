"""
What systemd hears of the daemon, on a real socket.
"""

import os
import resource
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import pytest
from attrs import frozen
from twisted.internet.task import Clock
from twisted.logger import LogEvent, capturedLogs

from collectord.observe.systemd import Notifier, WatchdogService
from tests.support.cases import for_each


@frozen
class Systemd:
    """
    The end of the socket that systemd reads.

    @ivar address: as C{NOTIFY_SOCKET} has it.
    """

    address: str
    socket: socket.socket

    def heard(self) -> list[list[str]]:
        """Each message, by lines, since the last look."""
        messages = []
        while True:
            try:
                messages.append(self.socket.recv(4096).decode().split("\n"))
            except BlockingIOError:
                return messages


def listening(address: str) -> Systemd:
    ours = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    ours.bind(address.replace("@", "\0", 1))
    return Systemd(address, ours)


@pytest.fixture(params=["a path", "an abstract name"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    systemd = listening(f"@collectord-{uuid4()}" if request.param == "an abstract name" else str(tmp_path / "notify"))
    with systemd.socket:
        yield systemd


@pytest.fixture
def events() -> Iterator[Sequence[LogEvent]]:
    """What is logged."""
    with capturedLogs() as events:
        yield events


def notifier_for(systemd: Systemd, **environment: str) -> Notifier:
    return Notifier.from_environment({"NOTIFY_SOCKET": systemd.address, **environment})


@for_each(
    ("tell", "heard"),
    [
        (Notifier.ready, ["READY=1"]),
        (lambda notifier: notifier.ready("2 stores are well"), ["READY=1", "STATUS=2 stores are well"]),
        (Notifier.stopping, ["STOPPING=1"]),
        (lambda notifier: notifier.status("Größer"), ["STATUS=Größer"]),
        (Notifier.watchdog, ["WATCHDOG=1"]),
    ],
)
def test_systemd_hears_each_message(systemd: Systemd, tell: Callable[[Notifier], None], heard: list[str]) -> None:
    tell(notifier_for(systemd))
    assert systemd.heard() == [heard]


def test_a_reload_says_when_it_began(systemd: Systemd) -> None:
    before = time.clock_gettime(time.CLOCK_MONOTONIC)
    notifier_for(systemd).reloading()
    after = time.clock_gettime(time.CLOCK_MONOTONIC)
    [[reloading, began]] = systemd.heard()
    assert reloading == "RELOADING=1"
    name, _, microseconds = began.partition("=")
    assert name == "MONOTONIC_USEC"
    assert int(before * 1e6) <= int(microseconds) <= after * 1e6


def test_a_status_cannot_bring_another_assignment(systemd: Systemd) -> None:
    notifier_for(systemd).status("a store is sick:\nSTOPPING=1\n \udce4")
    assert systemd.heard() == [["STATUS=a store is sick: STOPPING=1 ?"]]


def test_the_environment_keeps_nothing_for_child_processes(systemd: Systemd) -> None:
    environment = {
        "NOTIFY_SOCKET": systemd.address,
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": str(os.getpid()),
        "HOME": "/",
    }
    notifier = Notifier.from_environment(environment)
    assert environment == {"HOME": "/"}
    notifier.ready()
    assert systemd.heard() == [["READY=1"]]


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "notify"])
def test_without_a_socket_nothing_is_done(address: str, events: Sequence[LogEvent]) -> None:
    before = os.listdir("/proc/self/fd")
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000"})
    notifier.ready("well")
    notifier.reloading()
    notifier.status("well")
    notifier.watchdog()
    notifier.stopping()
    assert notifier.watchdog_s is None
    assert len(os.listdir("/proc/self/fd")) == len(before)
    assert list(events) == []


def test_a_systemd_that_is_gone_is_no_trouble(systemd: Systemd, events: Sequence[LogEvent]) -> None:
    notifier = notifier_for(systemd)
    systemd.socket.close()
    Path(systemd.address).unlink(missing_ok=True)
    notifier.ready()
    assert [event["what"] for event in events] == ["READY=1"]


@pytest.mark.slow
@pytest.mark.timeout(10)
def test_a_systemd_that_does_not_read_blocks_nobody(systemd: Systemd, events: Sequence[LogEvent]) -> None:
    notifier = notifier_for(systemd)
    for _ in range(10_000):
        notifier.watchdog()
    assert events
    assert {event["what"] for event in events} == {"WATCHDOG=1"}
    assert systemd.heard()


def test_it_pings_with_no_descriptor_left(systemd: Systemd) -> None:
    notifier = notifier_for(systemd)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        notifier.watchdog()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert systemd.heard() == [["WATCHDOG=1"]]


@for_each(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_interval_of_the_watchdog(systemd: Systemd, environment: dict[str, str], seconds: float | None) -> None:
    assert notifier_for(systemd, **environment).watchdog_s == seconds


def test_pings_come_at_half_the_interval(systemd: Systemd) -> None:
    clock = Clock()
    service = WatchdogService(notifier_for(systemd, WATCHDOG_USEC="30000000"), lambda: False, clock)
    service.startService()
    assert systemd.heard() == [["WATCHDOG=1"]]
    clock.advance(14.9)
    assert systemd.heard() == []
    clock.advance(0.1)
    assert systemd.heard() == [["WATCHDOG=1"]]
    clock.pump([15, 15])
    assert systemd.heard() == [["WATCHDOG=1"], ["WATCHDOG=1"]]


def test_pings_end_with_the_service(systemd: Systemd) -> None:
    clock = Clock()
    service = WatchdogService(notifier_for(systemd, WATCHDOG_USEC="30000000"), lambda: False, clock)
    service.startService()
    service.stopService()
    systemd.heard()
    clock.advance(60)
    assert systemd.heard() == []
    assert clock.getDelayedCalls() == []


def test_without_a_watchdog_there_are_no_pings(systemd: Systemd) -> None:
    clock = Clock()
    service = WatchdogService(notifier_for(systemd), lambda: False, clock)
    service.startService()
    assert clock.getDelayedCalls() == []
    service.stopService()
    assert systemd.heard() == []


def test_a_lost_ping_does_not_end_the_pings(systemd: Systemd, tmp_path: Path) -> None:
    clock = Clock()
    service = WatchdogService(notifier_for(systemd, WATCHDOG_USEC="30000000"), lambda: False, clock)
    systemd.socket.close()
    Path(systemd.address).unlink(missing_ok=True)
    service.startService()
    with listening(systemd.address).socket as again:
        clock.advance(15)
        assert again.recv(100) == b"WATCHDOG=1"


def test_a_hopeless_daemon_does_not_ping(systemd: Systemd) -> None:
    clock = Clock()
    hopeless = [False, True, True, False]
    service = WatchdogService(notifier_for(systemd, WATCHDOG_USEC="30000000"), lambda: hopeless.pop(0), clock)
    service.startService()
    assert systemd.heard() == [["WATCHDOG=1"]]
    clock.pump([15, 15])
    assert systemd.heard() == []
    clock.advance(15)
    assert systemd.heard() == [["WATCHDOG=1"]]
