"""
A destination or publisher that does not answer: told after five seconds, whatever its time limit is.
"""

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from collectord.crashmover.sink import Sink
from collectord.errors import StorageError
from tests.unit.crashmover.places import FakeSink
from tests.unit.intake.parts import result_of
from tests.unit.storage.stores import make_crash


@define(eq=False)
class SilentSink(FakeSink):
    """Its deliveries hang, and its checks, too, as long as it is away. @ivar asked: how often it was checked."""

    away: bool = True
    asked: int = 0

    async def check(self) -> None:
        self.asked += 1
        if self.fails:
            raise StorageError("one: refused")
        if self.away:
            await Deferred()


@define
class Rig:
    """A sink that does not answer."""

    clock: Clock = field(factory=Clock)
    fake: SilentSink = field(factory=lambda: SilentSink("one", hangs=[]))
    sink: Sink = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.sink = self.fake.as_sink(self.clock, verify=True)

    def deliver(self) -> None:
        Deferred.fromCoroutine(self.sink.deliver(make_crash())).addErrback(lambda _: None)

    def confirm(self) -> None:
        assert self.fake.hangs is not None
        self.fake.hangs.pop(0).callback(None)

    def advance(self, seconds: float) -> str:
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)
        return self.sink.problem


def test_told_after_five_seconds_and_once_more_much_later() -> None:
    rig = Rig()
    rig.deliver()
    assert rig.advance(4.8) == ""
    assert rig.advance(0.4) == "nothing for 5 s"
    assert rig.fake.asked == 1
    rig.advance(40)
    assert rig.fake.asked == 2


def test_what_is_only_slow_is_not_told() -> None:
    rig = Rig()
    rig.fake.away = False
    rig.deliver()
    assert rig.advance(20) == ""
    assert rig.fake.asked == 1


def test_what_it_answers_instead_is_told() -> None:
    rig = Rig()
    rig.fake.fails = True
    rig.deliver()
    assert rig.advance(3) == "refused"


def test_nobody_is_asked_while_deliveries_are_confirmed() -> None:
    rig = Rig()
    for _ in range(20):
        rig.deliver()
        rig.deliver()
        rig.advance(1)
        rig.confirm()
        rig.confirm()
    assert rig.fake.asked == 0


def test_nothing_goes_on_once_all_deliveries_are_over() -> None:
    rig = Rig()
    rig.deliver()
    rig.advance(3)
    rig.confirm()
    assert rig.clock.getDelayedCalls() == []
    assert rig.advance(10) == ""


def test_told_while_it_is_checked_at_the_start() -> None:
    rig = Rig()
    sink = rig.fake.as_sink(rig.clock, verify=True)
    tried = Deferred.fromCoroutine(sink.try_out())
    rig.advance(4.8)
    assert (sink.problem, tried.called) == ("", False)
    rig.advance(0.4)
    assert (sink.problem, tried.called) == ("nothing for 5 s", True)
    result_of(sink.try_out())  # nobody waits for it any more
    assert not sink.is_available
