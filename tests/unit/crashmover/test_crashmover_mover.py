"""
One crash is saved in every destination, published, and only then removed from its source.
"""

import pytest
from attrs import define, evolve, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from collectord.crashmover.mover import Crashmover
from collectord.crashmover.sink import Sink
from collectord.errors import CrashRejectedByStore, IdRefused, StorageError, UnclearRefusal, UnreadableCrash
from collectord.metrics import REGISTRY
from collectord.model import CrashEvent, NewCrash
from tests.support.cases import for_each
from tests.unit.crashmover.places import FakeSink, MemorySource, crash_id
from tests.unit.intake.parts import result_of

NEW = NewCrash(crash_id(1), "")


@define
class Rig:
    """Two destinations, a publisher, and one crash to move."""

    clock: Clock = field(factory=Clock)
    source: MemorySource = field(factory=MemorySource)
    one: FakeSink = field(factory=lambda: FakeSink("one"))
    two: FakeSink = field(factory=lambda: FakeSink("two"))
    queue: FakeSink = field(factory=lambda: FakeSink("queue", kind="published"))
    on_event: list[CrashEvent] = field(factory=list)
    on_remembered: list[str] = field(factory=list)
    keep: bool = False
    mover: Crashmover = field(init=False)
    sinks: list[Sink] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.source.add(1)
        self.restart()

    def restart(self) -> None:
        one, two, queue = self.sinks = [sink.as_sink(self.clock) for sink in (self.one, self.two, self.queue)]
        self.mover = Crashmover(
            [one, two],
            [queue],
            keep=self.keep,
            clock=self.clock,
            chance=lambda: 0.5,
            on_event=self.on_event.append,
            on_remembered=self.on_remembered.append,
            now=self.clock.seconds,
        )

    def move(self, number: int = 1) -> bool:
        return result_of(self.mover.move(self.source, NewCrash(crash_id(number), "")))

    def move_later(self, number: int = 1) -> bool:
        """Once the pauses are over, and those that had failed were checked."""
        self.clock.advance(max(sink.resumes_in for sink in self.sinks) + 0.01)
        for sink in self.sinks:
            result_of(sink.try_again())
        return self.move(number)

    @property
    def steps(self) -> list[tuple[str, str]]:
        assert {event.crash_id for event in self.on_event} == {NEW.crash_id}
        return [(event.kind, event.where) for event in self.on_event]

    @property
    def got(self) -> list[int]:
        return [len(sink.got) for sink in (self.one, self.two, self.queue)]


def test_moved() -> None:
    rig = Rig()
    assert rig.move()
    assert rig.got == [1, 1, 1]
    assert rig.source.crashes == {}
    assert rig.source.kept == [False]
    assert rig.steps == [("moved", "one"), ("moved", "two"), ("published", "queue"), ("removed", "memory")]


def test_how_long_each_step_took_is_told() -> None:
    rig = Rig()
    rig.one.hangs = rig.queue.hangs = []
    moving = Deferred.fromCoroutine(rig.mover.move(rig.source, NEW))
    for seconds in (0.044, 2.0):
        rig.clock.advance(seconds)
        rig.one.hangs.pop().callback(None)
    assert result_of(moving)
    assert [event.about.get("details") for event in rig.on_event] == ["took=44", "took=0", "took=2000", None]


def test_how_often_it_failed_before_is_told() -> None:
    rig = Rig()
    rig.one.raises = CrashRejectedByStore("one: no")
    assert not rig.move_later()
    assert not rig.move_later()
    rig.one.raises = None
    assert rig.move_later()
    told = {event.where: event.about.get("details") for event in rig.on_event}
    assert told == {"two": "took=0", "one": "took=0 failures=2", "queue": "took=0", "memory": None}


def moved_from_memory() -> float:
    return REGISTRY.get_sample_value("collectord_moved_total", {"store": "memory"}) or 0.0


def test_what_is_moved_is_counted_whether_or_not_it_stays() -> None:
    for keep in (False, True):
        before = moved_from_memory()
        assert Rig(keep=keep).move()
        assert moved_from_memory() == before + 1


def test_an_id_that_is_published_later_is_no_move() -> None:
    rig, before = Rig(), moved_from_memory()
    publishes = Crashmover(
        [rig.sinks[2]],
        [],
        keep=True,
        clock=rig.clock,
        chance=lambda: 0.5,
        on_event=rig.on_event.append,
        on_remembered=rig.on_remembered.append,
        now=rig.clock.seconds,
    )
    assert result_of(publishes.move(rig.source, NEW))
    assert (rig.steps, moved_from_memory()) == ([("published", "queue")], before)


def test_kept() -> None:
    rig = Rig(keep=True)
    assert rig.move()
    assert rig.source.kept == [True]
    assert ("removed", "memory") not in rig.steps


@for_each(("legacy_processing", "published"), [(0, 1), (1, 0), (None, 1)])
def test_deferred_crashes_are_not_published(legacy_processing: int | None, published: int) -> None:
    rig = Rig()
    rig.source.add(1, legacy_processing=legacy_processing)
    assert rig.move()
    assert rig.got == [1, 1, published]


@for_each("failing", ["one", "two"])
def test_it_leaves_its_source_only_when_all_destinations_have_it(failing: str) -> None:
    rig = Rig()
    sink: FakeSink = getattr(rig, failing)
    sink.fails = True
    assert not rig.move()
    assert list(rig.source.crashes) == [NEW.crash_id]
    assert rig.source.claimed == set()
    assert rig.mover.is_backing_off(NEW)
    assert not rig.move_later()
    assert (rig.queue.got, rig.source.remembered) == ([], [])
    sink.fails = False
    assert rig.move_later()
    assert rig.source.crashes == {}
    assert rig.got == [1, 1, 1]


@for_each(("away", "got"), [("one", [0, 2, 0]), ("two", [2, 0, 0])])
def test_a_destination_that_is_away_keeps_no_crash_from_the_other(away: str, got: list[int]) -> None:
    rig = Rig()
    rig.source.add(2)
    sink: FakeSink = getattr(rig, away)
    sink.fails = True
    assert not rig.move(2)
    assert not rig.move(1)  # while the sink has its pause
    assert rig.got == got
    assert rig.mover.is_waiting(NEW)
    assert rig.mover.is_backing_off(NEW)
    result_of(rig.mover.ready())  # for the other destination is there
    sink.fails = False
    assert rig.move_later(1)
    assert rig.got == [got[0] or 1, got[1] or 1, 1]


def test_an_id_that_can_t_be_published_is_remembered_and_the_crash_moves_on() -> None:
    rig = Rig()
    rig.queue.fails = True
    assert rig.move()
    assert (rig.source.crashes, rig.source.remembered) == ({}, [("queue", NEW.crash_id)])
    assert rig.on_remembered == ["queue"]
    assert rig.steps == [("moved", "one"), ("moved", "two"), ("removed", "memory")]
    rig.source.add(2)
    assert rig.move(2)  # while the queue has its pause, it is not even tried
    assert rig.queue.got == []
    assert len(rig.source.remembered) == 2


def test_a_queue_that_hangs_is_not_waited_for_for_long() -> None:
    rig = Rig()
    rig.queue.hangs = []
    moving = Deferred.fromCoroutine(rig.mover.move(rig.source, NEW))
    rig.clock.advance(5.1)
    assert rig.source.remembered == [("queue", NEW.crash_id)]
    assert moving.called


def test_an_id_that_can_neither_be_published_nor_remembered_keeps_its_crash_here() -> None:
    rig = Rig()
    rig.queue.fails = True
    rig.source.fails["remember"] = StorageError("read-only")
    assert not rig.move()
    assert list(rig.source.crashes) == [NEW.crash_id]
    assert rig.source.claimed == set()
    rig.queue.fails = False
    assert rig.move_later()
    assert rig.got == [1, 1, 1]
    assert rig.source.remembered == []


def test_what_was_remembered_is_not_published_as_well() -> None:
    rig = Rig()
    rig.queue.fails = True
    rig.source.fails["remove"] = StorageError("read-only")
    assert not rig.move()
    rig.queue.fails = False
    rig.source.fails.clear()
    assert rig.move_later()
    assert (rig.queue.got, len(rig.source.remembered)) == ([], 1)


def test_a_crash_that_somebody_else_has_removed_is_not_the_fault_of_a_destination() -> None:
    rig = Rig()
    rig.one.fails = True
    rig.source.stolen = True
    assert rig.move()
    assert not rig.mover.is_backing_off(NEW)
    assert [sink.problem for sink in rig.sinks] == ["", "", ""]
    assert (rig.got, rig.on_event, rig.source.claimed) == ([0, 0, 0], [], set())


@for_each(("since", "got"), [((1,), [1, 1, 1]), ((2,), [2, 2, 1])])
def test_sinks_that_have_confirmed_one_version_get_another_version_again(since: tuple[int], got: list[int]) -> None:
    """Another process may have acknowledged the crash since: perhaps a sink which had it, and has moved it back."""
    rig = Rig()
    crash = rig.source.crashes[NEW.crash_id]
    rig.source.crashes[NEW.crash_id] = evolve(crash, source_version=(1,))
    rig.queue.fails = True
    rig.source.fails["remember"] = StorageError("read-only")
    assert not rig.move()
    rig.source.crashes[NEW.crash_id] = evolve(crash, source_version=since)
    rig.queue.fails = False
    assert rig.move_later()
    assert rig.got == got


def test_after_a_restart_it_is_done_again() -> None:
    rig = Rig()
    rig.two.fails = True
    assert not rig.move()
    rig.two.fails = False
    rig.restart()
    assert rig.move()
    assert rig.got == [2, 1, 1]


def test_nothing_is_published_before_it_is_at_its_destinations() -> None:
    rig = Rig()
    rig.two.hangs = []
    Deferred.fromCoroutine(rig.mover.move(rig.source, NEW))
    assert rig.got == [1, 0, 0]
    rig.two.hangs.pop().callback(None)
    assert rig.got == [1, 1, 1]


def test_broken_crashes_go_to_the_quarantine() -> None:
    rig = Rig()
    rig.source.broken[NEW.crash_id] = UnreadableCrash("a dump is missing")
    assert rig.move()
    assert rig.source.quarantined == {NEW.crash_id: "a dump is missing"}
    assert rig.got == [0, 0, 0]
    assert rig.steps == [("quarantined", "memory")]
    assert rig.on_event[0].about == {"place": "a dump is missing"}


def test_a_quarantine_that_fails_is_tried_again() -> None:
    rig = Rig()
    rig.source.broken[NEW.crash_id] = UnreadableCrash("a dump is missing")
    rig.source.fails["quarantine"] = StorageError("full")
    assert not rig.move()
    assert rig.on_event == []
    assert rig.mover.is_backing_off(NEW)
    del rig.source.fails["quarantine"]
    assert rig.move()
    assert list(rig.source.quarantined) == [NEW.crash_id]


def test_what_can_t_be_read_time_and_again_goes_to_the_quarantine() -> None:
    rig = Rig()
    rig.source.broken[NEW.crash_id] = StorageError("Permission denied")

    def move_both() -> bool:
        rig.source.add(2)
        assert result_of(rig.mover.move(rig.source, NewCrash(crash_id(2), "")))
        return rig.move()

    assert [move_both() for _ in range(6)] == [False] * 5 + [True]
    assert rig.source.quarantined == {NEW.crash_id: "Permission denied"}


def test_only_reads_that_fail_one_after_the_other_count() -> None:
    rig = Rig()
    rig.one.fails = True
    for read in [False] * 5 + [True] + [False] * 5:
        rig.source.add(2)
        rig.source.broken = {} if read else {NEW.crash_id: StorageError("Permission denied")}
        rig.move_later(2)
        assert not rig.move_later()
    assert rig.source.quarantined == {}


def test_a_source_that_can_t_be_read_puts_nothing_into_the_quarantine() -> None:
    rig = Rig()
    rig.source.broken[NEW.crash_id] = StorageError("Input/output error")
    assert not any(rig.move() for _ in range(100))
    assert rig.source.quarantined == {}
    del rig.source.broken[NEW.crash_id]
    assert rig.move()


def test_no_outage_ever_puts_a_crash_into_the_quarantine() -> None:
    rig = Rig()
    rig.one.fails = True
    assert not any(rig.move_later() for _ in range(100))
    assert rig.source.quarantined == {}
    rig.one.fails = False
    assert rig.move_later()


def test_an_id_that_a_queue_refuses_is_tried_for_ever_and_every_few_minutes() -> None:
    """It is not put into the quarantine, though the others are published: a queue that is full is not its fault."""
    rig = Rig()
    for number in range(2, 40):
        rig.one.raises = IdRefused("the queue is full")
        assert not rig.move()
        assert rig.mover.is_waiting(NEW)
        rig.one.raises = None
        rig.source.add(number)
        assert rig.move(number)
        rig.clock.advance(300 + 1)
        assert not rig.mover.is_backing_off(NEW)
    assert rig.move()
    assert rig.source.quarantined == {}


def test_its_own_pauses_grow_up_to_an_hour() -> None:
    rig = Rig()
    rig.one.refuses.add(NEW.crash_id)
    for _ in range(30):
        assert not rig.move_later()
    rig.clock.advance(3599)
    assert rig.mover.is_backing_off(NEW)
    rig.clock.advance(2)
    assert not rig.mover.is_backing_off(NEW)


@for_each(
    ("error", "tries", "at_least_s"),
    [
        pytest.param(CrashRejectedByStore("one: answered 413"), 6, 30, id="rejected"),
        pytest.param(UnclearRefusal("one: answered 403"), 12, 2000, id="unclear"),
    ],
)
def test_what_a_destination_never_takes_is_put_into_the_quarantine_while_others_are_moved(
    error: Exception, tries: int, at_least_s: float
) -> None:
    rig = Rig()
    for number in range(1, tries + 1):
        assert rig.source.quarantined == {}
        while rig.mover.is_backing_off(NEW):
            rig.clock.advance(1)
        rig.one.raises, rig.one.is_there = error, True
        rig.move_later()
        rig.one.raises = None
        rig.source.add(number + 10)
        assert rig.move_later(number + 10)
    assert rig.source.quarantined == {NEW.crash_id: str(error)}
    assert rig.two.got.count(NEW.crash_id) == 1
    assert rig.clock.seconds() > at_least_s


@for_each("kind", [CrashRejectedByStore, UnclearRefusal])
def test_a_destination_that_takes_nothing_puts_nothing_into_the_quarantine(kind: type[StorageError]) -> None:
    rig = Rig()
    rig.one.raises, rig.one.is_there = kind("one: no"), True
    assert not any(rig.move_later() for _ in range(100))
    assert rig.source.quarantined == {}
    rig.one.raises = None
    assert rig.move_later()


def test_removal_that_fails_sends_nothing_twice() -> None:
    rig = Rig()
    rig.source.fails["remove"] = StorageError("read-only")
    assert not rig.move()
    del rig.source.fails["remove"]
    assert rig.move()
    assert rig.got == [1, 1, 1]


def test_what_is_only_to_be_removed_stays_claimed() -> None:
    """Otherwise another process would deliver it once more."""
    rig = Rig()
    rig.source.fails["remove"] = StorageError("another process has it in hand")
    assert not rig.move()
    assert rig.source.claimed == {NEW.crash_id}
    rig.source.fails.clear()
    assert rig.move()
    assert rig.source.claimed == set()


def test_what_is_to_be_delivered_again_may_be_claimed_by_others() -> None:
    rig = Rig()
    rig.source.fails["remove"] = StorageError("another process has it in hand")
    assert not rig.move()
    rig.source.crashes[NEW.crash_id] = evolve(rig.source.crashes[NEW.crash_id], source_version=(2,))
    rig.one.fails = True
    assert not rig.move()
    assert rig.source.claimed == set()


def test_removed_in_the_meantime() -> None:
    rig = Rig()
    rig.source.crashes.clear()
    assert rig.move()
    assert rig.got == [0, 0, 0]


def test_what_is_remembered_of_crashes_that_fail_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collectord.crashmover.unfinished._MOST", 3)
    rig = Rig()
    rig.one.raises = CrashRejectedByStore("one: no")
    new = [NewCrash(crash_id(number), "") for number in range(1, 6)]
    rig.source.add(*range(1, 6))
    for number in range(1, 6):
        rig.move(number)
    assert [rig.mover.is_backing_off(each) for each in new] == [False, False, True, True, True]
    result_of(rig.mover.move(rig.source, new[2]))
    result_of(rig.mover.move(rig.source, new[0]))
    assert [rig.mover.is_backing_off(each) for each in new] == [True, False, True, False, True]


def test_a_crash_that_was_moved_is_forgotten() -> None:
    rig = Rig()
    rig.two.fails = True
    assert not rig.move()
    rig.two.fails = False
    assert rig.move_later()
    rig.source.add(1)
    assert rig.move()
    assert rig.got == [2, 2, 2]


def test_while_too_many_wait_for_a_destination_that_is_away_no_other_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that have gone to the other destination would be forgotten, and go there again and again."""
    monkeypatch.setattr("collectord.crashmover.unfinished._MOST", 2)
    rig = Rig()
    rig.source.add(2, 3)
    rig.two.fails = True
    rig.move(1)
    ready = Deferred.fromCoroutine(rig.mover.ready())
    assert ready.called
    rig.move(2)
    ready = Deferred.fromCoroutine(rig.mover.ready())
    assert not ready.called
    rig.two.fails = False
    rig.clock.advance(1.1)
    assert ready.called
