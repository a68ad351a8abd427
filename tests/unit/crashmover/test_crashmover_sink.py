"""
An outlet: confirmed, in time, or left alone for a pause that grows.
"""

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent

from collectord.crashmover.sink import LONGEST_PAUSE_S, pause_after
from collectord.errors import CrashRejectedByStore, StorageError, StoreTimeout
from tests.unit.crashmover.places import FakeSink
from tests.unit.intake.parts import result_of
from tests.unit.storage.stores import make_crash


def test_pauses_grow_up_to_a_limit() -> None:
    assert [pause_after(n, 0.5) for n in (1, 2, 3, 6, 7, 1000)] == [1, 2, 4, 32, LONGEST_PAUSE_S, LONGEST_PAUSE_S]


def test_pauses_differ() -> None:
    assert [pause_after(3, chance) for chance in (0.0, 1.0)] == [3.0, 5.0]


def ready(outlet: object) -> list[bool]:
    """True is in it once the outlet is ready."""
    told: list[bool] = []
    Deferred.fromCoroutine(outlet.ready()).addCallback(lambda _: told.append(True))  # type: ignore[attr-defined]
    return told


def test_ready_without_verification() -> None:
    sink = FakeSink("one")
    assert ready(sink.outlet(Clock())) == [True]
    assert sink.checks == 0


def test_verified_once_before_the_first_crash() -> None:
    sink = FakeSink("one")
    outlet = sink.outlet(Clock(), verify=True)
    assert ready(outlet) == ready(outlet) == [True]
    assert sink.checks == 1


def test_left_alone_until_a_check_finds_it_well() -> None:
    clock, sink = Clock(), FakeSink("one", fails=True)
    outlet = sink.outlet(clock)
    with pytest.raises(StorageError):
        result_of(outlet.give(make_crash()))
    told = [ready(outlet), ready(outlet)]
    clock.advance(1)
    assert (told, sink.checks) == ([[], []], 1)
    sink.fails = False
    clock.advance(1.9)
    assert told == [[], []]
    clock.advance(0.2)
    assert (told, sink.checks) == ([[True], [True]], 2)
    result_of(outlet.give(make_crash()))


def test_success_makes_the_next_pause_short_again() -> None:
    clock, sink = Clock(), FakeSink("one", fails=True)
    outlet = sink.outlet(clock)
    for pause in (1, 2, 4):
        with pytest.raises(StorageError):
            result_of(outlet.give(make_crash()))
        clock.advance(pause)
    sink.fails = False
    result_of(outlet.give(make_crash()))
    sink.fails = True
    with pytest.raises(StorageError):
        result_of(outlet.give(make_crash()))
    sink.fails = False
    told = ready(outlet)
    clock.advance(1)
    assert told == [True]


def test_many_failures_at_once_count_as_one() -> None:
    clock, sink = Clock(), FakeSink("one", fails=True)
    outlet = sink.outlet(clock)
    for _ in range(8):
        with pytest.raises(StorageError):
            result_of(outlet.give(make_crash()))
    sink.fails = False
    told = ready(outlet)
    clock.advance(1)
    assert told == [True]


def test_what_hangs_is_given_up() -> None:
    clock, sink = Clock(), FakeSink("one", hangs=[])
    failures: list[object] = []
    Deferred.fromCoroutine(sink.outlet(clock, timeout=5).give(make_crash())).addErrback(failures.append)
    clock.advance(4.9)
    assert failures == []
    clock.advance(0.2)
    assert failures[0].check(StoreTimeout)  # type: ignore[attr-defined]
    assert sink.got == []


def test_a_place_that_refuses_one_crash_is_not_left_alone() -> None:
    sink = FakeSink("one", raises=CrashRejectedByStore("one: too large"))
    outlet = sink.outlet(Clock())
    with pytest.raises(CrashRejectedByStore):
        result_of(outlet.give(make_crash()))
    assert ready(outlet) == [True]
    assert (outlet.problem, outlet.failed, sink.checks) == ("", 0, 0)


def test_a_defect_is_told_and_holds_up_this_crash_only(logged_failures: list[LogEvent]) -> None:
    sink = FakeSink("one", raises=KeyError("Version"))
    outlet = sink.outlet(Clock())
    with pytest.raises(CrashRejectedByStore, match="one: KeyError: 'Version'"):
        result_of(outlet.give(make_crash()))
    assert ready(outlet) == [True]
    assert len(logged_failures) == 1
    logged_failures.clear()


def test_a_check_with_a_defect_is_a_failed_check(logged_failures: list[LogEvent]) -> None:
    clock, sink = Clock(), FakeSink("one", raises=KeyError("bucket"))
    outlet = sink.outlet(clock, verify=True)
    told = ready(outlet)
    assert (told, outlet.problem) == ([], "'bucket'")
    logged_failures.clear()
    sink.raises = None
    clock.advance(1)
    assert (told, outlet.problem) == ([True], "")


def test_tried_at_the_start() -> None:
    clock, sink = Clock(), FakeSink("one", fails=True)
    outlet = sink.outlet(clock, verify=True)
    result_of(outlet.try_out())
    assert (outlet.problem, outlet.failed, outlet.resumes_in) == ("one is not there", 1, 1.0)
    unverified = FakeSink("two").outlet(clock)
    result_of(unverified.try_out())
    assert unverified.problem == ""
