"""
All loops together: they share destinations, which are checked and closed once for all.
"""

from typing import Any, cast

from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent

from collectord.concurrency.lateness import Lateness
from collectord.crashmover.service import Crashmovers
from tests.unit.crashmover.places import FakeSink
from tests.unit.crashmover.test_crashmover_loop import Rig


@define
class Closable:
    """Destination and publisher at once. @ivar fails: what closing raises. @ivar hangs: it never ends."""

    name: str
    closed: int = 0
    fails: Exception | None = None
    hangs: bool = False

    async def close(self) -> None:
        self.closed += 1
        if self.hangs:
            await Deferred()
        if self.fails is not None:
            raise self.fails


@define
class Threads:
    closed: int = 0

    def close(self) -> None:
        self.closed += 1


def movers(clock: Clock, *closable: Closable, threads: Threads | None = None) -> Crashmovers:
    service = Crashmovers([], cast(Any, closable), cast(Any, [threads or Threads()]), Lateness(clock), clock)
    service.startService()
    return service


def test_at_the_end_all_destinations_publishers_and_threads_are_closed() -> None:
    one, two, threads = Closable("one"), Closable("two"), Threads()
    assert movers(Clock(), one, two, threads=threads).stopService().called
    assert (one.closed, two.closed, threads.closed) == (1, 1, 1)


def test_one_that_can_not_be_closed_keeps_no_other_from_it(logged_failures: list[LogEvent]) -> None:
    one, two = Closable("one", fails=OSError("no space")), Closable("two")
    assert movers(Clock(), one, two).stopService().called
    assert (one.closed, two.closed) == (1, 1)
    (event,) = logged_failures
    assert formatEvent(event) == "one could not be closed"
    logged_failures.clear()


def test_one_that_hangs_while_it_is_closed_is_given_up() -> None:
    clock, one, two = Clock(), Closable("one", hangs=True), Closable("two")
    stopped = movers(clock, one, two).stopService()
    assert (two.closed, stopped.called) == (1, False)
    clock.advance(5)
    assert stopped.called
    assert clock.getDelayedCalls() == []


def test_nothing_is_closed_while_a_move_is_under_way() -> None:
    rig, one = Rig(), Closable("one")
    rig.sink.hangs = []
    rig.source.add(1)
    service = movers(rig.clock, one)
    rig.service.setServiceParent(service)
    stopped = service.stopService()
    assert (one.closed, stopped.called) == (0, False)
    rig.sink.hangs.pop().callback(None)
    assert (one.closed, stopped.called) == (1, True)


def test_a_destination_that_has_failed_is_tried_again_though_no_crash_waits_for_it_alone() -> None:
    clock, fake = Clock(), FakeSink("one", fails=True)
    sink = fake.as_sink(clock, verify=True)
    service = Crashmovers([sink], [], [], Lateness(clock), clock)
    service.startService()
    assert sink.problem == "one is not there"
    fake.fails = False
    clock.advance(1.1)
    clock.advance(1.1)
    assert sink.is_available
    service.stopService()
    assert clock.getDelayedCalls() == []
