"""
Turns: nobody has more than a share of the reactor's time while others wait.
"""

from attrs import define, field
from twisted.internet.task import Clock

from collectord.intake.turns import Turns
from tests.unit.intake.parts import LogRecorder


class Busy(Clock):
    """A clock that goes on while something is done."""

    def work(self, seconds: float) -> None:
        self.rightNow += seconds


@define
class Rig:
    clock: Busy = field(factory=Busy)
    done: list[str] = field(factory=list)

    def turns(self) -> Turns:
        return Turns(self.clock)

    def look_at_sockets(self) -> list[str]:
        """What was done since, in one turn of the reactor."""
        done, calls = len(self.done), list(self.clock.calls)
        assert len(calls) <= 1, "however many wait"
        for call in calls:
            self.clock.calls.remove(call)
            call.func(*call.args)
        return self.done[done:]


def test_a_share_is_some_milliseconds() -> None:
    rig = Rig()
    turns = rig.turns()
    turns.begin(rig.clock.seconds())
    rig.clock.work(0.004)
    assert not turns.is_over()
    rig.clock.work(0.004)
    assert turns.is_over()


def test_who_waits_has_turns_in_order_and_the_sockets_come_between() -> None:
    rig = Rig()
    turns = rig.turns()

    def worker(name: str, slices: int) -> None:
        assert not turns.is_over()
        rig.clock.work(0.006)
        rig.done.append(name)
        if slices > 1:
            turns.wait(lambda: worker(name, slices - 1))

    for name in "abc":
        turns.wait(lambda name=name: worker(name, 2))  # type: ignore[misc]
    assert rig.done == []
    assert [rig.look_at_sockets() for _ in range(4)] == [["a", "b"], ["c", "a"], ["b", "c"], []]


def test_alone_it_has_one_share_between_two_looks_at_the_sockets() -> None:
    rig = Rig()
    turns = rig.turns()

    def work() -> None:
        rig.done.append("x")
        turns.wait(work)

    turns.wait(work)
    assert [rig.look_at_sockets() for _ in range(3)] == [["x"]] * 3


def test_one_that_fails_stops_nobody(log: LogRecorder) -> None:
    rig = Rig()
    turns = rig.turns()
    turns.wait(lambda: rig.done.remove("nothing"))
    turns.wait(lambda: rig.done.append("other"))
    assert rig.look_at_sockets() == ["other"]
    assert len(log.failures) == 1
    log.events.clear()
