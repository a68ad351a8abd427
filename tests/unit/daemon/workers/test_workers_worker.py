"""
The process of a worker: the words of its parent, what it tells, and its end. Its pipes and ports are played.
"""

import json
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from attrs import define, evolve, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol
from twisted.internet.testing import StringTransport
from twisted.logger import LogEvent, formatEvent
from twisted.python.failure import Failure

from collectord.daemon.delivery import DeliveryPipeline
from collectord.daemon.workers.channel import ParentChannel
from collectord.daemon.workers.messages import (
    CHANNEL,
    Counted,
    CrashEvents,
    Message,
    Ready,
    Saving,
    Sinks,
    Work,
    decode,
)
from collectord.daemon.workers.worker import WorkerMain
from collectord.duplicates.table import KeptTable
from collectord.metrics import REGISTRY
from collectord.model import CrashEvent
from collectord.observe.logging.events import LineObserver
from collectord.settings.schema import Crashmover, Logging, Settings, Submission
from collectord.settings.snapshot import SettingsSnapshot
from collectord.settings.stores import Storage
from tests.support.fakereactor import FakeReactor

pytestmark = pytest.mark.usefixtures("threads_at_once", "gauges_of_before")

EVENT = CrashEvent(at=1.5, crash_id="an id", kind="kept", where="/a")


class Pipe(StringTransport):
    """The way up. Twisted's own has lines of C{bytes}, too."""

    def messages(self) -> list[Message]:
        """What was told since the last time."""
        lines = self.value().splitlines()
        self.clear()
        return [decode(line) for line in lines]


# ——— the way to the parent ———


@define
class Way:
    """@ivar heard: what was called, and with what."""

    clock: FakeReactor = field(factory=FakeReactor)
    pipe: Pipe = field(factory=Pipe)
    heard: list[Any] = field(factory=list)
    parent: ParentChannel = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.parent = ParentChannel(
            self.clock,
            reload=self.heard.append,
            drain=lambda: self.heard.append("drain"),
            hung=self.heard.append,
            kept=lambda store, count: self.heard.append((store, count)),
            pressed=self.heard.append,
            stop=lambda: self.heard.append("stop"),
        )
        self.parent.makeConnection(self.pipe)


def test_the_words_of_the_parent() -> None:
    way = Way()
    way.parent.dataReceived(b'reload {"a": 1}\nhung 3\ndr')
    way.parent.dataReceived(b'ain\nsomething else\nkept {"/a": 2, "/b": 1}\npressed 1\npressed 0\nstop\n')
    assert way.heard == [b'{"a": 1}', 3, "drain", ("/a", 2), ("/b", 1), True, False, "stop"]


def test_settings_of_many_rules_are_one_line_all_the_same() -> None:
    way = Way()
    way.parent.dataReceived(b"reload " + b"x" * 10**6 + b"\n")
    assert way.heard == [b"x" * 10**6]


def test_without_a_parent_there_is_nothing_to_do() -> None:
    way = Way()
    way.parent.connectionLost(Failure(ConnectionError()))
    assert way.heard == ["stop"]


def test_what_happens_is_told_soon_and_together() -> None:
    way = Way()
    way.parent.on_event(EVENT)
    way.parent.on_event(EVENT)
    assert way.pipe.messages() == []
    way.clock.advance(0.05)
    assert way.pipe.messages() == [CrashEvents([EVENT, EVENT])]
    assert way.clock.getDelayedCalls() == []


def test_what_happened_before_a_message_is_told_before_it() -> None:
    way = Way()
    way.parent.on_event(EVENT)
    way.parent.send(Ready())
    assert way.pipe.messages() == [CrashEvents([EVENT]), Ready()]
    assert way.clock.getDelayedCalls() == []


# ——— all of it ———


@define
class Rig:
    """A worker over one store; its port is inherited."""

    root: Path
    reactor: FakeReactor
    observer: LineObserver
    pipe: Pipe
    worker: WorkerMain
    parents: list[ParentChannel]

    def snapshot(self, **sections: Any) -> SettingsSnapshot:
        return snapshot(self.root, **sections)

    def hears(self, line: bytes) -> None:
        self.parents[0].dataReceived(line + b"\n")


def snapshot(root: Path, **sections: Any) -> SettingsSnapshot:
    given: dict[str, Any] = {
        "storage": [Storage(root=root, min_free_bytes=0)],
        "submission": Submission(listen=["tcp:8000:interface=127.0.0.1"]),
    }
    return SettingsSnapshot(settings=Settings(**(given | sections)), rules=[], rules_text=None, source="parent")


Start = Callable[..., Rig]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    reactor, pipe, parents = FakeReactor(), Pipe(), list[ParentChannel]()

    def standard_io(protocol: IProtocol, stdin: int, stdout: int, reactor: object) -> None:
        assert (stdin, stdout) == (0, CHANNEL)
        assert isinstance(protocol, ParentChannel)
        parents.append(protocol)
        protocol.makeConnection(pipe)

    monkeypatch.setattr("collectord.daemon.workers.worker.StandardIO", standard_io)
    observer = LineObserver(len, "text", "info")
    table = KeptTable()
    table.set_filled()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def start(work: Work, **sections: Any) -> Rig:
            inherited = [(os.dup(listening.fileno()), int(socket.AF_INET))] if work.receives else []
            worker = WorkerMain(work, snapshot(tmp_path, **sections), observer, inherited, table, reactor)
            return Rig(tmp_path, reactor, observer, pipe, worker, parents)

        yield start


@pytest.fixture
def rig(start: Start) -> Rig:
    return start(Work.BOTH)


def test_it_takes_its_port_and_says_that_it_is_ready(rig: Rig) -> None:
    rig.worker.start()
    (port,) = rig.reactor.ports
    assert port.reading
    messages = rig.pipe.messages()
    assert messages[0] == Ready()
    assert isinstance(messages[-1], Counted)


def test_it_tells_its_metrics_each_second(rig: Rig) -> None:
    rig.worker.start()
    rig.pipe.messages()
    for _ in range(3):
        rig.reactor.advance(1)
        assert [type(message) for message in rig.pipe.messages()] == [Counted]


def test_metrics_that_can_not_be_told_do_not_end_the_loop(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, logged_failures: list[LogEvent]
) -> None:
    rig.worker.start()
    with monkeypatch.context() as patch:
        patch.setattr("collectord.daemon.workers.worker.snapshot_of", lambda registry: 1 / 0)
        rig.reactor.advance(1)
    assert [formatEvent(event) for event in logged_failures] == ["the metrics could not be sent to the parent"]
    logged_failures.clear()
    rig.pipe.messages()
    rig.reactor.advance(1)
    assert [type(message) for message in rig.pipe.messages()] == [Counted]


def test_an_error_of_what_is_told_besides_does_not_make_it_look_hung(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, logged_failures: list[LogEvent]
) -> None:
    """As that of a plugin that is asked for its cautions."""
    rig.worker.start()
    rig.pipe.messages()
    monkeypatch.setattr("collectord.daemon.workers.receiving.Receiving.report", lambda part, last: 1 / 0)
    for _ in range(2):
        rig.reactor.advance(1)
        assert [type(message) for message in rig.pipe.messages()] == [Counted]
    assert len(logged_failures) == 2
    logged_failures.clear()


def test_it_drains_at_a_word(rig: Rig) -> None:
    rig.worker.start()
    assert REGISTRY.get_sample_value("collectord_draining") == 0
    rig.hears(b"drain")
    assert REGISTRY.get_sample_value("collectord_draining") == 1


def test_it_lives_by_other_settings_at_a_word(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    changed: list[tuple[str, str]] = []
    monkeypatch.setattr(LineObserver, "change", lambda self, form, level: changed.append((form, level)))
    rig.worker.start()
    (port,) = rig.reactor.ports
    submission = Submission(listen=["tcp:8000:interface=127.0.0.1"], max_connections=7)
    rig.hears(b"reload " + rig.snapshot(submission=submission, logging=Logging(level="error")).to_wire())
    assert port.factory.max_connections == 7
    assert changed == [("text", "error")]


def test_settings_that_it_can_not_live_by_change_nothing(rig: Rig, logged_failures: list[LogEvent]) -> None:
    rig.worker.start()
    before = rig.reactor.ports[0].factory.max_connections
    rig.hears(b"reload nonsense")
    assert rig.reactor.ports[0].factory.max_connections == before
    assert [formatEvent(event) for event in logged_failures] == ["a worker can't reload"]
    logged_failures.clear()


@pytest.mark.parametrize("how", ["told", "alone"])
def test_it_ends_in_order(rig: Rig, how: str) -> None:
    rig.worker.start()
    rig.parents[0].on_event(EVENT)
    rig.pipe.messages()
    if how == "told":
        rig.hears(b"stop")
    else:
        rig.parents[0].connectionLost(Failure(ConnectionError()))
    rig.hears(b"stop")  # once more does nothing
    assert rig.reactor.ports[0].closed
    messages = rig.pipe.messages()
    assert messages[0] == CrashEvents([EVENT])
    assert isinstance(messages[-1], Counted)
    assert not rig.reactor.stopped  # the reactor has to write it
    rig.reactor.advance(0.1)
    assert rig.reactor.stopped


def test_a_start_that_fails_ends_it(rig: Rig, logged_failures: list[LogEvent], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collectord.daemon.workers.worker.StandardIO", lambda *args, **kw: 1 / 0)
    rig.worker.start()
    assert rig.reactor.stopped
    assert [formatEvent(event) for event in logged_failures] == ["a worker can't start"]
    logged_failures.clear()


def test_a_crash_that_it_moves_is_known_as_moved_before_it_is_removed(rig: Rig) -> None:
    """The parent hears of it later than a client may send the same report again."""
    crash_id = "8f63752c-57c6-4e5d-b2cf-cabde2160622"
    rig.worker.start()
    rig.pipe.messages()
    moved = evolve(EVENT, crash_id=crash_id, kind="moved", where="s3://crashes")
    rig.worker._on_step(moved)
    assert rig.worker._table.was_moved(crash_id)
    assert rig.pipe.messages() == [CrashEvents([moved])]


def test_it_moves_crashes_to_destinations_by_the_settings_of_its_parent(rig: Rig, tmp_path: Path) -> None:
    rig.worker.start()
    assert not pipeline_of(rig).moves(str(tmp_path))
    rig.hears(b"reload " + rig.snapshot(crashmover=mover_to(tmp_path / "there")).to_wire())
    assert pipeline_of(rig).moves(str(tmp_path))
    rig.hears(b"stop")
    rig.reactor.advance(1)


def test_a_reload_waits_for_the_one_before_it(rig: Rig) -> None:
    """One that waits for moves under way is not overtaken, or two pipelines would move."""
    begun: list[str] = []
    moves_end: Deferred[None] = Deferred()

    class Part:
        def prepare(self, snapshot: SettingsSnapshot) -> Callable[[], Awaitable[None]]:
            async def apply() -> None:
                begun.append(snapshot.settings.logging.level)
                await moves_end

            return apply

    rig.worker.start()
    parts, rig.worker._parts = rig.worker._parts, cast(Any, [Part()])
    for level in ("warn", "error"):
        rig.hears(b"reload " + rig.snapshot(logging=Logging(level=level)).to_wire())
    assert begun == ["warn"]
    moves_end.callback(None)
    assert begun == ["warn", "error"]
    rig.worker._parts = parts


def mover_to(root: Path) -> Crashmover:
    return Crashmover(destination=[{"type": "filesystem", "root": str(root), "min_free_bytes": 0}])


def pipeline_of(rig: Rig) -> DeliveryPipeline:
    moving = rig.worker._moving
    assert moving is not None
    return moving.pipeline


def test_one_that_only_moves_has_no_port_and_says_how_its_destinations_are(start: Start, tmp_path: Path) -> None:
    rig = start(Work.MOVE, crashmover=mover_to(tmp_path / "there"))
    rig.worker.start()
    assert rig.reactor.ports == []
    ready, counted, sinks = rig.pipe.messages()
    assert (ready, type(counted)) == (Ready(), Counted)
    assert isinstance(sinks, Sinks)
    assert [(state.name, state.problem) for state in sinks.states] == [(str(tmp_path / "there"), "")]
    for word in (b"drain", b"hung 1", b"pressed 1"):
        rig.hears(word)
    assert pipeline_of(rig)._is_pressed()
    rig.hears(b"pressed 0")
    assert not pipeline_of(rig)._is_pressed()
    before = len(rig.reactor.getDelayedCalls())
    rig.hears(b"kept " + json.dumps({str(tmp_path): 3}).encode())
    assert len(rig.reactor.getDelayedCalls()) == before + 1  # the pass that moves them
    rig.hears(b"stop")
    rig.reactor.advance(1)
    assert rig.reactor.stopped
    assert rig.reactor.getDelayedCalls() == []


def test_one_that_only_moves_lets_others_see_that_it_is_there(start: Start, tmp_path: Path) -> None:
    rig = start(Work.MOVE)
    rig.worker.start()
    assert not list(tmp_path.glob("staging/*/lock"))
    rig.reactor.advance(61)
    assert list(tmp_path.glob("staging/*/lock"))
    rig.hears(b"stop")
    rig.reactor.advance(1)


def test_one_that_only_receives_moves_nothing_and_says_for_how_long_crashes_wait_for_a_disk(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = start(Work.RECEIVE, crashmover=mover_to(tmp_path / "there"))
    rig.worker.start()
    rig.worker._on_event(evolve(EVENT, where=str(tmp_path)))
    assert rig.worker._moving is None
    name = str(tmp_path)
    for waited, said in ((0.3, [Saving({name: 0.3})]), (0.1, [Saving({name: 0.1})]), (0.0, [Saving({})]), (0.0, [])):
        monkeypatch.setattr("collectord.storage.filesystem.store.FilesystemCrashStorage.waited_s", waited)
        rig.pipe.messages()
        rig.reactor.advance(1)
        assert [message for message in rig.pipe.messages() if isinstance(message, Saving)] == said
    rig.hears(b"stop")
    rig.reactor.advance(1)
