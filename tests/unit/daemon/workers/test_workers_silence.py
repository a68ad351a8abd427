"""
Which workers hang, by time in which the parent ran.
"""

from attrs import define, field
from twisted.internet.task import Clock
from twisted.logger import formatEvent

from collectord.daemon.workers.messages import Work
from collectord.daemon.workers.process import WorkerProcess
from collectord.daemon.workers.silence import HUNG_S, START_S, TICK_S, SilenceWatch
from tests.support.cases import for_each
from tests.support.fakereactor import FakeProcess
from tests.unit.daemon.workers.test_workers_process import Parent
from tests.unit.intake.parts import recorded_log


@define
class Rig:
    """
    A watch over workers.

    @ivar timeout: what the operator has set.
    @ivar changes: the times at which others hung than before.
    """

    count: int = 1
    timeout: float = 30.0
    clock: Clock = field(factory=Clock)
    workers: list[WorkerProcess] = field(factory=list)
    processes: list[FakeProcess] = field(factory=list)
    changes: list[float] = field(factory=list)
    watch: SilenceWatch = field(init=False)

    def __attrs_post_init__(self) -> None:
        for _ in range(self.count):
            worker = WorkerProcess(Parent(), Work.BOTH, 1, 0.0, self.clock)
            process = FakeProcess(worker, 1000 + len(self.workers), [], {}, {}, dies=False)
            worker.makeConnection(process)
            self.workers.append(worker)
            self.processes.append(process)
        self.watch = SilenceWatch(
            lambda: self.workers,
            lambda: self.timeout,
            lambda: self.changes.append(self.clock.seconds()),
            self.clock,
        )
        self.watch.start()

    def heard(self, *workers: WorkerProcess) -> None:
        for worker in workers:
            worker.is_heard = worker.is_ready = True
            worker.silent_s = 0.0

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds / TICK_S)):
            self.clock.advance(TICK_S)


def test_one_that_is_silent_hangs_then_is_killed_and_each_is_said_once() -> None:
    rig = Rig()
    (worker,) = rig.workers
    rig.heard(worker)
    with recorded_log() as log:
        rig.pass_time(HUNG_S)
        assert (worker.is_hung, rig.processes[0].killed, rig.changes) == (True, False, [HUNG_S])
        rig.pass_time(rig.timeout - HUNG_S + 10)
    assert rig.processes[0].killed
    assert [formatEvent(event) for event in log.events] == [
        "worker 1 (pid 1000) hangs: nothing was heard of it for 5 s",
        "worker 1 (pid 1000) is killed: nothing was heard of it for 30 s",
    ]


def test_one_that_speaks_again_is_no_longer_hung() -> None:
    rig = Rig()
    (worker,) = rig.workers
    rig.heard(worker)
    rig.pass_time(HUNG_S + 1)
    rig.heard(worker)
    rig.pass_time(1)
    assert (worker.is_hung, len(rig.changes)) == (False, 2)
    assert not rig.processes[0].killed


def test_a_start_may_take_longer() -> None:
    rig = Rig()
    rig.pass_time(START_S - TICK_S)
    assert not rig.workers[0].is_hung
    rig.pass_time(TICK_S)
    assert rig.workers[0].is_hung
    rig.pass_time(START_S)
    assert rig.processes[0].killed


@for_each("stood_still", [10.0, 3600.0])
def test_time_in_which_the_parent_stood_still_is_nobody_s_silence(stood_still: float) -> None:
    rig = Rig()
    rig.heard(*rig.workers)
    rig.clock.advance(stood_still)
    assert rig.workers[0].silent_s <= 2 * TICK_S


def test_at_a_stop_one_that_only_starts_is_to_be_heard_and_killed_when_the_time_is_over() -> None:
    rig = Rig()
    rig.watch.hurry(10)
    rig.pass_time(HUNG_S)
    assert (rig.workers[0].is_hung, rig.processes[0].killed) == (True, False)
    rig.pass_time(10 - HUNG_S)
    assert rig.processes[0].killed


def test_it_is_hopeless_once_nobody_has_answered_for_twice_the_limit() -> None:
    rig = Rig(2)
    rig.pass_time(300)
    assert not rig.watch.is_hopeless  # nobody has started yet
    rig.heard(*rig.workers)
    rig.pass_time(TICK_S)
    rig.workers[0].is_ready = False
    rig.pass_time(HUNG_S)
    assert not rig.watch.is_hopeless
    rig.pass_time(2 * rig.timeout + TICK_S)
    assert rig.watch.is_hopeless
    rig.heard(rig.workers[1])
    rig.pass_time(TICK_S)
    assert not rig.watch.is_hopeless


def test_stopped_it_looks_no_more_and_may_be_stopped_twice() -> None:
    rig = Rig()
    rig.watch.stop()
    rig.watch.stop()
    assert rig.clock.getDelayedCalls() == []
