import gc

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from collectord.concurrency.tasks import gather, spawn
from tests.unit.intake.parts import recorded_log


async def until(event: Deferred[int]) -> int:
    return await event


def test_what_is_spawned_begins_at_once_and_ends_without_a_word() -> None:
    event: Deferred[int] = Deferred()
    with recorded_log() as log:
        done = spawn(until(event), Logger(), "it failed")
        assert not done.called
        event.callback(3)
    assert done.result is None
    assert log.events == []


def test_what_is_spawned_and_fails_is_logged_with_its_fields() -> None:
    event: Deferred[int] = Deferred()
    with recorded_log() as log:
        done = spawn(until(event), Logger(), "{store} could not be counted", store="/a")
        event.errback(OSError("no space"))
    assert done.result is None
    (logged,) = log.events
    assert (logged["store"], logged["log_failure"].value.args) == ("/a", ("no space",))
    assert logged["log_format"] == "{store} could not be counted"


def test_results_come_in_the_order_of_the_works() -> None:
    events: list[Deferred[int]] = [Deferred() for _ in range(3)]
    gathered = Deferred.fromCoroutine(gather(map(until, events)))
    for number in (2, 0, 1):
        assert not gathered.called
        events[number].callback(number)
    assert gathered.result == [0, 1, 2]


def test_the_first_error_is_raised_as_it_is_and_no_other_is_left_unhandled() -> None:
    events: list[Deferred[int]] = [Deferred() for _ in range(3)]
    gathered = Deferred.fromCoroutine(gather(map(until, events)))
    reported: list[Failure] = []
    gathered.addErrback(reported.append)
    first = OSError("first")
    events[1].errback(first)
    assert [failure.value for failure in reported] == [first]
    with recorded_log() as log:
        events[0].errback(OSError("second"))
        events[2].callback(2)
        del events, gathered, reported, first
        gc.collect()
    assert log.events == []


def test_cancelling_cancels_all_of_them() -> None:
    cancelled: list[int] = []
    events: list[Deferred[int]] = [Deferred(lambda _, number=number: cancelled.append(number)) for number in range(3)]  # type: ignore[misc]
    gathered = Deferred.fromCoroutine(gather(map(until, events)))
    gathered.cancel()
    reported: list[Failure] = []
    gathered.addErrback(reported.append)
    assert cancelled == [0, 1, 2]
    assert reported[0].check(CancelledError) is not None


def test_of_nothing_comes_nothing() -> None:
    assert Deferred.fromCoroutine(gather([])).result == []
