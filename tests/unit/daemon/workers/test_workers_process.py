"""
One worker as its parent sees it: what it says, what it logs, and how it ends.
"""

import signal
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.error import ProcessDone
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent
from twisted.python.failure import Failure

from collectord.daemon.workers.messages import CHANNEL, Counted, CrashEvents, Ready, Work, encode
from collectord.daemon.workers.process import WorkerProcess
from collectord.index.tally import Tally
from collectord.model import CrashEvent
from collectord.observe.aggregate import Snapshot
from tests.support.cases import for_each
from tests.support.fakereactor import FakeProcess

EVENT = CrashEvent(at=1.5, crash_id="an id", kind="kept", where="/a", about={"rule": "all", "size": 7})


@define
class Parent:
    """What was told to the parent, in order."""

    received: list[Any] = field(factory=list)

    def began(self, worker: WorkerProcess) -> None:
        self.received.append("began")

    def on_event(self, event: CrashEvent) -> None:
        self.received.append(event)

    def on_tally(self, tally: Tally) -> None:
        self.received.append(tally)

    def counted(self, worker: WorkerProcess, metrics: Snapshot) -> None:
        self.received.append(metrics)

    def pressed(self) -> None:
        self.received.append("pressed")

    def write(self, lines: bytes) -> None:
        self.received.append(lines)

    def gone(self, worker: WorkerProcess, why: str) -> None:
        self.received.append(why)


@define
class Rig:
    parent: Parent = field(factory=Parent)
    clock: Clock = field(factory=Clock)
    worker: WorkerProcess = field(init=False)
    process: FakeProcess = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.worker = WorkerProcess(self.parent, Work.BOTH, 1, 0.0, self.clock)
        self.process = FakeProcess(self.worker, 1234, [], {}, {})
        self.worker.makeConnection(self.process)

    def says(self, data: bytes) -> None:
        self.worker.childDataReceived(CHANNEL, data)


def test_what_it_says_is_told_however_it_is_cut() -> None:
    rig = Rig()
    data = b"".join(encode(each) + b"\n" for each in (Ready(), CrashEvents([EVENT, EVENT]), Counted([])))
    for cut in range(len(data)):
        rig.says(data[cut : cut + 1])
    assert rig.parent.received == ["began", EVENT, EVENT, []]
    assert rig.worker.ready.called
    assert rig.worker.answers


@pytest.mark.parametrize(
    "line",
    [b"", b"nonsense", b"{}", b'{"happened": [[1, 2]]}', b'{"happened": [7]}', b'{"ready": false}', b"\xff"],
    ids=["empty", "no JSON", "no message", "short event", "no event", "not ready", "no text"],
)
def test_what_nobody_understands_is_logged_and_the_next_message_counts(
    line: bytes, logged_failures: list[LogEvent]
) -> None:
    rig = Rig()
    rig.says(line + b"\n" + encode(Ready()) + b"\n")
    assert rig.parent.received == ["began"]
    (event,) = logged_failures
    assert formatEvent(event) == "worker 1 (pid 1234) sent what can't be understood"
    logged_failures.clear()


def test_whatever_it_says_ends_its_silence() -> None:
    rig = Rig()
    rig.worker.silent_s = 4.0
    assert not rig.worker.is_heard
    rig.says(encode(Counted([])) + b"\n")
    assert (rig.worker.silent_s, rig.worker.is_heard) == (0.0, True)


def test_lines_that_it_logs_are_handed_on_whole() -> None:
    rig = Rig()
    rig.worker.childDataReceived(1, b"one\ntwo\nth")
    rig.worker.childDataReceived(2, b"error\n")
    rig.worker.childDataReceived(1, b"ree\n")
    assert rig.parent.received == [b"one\ntwo\n", b"error\n", b"three\n"]


def test_a_line_without_an_end_does_not_grow_for_ever() -> None:
    rig = Rig()
    for _ in range(3):
        rig.worker.childDataReceived(1, b"x" * 2**19)
    assert rig.parent.received == [b"x" * 3 * 2**19 + b"\n"]


@for_each(
    ("end", "why"),
    [(None, "exit status 1"), (signal.SIGSEGV, "killed by SIGSEGV")],
    ids=["exit status", "signal"],
)
def test_how_it_ended_is_told_after_its_last_words(end: int | None, why: str) -> None:
    rig = Rig()
    rig.worker.childDataReceived(2, b"last words")
    rig.process.end(end)
    assert rig.parent.received == [b"last words\n", why]
    assert rig.worker.ended.called
    assert rig.worker.ready.called  # nobody waits for it any more


def test_an_end_in_order() -> None:
    rig = Rig()
    rig.worker.stop()
    assert (rig.process.received, rig.worker.expendable) == ([b"stop\n"], True)
    rig.worker.processEnded(Failure(ProcessDone(0)))
    assert rig.parent.received == ["exit status 0"]


def test_one_that_is_killed_and_does_not_end_is_given_up_and_gone_once() -> None:
    rig = Rig()
    rig.process.dies = False
    rig.worker.kill()
    rig.clock.advance(1.9)
    assert (rig.process.killed, rig.parent.received) == (True, [])
    rig.clock.advance(0.1)
    assert rig.parent.received == ["it was killed, and does not end"]
    rig.process.end(signal.SIGKILL)
    assert rig.parent.received == ["it was killed, and does not end"]


def test_one_that_has_ended_is_not_killed() -> None:
    rig = Rig()
    rig.process.end()
    rig.worker.kill()
    assert not rig.process.killed
    assert rig.clock.getDelayedCalls() == []


def test_a_word_to_one_whose_end_of_the_pipe_is_closed_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()

    def closed(descriptor: int, data: bytes) -> None:
        raise KeyError(descriptor)

    monkeypatch.setattr(FakeProcess, "writeToChild", staticmethod(closed))
    rig.worker.send(b"drain")
