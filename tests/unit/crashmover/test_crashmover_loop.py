"""
The loop over a source: regular, at once when it is woken, bounded, and never ended by an error.
"""

from collections.abc import Iterator
from typing import ClassVar

import pytest
from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, capturedLogs, formatEvent

from collectord.crashmover.loop import CrashmoverService
from collectord.crashmover.mover import Crashmover
from collectord.crashmover.pace import Pace
from collectord.errors import StorageError, UnreadableCrash
from collectord.model import CrashEvent
from tests.unit.crashmover.places import FakeSink, MemorySource, crash_id


@define
class Rig:
    """A service over a source and one destination. @ivar pressed: those who send crashes need the machine."""

    verify: bool = False
    pressed: bool = False
    clock: Clock = field(factory=Clock)
    source: MemorySource = field(factory=MemorySource)
    sink: FakeSink = field(factory=lambda: FakeSink("one"))
    on_event: list[CrashEvent] = field(factory=list)
    service: CrashmoverService = field(init=False)
    stopped: list[str] | None = field(init=False, default=None)
    made: ClassVar[list["Rig"]] = []

    def __attrs_post_init__(self) -> None:
        self.made.append(self)
        sink = self.sink.as_sink(self.clock, verify=self.verify)
        self.service = CrashmoverService(
            Crashmover(
                [sink],
                [],
                keep=False,
                clock=self.clock,
                chance=lambda: 0.5,
                on_event=self.on_event.append,
                on_remembered=lambda _: None,
                now=self.clock.seconds,
            ),
            self.source,
            interval=5.0,
            pace=Pace(3, lambda: self.pressed, self.clock),
            stop=30.0,
            clock=self.clock,
        )

    def stop(self) -> list[str]:
        """Something is in it once it has stopped."""
        fired = self.stopped = []
        stopped = self.service.stopService()
        if stopped is None:
            fired.append("stopped")
        else:
            stopped.addCallback(lambda _: fired.append("stopped"))
        return fired


@pytest.fixture(autouse=True)
def _all_end() -> Iterator[None]:
    """Wherever a test has left a service, it can be stopped, and then nothing of it is left."""
    Rig.made.clear()
    yield
    for rig in Rig.made:
        stopped = rig.stop() if rig.stopped is None and rig.service.running else rig.stopped
        rig.clock.advance(31)
        assert stopped in (None, ["stopped"])
        assert rig.clock.getDelayedCalls() == []


def test_what_is_there_is_moved_at_the_start_and_the_rest_in_the_next_pass() -> None:
    rig = Rig()
    rig.source.add(1, 2)
    rig.service.startService()
    assert rig.sink.got == [crash_id(1), crash_id(2)]
    rig.source.add(3)
    rig.clock.advance(4.9)
    assert len(rig.sink.got) == 2
    rig.clock.advance(0.2)
    assert len(rig.sink.got) == 3
    assert rig.stop() == ["stopped"]


def test_a_wake_starts_a_pass_soon_and_many_start_one() -> None:
    rig = Rig()
    rig.service.startService()
    rig.source.add(1)
    for _ in range(10):
        rig.service.wake()
    rig.clock.advance(0.2)
    assert rig.sink.got == [crash_id(1)]
    assert rig.source.lists == 2
    rig.clock.advance(4.5)
    assert rig.source.lists == 2
    rig.clock.advance(0.5)
    assert rig.source.lists == 3


def test_a_wake_in_the_middle_of_a_pass_starts_another() -> None:
    rig = Rig()
    rig.sink.hangs = []
    rig.source.add(1)
    rig.service.startService()
    rig.source.add(2)
    rig.service.wake()
    rig.clock.advance(0.2)
    assert rig.source.lists == 1
    rig.sink.hangs.pop().callback(None)
    assert rig.source.lists == 2
    rig.sink.hangs.pop().callback(None)
    assert rig.sink.got == [crash_id(1), crash_id(2)]


def test_a_wake_before_the_start_or_after_the_end_does_nothing() -> None:
    rig = Rig()
    rig.service.wake()
    rig.service.startService()
    rig.service.wake()
    assert rig.stop() == ["stopped"]
    rig.service.wake()
    assert rig.clock.getDelayedCalls() == []


def test_the_number_of_moves_at_once_is_limited() -> None:
    rig = Rig()
    rig.sink.hangs = []
    rig.source.add(*range(10))
    rig.service.startService()
    assert len(rig.sink.hangs) == rig.source.loads == 3
    rig.sink.hangs.pop(0).callback(None)
    assert rig.source.loads == 4
    while rig.sink.hangs:
        rig.sink.hangs.pop(0).callback(None)
    assert sorted(rig.sink.got) == [crash_id(n) for n in range(10)]
    assert rig.source.crashes == {}


def test_while_others_need_the_machine_one_is_moved_at_a_time_with_rests() -> None:
    rig = Rig()
    rig.sink.hangs = []
    rig.source.add(*range(10))
    rig.pressed = True
    rig.service.startService()
    assert rig.source.loads == 3
    for _ in range(3):
        rig.clock.advance(0.3)  # the pace goes down meanwhile
    for hung in rig.sink.hangs:
        hung.callback(None)
    rig.sink.hangs.clear()
    assert rig.source.loads == 3  # it rests
    rig.clock.advance(1.0)
    assert rig.source.loads == 4
    rig.clock.advance(0.5)
    rig.sink.hangs.pop().callback(None)
    assert rig.source.loads == 4
    rig.clock.advance(0.4)
    assert rig.source.loads == 4
    rig.clock.advance(0.2)
    assert rig.source.loads == 5
    rig.pressed = False
    for _ in range(4):
        rig.clock.advance(0.3)
    assert rig.source.loads == 7  # as many as ever
    rig.clock.advance(0.1)
    rig.sink.hangs.pop().callback(None)
    assert rig.source.loads == 8


def test_one_bad_crash_does_not_stop_the_others(logged_failures: list[LogEvent]) -> None:
    rig = Rig()
    rig.source.add(1, 2, 3, 4, 5)
    rig.source.broken[crash_id(1)] = UnreadableCrash("broken")
    rig.source.broken[crash_id(2)] = StorageError("not now")
    rig.source.broken[crash_id(3)] = ZeroDivisionError()
    rig.sink.refuses.add(crash_id(4))
    rig.service.startService()
    rig.clock.advance(1.1)
    assert rig.sink.got == [crash_id(5)]
    assert sorted(rig.source.crashes) == [crash_id(2), crash_id(3), crash_id(4)]
    assert len(logged_failures) == 1
    logged_failures.clear()


@pytest.mark.parametrize("error", [StorageError("stale"), ZeroDivisionError()])
def test_a_list_that_fails_does_not_end_the_loop(error: Exception, logged_failures: list[LogEvent]) -> None:
    rig = Rig()
    rig.source.add(1)
    rig.source.fails["list"] = error
    rig.service.startService()
    rig.clock.advance(5)
    assert rig.source.lists == 2
    rig.source.fails.clear()
    rig.clock.advance(5)
    assert rig.sink.got == [crash_id(1)]
    logged_failures.clear()


def test_why_a_list_fails_is_said_once_for_each_cause() -> None:
    rig = Rig()
    with capturedLogs() as events:
        rig.service.startService()
        for why in ("memory: gone", "memory: gone", "stale", "stale", "", "", "memory: gone"):
            rig.source.fails = {"list": StorageError(why)} if why else {}
            rig.clock.advance(5)
    assert [formatEvent(event) for event in events] == [
        "memory can't be listed: gone",
        "memory can't be listed: stale",
        "memory can be listed again",
        "memory can't be listed: gone",
    ]


def test_while_the_destination_is_away_everything_waits_unread() -> None:
    rig = Rig(verify=True)
    rig.sink.fails = True
    rig.source.add(*range(1000))
    rig.service.startService()
    for _ in range(100):
        rig.clock.advance(10)
    assert rig.source.loads == 0
    rig.sink.fails = False
    rig.clock.advance(100)
    assert len(rig.sink.got) == 1000


def test_a_source_that_fails_all_the_time_is_left_until_the_next_pass() -> None:
    rig = Rig()
    rig.source.add(*range(1000))
    rig.source.broken = {crash_id(n): StorageError("stale") for n in range(1000)}
    rig.service.startService()
    assert rig.source.loads == 20


def test_stop_waits_for_what_is_under_way_and_begins_nothing() -> None:
    rig = Rig()
    rig.sink.hangs = []
    rig.source.add(*range(10))
    rig.service.startService()
    fired = rig.stop()
    assert fired == []
    for hung in rig.sink.hangs[:3]:
        hung.callback(None)
    assert fired == ["stopped"]
    assert len(rig.sink.got) == rig.source.loads == 3
    assert len(rig.source.crashes) == 7
    assert rig.clock.getDelayedCalls() == []


def test_stop_gives_up_what_takes_too_long() -> None:
    rig = Rig()
    rig.sink.hangs = []
    rig.source.add(1, 2)
    rig.service.startService()
    fired = rig.stop()
    rig.clock.advance(29.9)
    assert fired == []
    rig.clock.advance(0.2)
    assert fired == ["stopped"]
    assert sorted(rig.source.crashes) == [crash_id(1), crash_id(2)]


def test_stop_while_a_destination_is_waited_for() -> None:
    rig = Rig(verify=True)
    rig.sink.fails = True
    rig.source.add(1)
    rig.service.startService()
    assert rig.stop() == ["stopped"]
    assert rig.clock.getDelayedCalls() == []


def test_stop_while_the_source_is_listed_and_a_destination_is_away() -> None:
    rig = Rig(verify=True)
    rig.sink.fails = True
    rig.source.add(1)
    listing = rig.source.listing = Deferred()
    rig.service.startService()
    fired = rig.stop()
    if not listing.called:
        listing.callback(None)
    assert fired == ["stopped"]
    assert rig.clock.getDelayedCalls() == []


def test_stop_while_a_source_hangs() -> None:
    rig = Rig()
    rig.source.listing = Deferred()
    rig.service.startService()
    assert rig.stop() == ["stopped"]
    assert rig.clock.getDelayedCalls() == []


def test_stop_while_the_collector_gets_its_rest() -> None:
    rig = Rig()
    rig.sink.hangs = []
    rig.source.add(*range(4))
    rig.pressed = True
    rig.service.startService()
    for _ in range(3):
        rig.clock.advance(0.3)
    for hung in rig.sink.hangs:
        hung.callback(None)
    assert rig.stop() == ["stopped"]
    assert rig.source.loads == 3
    assert rig.clock.getDelayedCalls() == []
