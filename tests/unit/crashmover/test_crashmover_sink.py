"""
A sink: confirmed, in time, or not used for a pause that grows.
"""

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent

from collectord.errors import CrashRejectedByStore, IdRefused, StorageError, TimedOut
from tests.unit.crashmover.places import FakeSink
from tests.unit.intake.parts import result_of
from tests.unit.storage.stores import make_crash


def ready(sink: object) -> list[bool]:
    """True is in it once the sink is ready."""
    fired: list[bool] = []
    Deferred.fromCoroutine(sink.ready()).addCallback(lambda _: fired.append(True))  # type: ignore[attr-defined]
    return fired


def test_ready_without_verification() -> None:
    fake = FakeSink("one")
    assert ready(fake.as_sink(Clock())) == [True]
    assert fake.checks == 0


def test_verified_once_before_the_first_crash() -> None:
    fake = FakeSink("one")
    sink = fake.as_sink(Clock(), verify=True)
    assert ready(sink) == ready(sink) == [True]
    assert fake.checks == 1


def test_not_used_after_a_failure_until_a_check_succeeds() -> None:
    clock, fake = Clock(), FakeSink("one", fails=True)
    sink = fake.as_sink(clock, verify=True)
    with pytest.raises(StorageError):
        result_of(sink.deliver(make_crash()))
    fired = [ready(sink), ready(sink)]
    clock.advance(1)
    assert (fired, fake.checks) == ([[], []], 1)
    fake.fails = False
    clock.advance(1.9)
    assert fired == [[], []]
    clock.advance(0.2)
    assert (fired, fake.checks) == ([[True], [True]], 2)
    result_of(sink.deliver(make_crash()))


def test_one_that_is_not_to_be_checked_never_is() -> None:
    """Its check may ask for more than its user is allowed to do, and would fail for ever."""
    clock, fake = Clock(), FakeSink("one", fails=True)
    sink = fake.as_sink(clock, verify=False)
    result_of(sink.try_out())
    with pytest.raises(StorageError):
        result_of(sink.deliver(make_crash()))
    fired = ready(sink)
    assert (fired, sink.is_available) == ([], False)
    clock.advance(1)
    assert (fired, sink.is_available) == ([True], True)
    fake.fails, fake.hangs = False, []
    slow = Deferred.fromCoroutine(sink.deliver(make_crash()))
    clock.pump([1.0] * 10)
    fake.hangs.pop().callback(None)
    assert result_of(slow) == 10.0
    assert (fake.checks, sink.problem) == (0, "")


def test_one_that_is_not_to_be_checked_is_not_known_between_a_pause_and_the_next_crash() -> None:
    clock, fake = Clock(), FakeSink("one")
    sink = fake.as_sink(clock, verify=False)
    assert not sink.is_tried
    result_of(sink.deliver(make_crash()))
    clock.advance(1000)
    assert sink.is_tried
    fake.fails = True
    with pytest.raises(StorageError):
        result_of(sink.deliver(make_crash()))
    assert sink.is_tried
    clock.advance(1)
    assert (sink.is_tried, sink.problem) == (False, "one takes nothing")
    fake.fails, fake.hangs = False, []
    slow = Deferred.fromCoroutine(sink.deliver(make_crash()))
    assert sink.is_tried
    fake.hangs.pop().callback(None)
    assert result_of(slow) == 0.0
    assert (sink.is_tried, sink.problem) == (True, "")


def test_one_that_is_checked_is_known_from_the_first_check_on() -> None:
    clock, fake = Clock(), FakeSink("one", fails=True)
    sink = fake.as_sink(clock, verify=True)
    assert not sink.is_tried
    result_of(sink.try_out())
    clock.advance(60)
    assert sink.is_tried
    fake.fails = False
    result_of(sink.try_again())
    assert (sink.is_tried, sink.problem) == (True, "")


def test_success_makes_the_next_pause_short_again() -> None:
    clock, fake = Clock(), FakeSink("one", fails=True)
    sink = fake.as_sink(clock)
    for pause in (1, 2, 4):
        with pytest.raises(StorageError):
            result_of(sink.deliver(make_crash()))
        clock.advance(pause)
    fake.fails = False
    result_of(sink.deliver(make_crash()))
    fake.fails = True
    with pytest.raises(StorageError):
        result_of(sink.deliver(make_crash()))
    fake.fails = False
    fired = ready(sink)
    clock.advance(1)
    assert fired == [True]


def test_an_id_that_is_refused_pauses_no_other() -> None:
    clock, fake = Clock(), FakeSink("one", raises=IdRefused("no"))
    sink = fake.as_sink(clock)
    for _ in range(8):
        with pytest.raises(IdRefused):
            result_of(sink.deliver(make_crash()))
    assert (sink.is_available, sink.failed) == (True, 8)


def test_many_failures_at_once_count_as_one() -> None:
    clock, fake = Clock(), FakeSink("one", fails=True)
    sink = fake.as_sink(clock)
    for _ in range(8):
        with pytest.raises(StorageError):
            result_of(sink.deliver(make_crash()))
    fake.fails = False
    fired = ready(sink)
    clock.advance(1)
    assert fired == [True]


def test_what_hangs_is_given_up() -> None:
    clock, fake = Clock(), FakeSink("one", hangs=[])
    failures: list[object] = []
    Deferred.fromCoroutine(fake.as_sink(clock, timeout=5).deliver(make_crash())).addErrback(failures.append)
    clock.advance(4.9)
    assert failures == []
    clock.advance(0.2)
    assert failures[0].check(TimedOut)  # type: ignore[attr-defined]
    assert fake.got == []


def test_a_sink_that_rejects_one_crash_is_used_for_the_next() -> None:
    fake = FakeSink("one", raises=CrashRejectedByStore("one: too large"))
    sink = fake.as_sink(Clock())
    with pytest.raises(CrashRejectedByStore):
        result_of(sink.deliver(make_crash()))
    assert ready(sink) == [True]
    assert (sink.problem, sink.failed, fake.checks) == ("", 0, 0)


def test_an_unexpected_error_is_logged_and_holds_up_this_crash_only(logged_failures: list[LogEvent]) -> None:
    fake = FakeSink("one", raises=KeyError("Version"))
    sink = fake.as_sink(Clock())
    with pytest.raises(CrashRejectedByStore, match="one: KeyError: 'Version'"):
        result_of(sink.deliver(make_crash()))
    assert ready(sink) == [True]
    assert len(logged_failures) == 1
    logged_failures.clear()


def test_an_unexpected_error_of_a_check_is_a_failed_check(logged_failures: list[LogEvent]) -> None:
    clock, fake = Clock(), FakeSink("one", raises=KeyError("bucket"))
    sink = fake.as_sink(clock, verify=True)
    fired = ready(sink)
    assert (fired, sink.problem) == ([], "'bucket'")
    logged_failures.clear()
    fake.raises = None
    clock.advance(1)
    assert (fired, sink.problem) == ([True], "")


def test_tried_at_the_start() -> None:
    clock, fake = Clock(), FakeSink("one", fails=True)
    sink = fake.as_sink(clock, verify=True)
    result_of(sink.try_out())
    assert (sink.problem, sink.failed, sink.resumes_in) == ("one is not there", 1, 1.0)
    unverified = FakeSink("two").as_sink(clock)
    result_of(unverified.try_out())
    assert unverified.problem == ""


def test_fewer_at_once_after_deliveries_that_were_not_confirmed_in_time() -> None:
    clock, fake = Clock(), FakeSink("one", hangs=[])
    sink = fake.as_sink(clock, timeout=60)
    assert sink.at_once >= 1000
    for fewer in (4, 2, 1, 1):
        for _ in range(min(8, sink.at_once)):
            Deferred.fromCoroutine(sink.deliver(make_crash())).addErrback(lambda _: None)
        clock.advance(61)
        assert sink.at_once == fewer
        result_of(sink.try_again())
        clock.advance(61)
        result_of(sink.try_again())
    fake.hangs = None
    for _ in range(20):
        result_of(sink.deliver(make_crash()))
    assert 5 <= sink.at_once <= 8


def test_as_many_at_once_after_deliveries_that_were_refused() -> None:
    sink = FakeSink("one", fails=True).as_sink(Clock())
    with pytest.raises(StorageError):
        result_of(sink.deliver(make_crash()))
    assert sink.at_once >= 1000


def test_a_shorter_limit_for_one_delivery() -> None:
    clock, fake = Clock(), FakeSink("one", hangs=[])
    failures: list[object] = []
    Deferred.fromCoroutine(fake.as_sink(clock).deliver(make_crash(), longest=5)).addErrback(failures.append)
    clock.advance(5.1)
    assert len(failures) == 1
