import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, cast

import pytest
from attrs import define, evolve
from prometheus_client import CollectorRegistry, Counter, Gauge
from twisted.internet.defer import Deferred

from collectord.daemon.workers.messages import CHANNEL, Counted, CrashEvents, Ready, Saving, Sinks, encode
from collectord.daemon.workers.silence import HUNG_S, START_S, TICK_S
from collectord.daemon.workers.spawning import wanted_workers
from collectord.daemon.workers.supervisor import Supervisor
from collectord.duplicates.table import KeptTable
from collectord.metrics import REGISTRY
from collectord.model import CrashEvent
from collectord.observe.aggregate import AggregatedRegistry, snapshot_of
from collectord.observe.sinks import SinkState, together
from collectord.settings.schema import Crashmover, Settings, Submission
from collectord.settings.snapshot import SettingsSnapshot
from tests.support.fakereactor import FakePort, FakeProcess, FakeReactor


class Reactor(FakeReactor):
    """Spawns what a test plays."""

    def run(self, seconds: float) -> None:
        """Those that live tell something each second."""
        for _ in range(round(seconds / TICK_S)):
            for process in self.there:
                if process.lives and process.protocol.is_heard:
                    send(process, Counted([]))
            self.advance(TICK_S)


def send(process: FakeProcess, *messages: Any) -> None:
    """A worker tells its parent something."""
    for message in messages:
        process.protocol.childDataReceived(CHANNEL, encode(message) + b"\n")


@define
class Listeners:
    port: FakePort

    def open(self, factory: object) -> Sequence[Any]:
        return [self.port]


@define
class Scene:
    reactor: Reactor
    supervisor: Supervisor
    port: FakePort
    logged: list[bytes]
    ready: list[int]
    aggregated: AggregatedRegistry

    def begin(self, *, ready: bool = True) -> list[FakeProcess]:
        self.supervisor.privilegedStartService()
        self.supervisor.startService()
        if ready:
            for process in self.reactor.processes:
                send(process, Ready())
        return self.reactor.processes

    def stop(self) -> list[float]:
        """Gets the seconds that it took, once it is over."""
        began, took = self.reactor.seconds(), list[float]()
        stopped = self.supervisor.stopService()
        stopped.addCallback(lambda _: took.append(self.reactor.seconds() - began))
        return took


def scene(
    workers: int = 2,
    *,
    movers: int = 0,
    stop_s: float = 30.0,
    piped: bool = False,
    timeout_s: float = 30.0,
    counted: CollectorRegistry | None = None,
) -> Scene:
    reactor, port = Reactor(), FakePort()
    settings = Settings(
        submission=Submission(workers=workers, worker_timeout_s=timeout_s), crashmover=Crashmover(processes=movers)
    )
    snapshot = SettingsSnapshot(settings=settings, rules=[], rules_text=None, source="")
    logged: list[bytes] = []
    ready: list[int] = []
    aggregated = AggregatedRegistry(counted or CollectorRegistry())
    supervisor = Supervisor(
        wanted_workers(settings),
        lambda: snapshot,
        cast(Any, Listeners(port)),
        reactor,
        out=logged.append if piped else None,
        on_event=lambda event: None,
        on_tally=lambda tally: None,
        table=KeptTable(),
        ready=lambda: ready.append(1),
        aggregated=aggregated,
        stop=stop_s,
        now=reactor.seconds,
    )
    return Scene(reactor, supervisor, port, logged, ready, aggregated)


def value(name: str) -> float | None:
    return REGISTRY.get_sample_value(f"collectord_{name}")


def problems(supervisor: Supervisor) -> list[str]:
    return [state.problem for state in supervisor.receivers()]


def test_workers_that_live_are_left_alone() -> None:
    at = scene()
    processes = at.begin()
    assert at.ready == [1]
    at.reactor.run(300)
    assert len(processes) == 2
    assert problems(at.supervisor) == ["", ""]
    assert (value("workers"), value("workers_hung")) == (2, 0)
    assert not at.supervisor.is_hopeless


def test_a_worker_that_hangs_is_told_of_and_then_replaced() -> None:
    at = scene()
    one, two = at.begin()
    restarts = value("worker_restarts_total") or 0
    one.lives = False
    at.reactor.run(HUNG_S - TICK_S)
    assert (value("workers"), value("workers_hung")) == (2, 0)
    at.reactor.run(TICK_S)
    assert (value("workers"), value("workers_hung")) == (1, 1)
    assert problems(at.supervisor) == ["hangs: nothing was heard of it for 5 s", ""]
    assert two.received[-1] == b"hung 1\n"
    assert not one.killed
    at.reactor.run(25)
    assert one.killed
    assert not two.killed
    assert len(at.reactor.there) == 2
    send(at.reactor.processes[2], Ready())
    assert problems(at.supervisor) == ["", ""]
    assert (value("workers"), value("workers_hung")) == (2, 0)
    assert two.received[-1] == b"hung 0\n"
    assert value("worker_restarts_total") == restarts + 1


def test_a_worker_that_comes_back_in_time_is_well_again() -> None:
    at = scene()
    one, two = at.begin()
    one.lives = False
    at.reactor.run(29)
    assert value("workers_hung") == 1
    one.lives = True
    at.reactor.run(1)
    assert value("workers_hung") == 0
    assert two.received[-1] == b"hung 0\n"
    at.reactor.run(60)
    assert len(at.reactor.processes) == 2


def test_the_limit_is_a_setting() -> None:
    at = scene(timeout_s=3)
    one, _ = at.begin()
    one.lives = False
    at.reactor.run(4)
    assert one.killed


def test_a_machine_that_stood_still_kills_nobody() -> None:
    at = scene()
    at.begin()
    at.reactor.advance(3600)  # what the workers told before it is read only now
    assert (value("workers"), value("workers_hung")) == (2, 0)
    at.reactor.run(5)
    assert len(at.reactor.processes) == 2
    assert value("workers_hung") == 0
    assert not at.supervisor.is_hopeless


def test_a_parent_that_gets_little_time_kills_nobody() -> None:
    at = scene()
    processes = at.begin()
    for _ in range(100):
        at.reactor.advance(4)
        for process in processes:
            send(process, Counted([]))
    assert len(at.reactor.processes) == 2
    assert value("workers_hung") == 0


def test_who_is_killed_and_does_not_end_is_replaced_all_the_same() -> None:
    """Its threads wait for a disk that does not answer."""
    at = scene()
    one, _ = at.begin()
    one.lives = one.dies = False
    at.reactor.run(35)
    assert one.killed
    assert len(at.reactor.processes) == 3
    send(at.reactor.processes[2], Ready())
    assert (value("workers"), value("workers_hung")) == (2, 0)
    one.end(signal.SIGKILL)
    at.reactor.run(5)
    assert len(at.reactor.processes) == 3


def test_what_a_worker_counted_counts_once_however_late_it_ends() -> None:
    registry, of_parent = CollectorRegistry(), CollectorRegistry()
    for each, count in ((registry, 5), (of_parent, 0)):
        Counter("a", "", registry=each).inc(count)
        Gauge("b", "", registry=each).set(count)
    at = scene(counted=of_parent)
    one, _ = at.begin()
    send(one, Counted(snapshot_of(registry)))
    one.lives = one.dies = False
    at.reactor.run(35)
    send(one, Counted(snapshot_of(registry)))
    one.end(signal.SIGKILL)
    found = {sample.name: sample.value for metric in at.aggregated.collect() for sample in metric.samples}
    assert found == {"a_total": 5.0, "b": 0.0}


def test_a_start_may_take_longer() -> None:
    at = scene()
    one, two = at.begin(ready=False)
    at.reactor.run(START_S - 1)
    assert value("workers_hung") == 0
    send(two, Ready())
    at.reactor.run(2)
    assert (value("workers"), value("workers_hung")) == (1, 1)
    send(one, Ready())
    at.reactor.run(1)
    assert (value("workers"), value("workers_hung")) == (2, 0)
    assert at.ready == [1]


def test_a_start_that_never_ends_is_tried_again() -> None:
    at = scene()
    one, two = at.begin(ready=False)
    send(two, Ready())
    at.reactor.run(2 * START_S + 1)
    assert (one.killed, two.killed) == (True, False)
    assert len(at.reactor.there) == 2


def test_it_is_hopeless_when_nobody_could_take_the_place_of_those_that_hang() -> None:
    at = scene()
    for process in at.begin():
        process.lives = False
    at.reactor.run(34)
    assert len(at.reactor.processes) == 4
    assert not at.supervisor.is_hopeless
    at.reactor.run(33)
    assert at.supervisor.is_hopeless
    send(at.reactor.processes[2], Ready())
    at.reactor.run(1)
    assert not at.supervisor.is_hopeless


def test_a_first_start_that_takes_long_is_not_hopeless() -> None:
    at = scene()
    at.begin(ready=False)
    at.reactor.run(300)
    assert not at.supervisor.is_hopeless


def test_one_that_answers_is_no_reason_to_start_the_daemon_anew() -> None:
    at = scene()
    one, _ = at.begin()
    at.reactor.refuses = OSError(11, "Resource temporarily unavailable")
    one.end(signal.SIGKILL)
    at.reactor.run(300)
    assert not at.supervisor.is_hopeless
    at.reactor.refuses = None
    at.reactor.run(3)
    assert len(at.reactor.there) == 2


def play(at: Scene, seconds: float, polite: Sequence[FakeProcess] = ()) -> None:
    """Who is polite ends when it is told to."""
    for process in polite:
        if b"stop" in process.words and not process.ended:
            process.end()
    at.reactor.run(seconds)


def test_a_stop_tells_all_of_them_at_once() -> None:
    at = scene(workers=3)
    processes = at.begin()
    took = at.stop()
    assert at.port.closed
    assert [process.words[-1] for process in processes] == [b"stop"] * 3
    play(at, 1, processes)
    assert took == [0.0]
    assert at.reactor.getDelayedCalls() == []


def test_a_stop_waits_for_workers_that_live_and_kills_those_that_hang() -> None:
    at = scene(workers=4)
    one, two, three, four = at.begin()
    two.lives = three.lives = False
    took = at.stop()
    at.reactor.run(29)
    assert [process.killed for process in (one, two, three, four)] == [False] * 4
    at.reactor.run(2)
    assert [process.killed for process in (one, two, three, four)] == [False, True, True, False]
    play(at, 10, [one])
    assert took == []
    play(at, 15)
    assert four.killed  # it lives, and does not end
    assert took == [pytest.approx(55, abs=1)]


def test_a_stop_of_workers_that_all_hang_takes_what_uploads_may_take() -> None:
    at = scene(workers=3, stop_s=2)
    for process in at.begin():
        process.lives = False
    took = at.stop()
    at.reactor.run(20)
    assert took == [pytest.approx(HUNG_S, abs=1)]


def test_a_stop_does_not_wait_for_who_was_killed_and_does_not_end() -> None:
    at = scene(workers=2, stop_s=2)
    for process in at.begin():
        process.lives = process.dies = False
    took = at.stop()
    at.reactor.run(20)
    assert took == [pytest.approx(HUNG_S + 2, abs=1)]


def test_a_stop_before_they_have_started() -> None:
    at = scene(stop_s=2)
    at.begin(ready=False)
    took = at.stop()
    at.reactor.run(10)
    assert took == [pytest.approx(HUNG_S, abs=1)]


def test_who_hangs_in_a_rolling_restart_is_killed_and_all_are_replaced() -> None:
    at = scene()
    one, two = at.begin()
    one.lives = False
    done = Deferred.fromCoroutine(at.supervisor.restart())
    send(at.reactor.processes[2], Ready())
    assert b"stop" in one.words
    at.reactor.run(31)
    assert one.killed
    send(at.reactor.processes[3], Ready())
    play(at, 1, [two])
    assert done.called
    assert at.reactor.there == at.reactor.processes[2:]
    assert len(at.reactor.there) == 2


def test_one_that_dies_while_its_successor_does_not_start_is_replaced() -> None:
    at = scene()
    one, two = at.begin()
    at.reactor.run(20)
    done = Deferred.fromCoroutine(at.supervisor.restart())
    send(at.reactor.processes[2], Ready())
    play(at, 1, [one])
    new = at.reactor.processes[3]
    new.dies = False  # A killed process is there for a moment yet.
    two.end(signal.SIGKILL)
    at.reactor.run(START_S + 1)
    assert new.killed
    new.end(signal.SIGKILL)
    at.reactor.run(1)
    assert done.called
    assert at.reactor.there == [at.reactor.processes[2], at.reactor.processes[4]]


def test_a_worker_imports_what_its_parent_does_and_nothing_of_the_working_directory() -> None:
    at = scene()
    process = at.begin()[0]
    assert process.command[:3] == [sys.executable, "-P", "-m"]
    paths = process.environment["PYTHONPATH"].split(os.pathsep)
    assert paths == [os.path.abspath(path) for path in sys.path if path]


def test_log_lines_of_workers_come_whole() -> None:
    at = scene(piped=True)
    one, two = (process.protocol for process in at.begin())
    one.childDataReceived(1, b"one\ntw")
    two.childDataReceived(1, b"three\n")
    one.childDataReceived(1, b"o\n")
    one.childDataReceived(2, b"last words")
    at.reactor.processes[0].end(signal.SIGKILL)
    assert at.logged[:4] == [b"one\n", b"three\n", b"two\n", b"last words\n"]


def test_a_worker_does_not_inherit_what_took_the_place_of_a_closed_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "__stdout__", None)
    at = scene()
    descriptors = at.begin()[0].descriptors
    assert os.readlink(f"/proc/self/fd/{descriptors[1]}") == os.devnull
    assert descriptors[2] == 2


def test_each_has_a_number_that_its_successor_gets() -> None:
    at = scene(2, movers=1)
    one, two, mover = at.begin()
    assert [process.command[5] for process in (one, two, mover)] == ["worker 1", "worker 2", "mover 1"]
    states = [state.in_words for state in (*at.supervisor.receivers(), *(at.supervisor.movers() or ()))]
    assert states == [f"worker 1 (pid {one.pid})", f"worker 2 (pid {two.pid})", f"mover 1 (pid {mover.pid})"]
    one.end(signal.SIGKILL)
    at.reactor.run(1)
    assert at.reactor.processes[-1].command[5] == "worker 1"
    send(at.reactor.processes[-1], Ready())
    Deferred.fromCoroutine(at.supervisor.restart())
    assert at.reactor.processes[-1].command[5] == "worker 2"


# ——— those that only move crashes ———


def kept(store: str, count: int) -> CrashEvents:
    return CrashEvents([CrashEvent(at=1.0, crash_id="an id", kind="kept", where=store)] * count)


def test_a_mover_beside_one_that_receives() -> None:
    at = scene(1, movers=1)
    receiver, mover = at.begin(ready=False)
    assert value("movers_wanted") == 1
    assert (receiver.command[4], len(receiver.command), len(receiver.descriptors)) == ("receive", 7, 6)
    assert (mover.command[4], len(mover.command), len(mover.descriptors)) == ("move", 6, 5)
    assert b"hung" not in mover.words
    send(receiver, Ready())
    assert at.ready == [1]  # crashes are taken, whatever a mover does
    assert at.supervisor.movers() == []
    assert value("movers") == 0
    send(mover, Ready())
    assert (value("workers"), value("movers")) == (1, 1)
    states = at.supervisor.movers()
    assert states is not None
    assert [state.pid for state in states] == [mover.pid]
    assert [state.pid for state in at.supervisor.receivers()] == [receiver.pid]
    at.reactor.run(60)
    assert len(at.reactor.processes) == 2


def test_without_movers_there_are_none_to_show() -> None:
    at = scene()
    at.begin()
    assert at.supervisor.movers() is None
    send(at.reactor.processes[0], kept("/a", 1))
    assert at.reactor.processes[0].words == [b"hung", b"hung"]


def test_movers_are_told_in_turn_what_was_kept() -> None:
    at = scene(2, movers=2)
    one, two, three, four = at.begin()
    for process, count in ((one, 3), (two, 1), (one, 2)):
        send(process, kept("/a", count), kept("/b", 1))
        at.reactor.advance(0)
    told = [[line for line in mover.received if line.startswith(b"kept")] for mover in (three, four)]
    assert sorted(told, key=len) == [
        [b'kept {"/a": 1, "/b": 1}\n'],
        [b'kept {"/a": 3, "/b": 1}\n', b'kept {"/a": 2, "/b": 1}\n'],
    ]
    three.end(signal.SIGKILL)
    for _ in range(2):
        send(one, kept("/a", 1))
        at.reactor.advance(0)
    assert four.received[-2:] == [b'kept {"/a": 1}\n'] * 2


def test_movers_are_told_when_crashes_wait_for_a_disk() -> None:
    at = scene(2, movers=1)
    one, two, mover = at.begin()
    send(one, Saving({"/a": 0.3}))
    send(two, Saving({"/a": 0.1, "/b": 0.4}))
    assert (at.supervisor.waited("/a"), at.supervisor.waited("/b"), at.supervisor.waited("/c")) == (0.3, 0.4, 0.0)
    send(one, Saving({"/a": 0.2}))
    assert [line for line in mover.received if b"pressed" in line] == [b"pressed 0\n", b"pressed 1\n"]
    mover.end(signal.SIGKILL)
    at.reactor.run(1)
    assert at.reactor.there[-1].received[1] == b"pressed 1\n"
    two.end(signal.SIGKILL)
    assert at.reactor.there[1].received[-1] == b"pressed 0\n"
    assert (at.supervisor.waited("/a"), at.supervisor.waited("/b")) == (0.2, 0.0)


def test_a_mover_that_dies_or_hangs_is_replaced_and_is_no_matter_of_the_heartbeat() -> None:
    at = scene(1, movers=1)
    receiver, mover = at.begin()
    mover.end(signal.SIGKILL)
    at.reactor.run(1)
    again = at.reactor.there[1]
    assert again.command[4] == "move"
    send(again, Ready())
    again.lives = False
    at.reactor.run(6)
    assert (value("workers"), value("movers"), value("workers_hung")) == (1, 0, 1)
    assert receiver.received[-1] == b"hung 0\n"
    at.reactor.run(30)
    assert again.killed
    assert at.reactor.there[1].command[4] == "move"
    assert not at.supervisor.is_hopeless


def test_movers_that_die_again_and_again_delay_no_receiver() -> None:
    at = scene(1, movers=1)
    receiver, _ = at.begin()
    for _ in range(5):
        at.reactor.there[-1].end(signal.SIGKILL)
        while len(at.reactor.there) < 2:
            at.reactor.run(TICK_S)
    assert at.reactor.seconds() < 10
    receiver.end(signal.SIGKILL)
    at.reactor.run(1)
    assert [process.command[4] for process in at.reactor.there] == ["move", "receive"]


def test_it_is_hopeless_also_if_movers_answer() -> None:
    at = scene(1, movers=1)
    receiver, _ = at.begin()
    receiver.lives = False
    at.reactor.run(70)
    assert at.supervisor.is_hopeless


def test_a_rolling_restart_replaces_each_by_one_of_its_kind() -> None:
    at = scene(1, movers=1)
    receiver, mover = at.begin()
    done = Deferred.fromCoroutine(at.supervisor.restart())
    for old, work in ((receiver, "receive"), (mover, "move")):
        new = at.reactor.processes[-1]
        assert new.command[4] == work
        assert b"stop" not in old.words
        send(new, Ready())
        play(at, 1, [old])
        assert old.ended
    assert done.called
    assert len(at.reactor.there) == 2


def test_how_destinations_are_is_what_movers_say() -> None:
    at = scene(1, movers=2)
    _, one, two = at.begin()
    away, well = SinkState("s3://b", "it is away", 2.0, ("a",)), SinkState("s3://b", cautions=("a", "b"))
    send(one, Sinks([well]))
    send(two, Sinks([away, SinkState("c")]))
    assert at.supervisor.sinks() == [well, away, SinkState("c")]
    assert together("s3://b", at.supervisor.sinks()) == SinkState("s3://b", "it is away", 2.0, ("a", "b"))
    assert together("d", at.supervisor.sinks()) == SinkState("d", is_tried=False)
    send(two, Sinks([evolve(away, is_tried=False)]))
    assert together("s3://b", at.supervisor.sinks()) == SinkState("s3://b", cautions=("a", "b"))
    send(one, Sinks([evolve(well, is_tried=False)]))
    assert together("s3://b", at.supervisor.sinks()) == SinkState("s3://b", "it is away", 2.0, ("a", "b"), False)
    two.end(signal.SIGKILL)
    assert at.supervisor.sinks() == [evolve(well, is_tried=False)]
