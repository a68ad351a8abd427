"""
The seam to threads.
"""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from threading import Barrier, Event, Thread, current_thread, get_ident
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from collectord.concurrency.threadpool import ThreadPool

SOON = 10.0
pytestmark = pytest.mark.timeout(30)


class Pump:
    """What came from threads, to be done here."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...]]] = SimpleQueue()

    def __call__(self, function: Callable[..., Any], *args: Any) -> None:
        self._calls.put((function, args))

    def turn(self) -> None:
        """Do the next."""
        function, args = self._calls.get(timeout=SOON)
        function(*args)

    def is_empty(self) -> bool:
        return self._calls.empty()


@pytest.fixture
def pump() -> Pump:
    return Pump()


def test_results(pump: Pump) -> None:
    workers = ThreadPool("test", 2, pump)
    results: list[int] = []
    for n in range(5):
        workers(lambda n=n: n * n).addCallback(results.append)  # type: ignore[misc]
    assert results == []
    while len(results) < 5:
        pump.turn()
    assert sorted(results) == [0, 1, 4, 9, 16]


def test_results_that_come_before_the_reactor_turns_wake_it_once(pump: Pump) -> None:
    workers = ThreadPool("test", 1, pump)
    results: list[int] = []
    last = Event()
    for n in range(5):
        workers(lambda n=n: n).addCallback(results.append)  # type: ignore[misc]
    workers.do(last.set)
    assert last.wait(SOON)
    pump.turn()
    assert results == [0, 1, 2, 3, 4]
    assert pump.is_empty()
    workers(lambda: 5).addCallback(results.append)
    pump.turn()
    assert results[-1] == 5


def test_results_that_come_while_others_are_given_wait_for_the_next_turn(pump: Pump) -> None:
    """Or the reactor would do nothing else as long as each result leads to more work."""
    workers = ThreadPool("test", 1, pump)
    results: list[int] = []

    def go_on(number: int) -> None:
        results.append(number)
        if number < 3:
            there = Event()
            workers(lambda: number + 1).addCallback(go_on)
            workers.do(there.set)
            assert there.wait(SOON)

    workers(lambda: 0).addCallback(go_on)
    for turns in range(1, 5):
        pump.turn()
        assert len(results) == turns
    assert pump.is_empty()


def test_the_work_is_done_elsewhere_and_the_result_comes_here(pump: Pump) -> None:
    workers = ThreadPool("test", 1, pump)
    reported: list[tuple[str, int]] = []
    workers(lambda: current_thread().name).addCallback(lambda name: reported.append((name, get_ident())))
    pump.turn()
    assert reported == [("test-1", get_ident())]


@pytest.mark.parametrize("error", [OSError(5, "injected"), ValueError("odd"), SystemExit(1)])
def test_failures(pump: Pump, error: BaseException) -> None:
    workers = ThreadPool("test", 1, pump)

    def fail() -> None:
        raise error

    failed: list[BaseException | None] = []
    workers(fail).addErrback(lambda failure: failed.append(failure.value))
    pump.turn()
    assert failed == [error]
    well: list[str] = []
    workers(lambda: "well").addCallback(well.append)
    pump.turn()
    assert well == ["well"]


def test_cancelling_stops_the_waiting_not_the_work(pump: Pump) -> None:
    workers = ThreadPool("test", 1, pump)
    go, done = Event(), Event()

    def work() -> None:
        assert go.wait(SOON)
        done.set()

    waiting: Deferred[None] = workers(work)
    failed: list[BaseException | None] = []
    waiting.addErrback(lambda failure: failed.append(failure.value))
    waiting.cancel()
    assert isinstance(failed[0], CancelledError)
    assert not done.is_set()
    go.set()
    pump.turn()
    assert done.is_set()
    assert len(failed) == 1


def test_so_many_at_a_time(pump: Pump) -> None:
    workers = ThreadPool("test-many", 3, pump)
    together = Barrier(3)  # it opens for three at a time only
    results: list[int] = []
    for _ in range(6):
        workers(lambda: together.wait(SOON)).addCallback(results.append)
    while len(results) < 6:
        pump.turn()
    assert sorted(results) == [0, 0, 1, 1, 2, 2]
    assert len(threads("test-many")) == 3


def test_threads_start_when_needed_and_do_not_hold_up_the_end(pump: Pump) -> None:
    workers = ThreadPool("test-lazy", 2, pump)
    assert threads("test-lazy") == []
    workers(lambda: None)
    pump.turn()
    assert len(threads("test-lazy")) == 1
    for _ in range(9):
        workers(lambda: None)
        pump.turn()
    assert len(threads("test-lazy")) == 2
    assert all(thread.daemon for thread in threads("test-lazy"))


def test_no_thread_can_be_started(pump: Pump, monkeypatch: pytest.MonkeyPatch) -> None:
    """The work fails, or is done by the threads that there are, and the next work starts another."""
    workers = ThreadPool("test-full", 2, pump)
    done: list[str] = []
    failed: list[BaseException] = []

    def cannot_start(_: Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as crowded:
        crowded.setattr(Thread, "start", cannot_start)
        workers(lambda: "never").addCallbacks(done.append, lambda failure: failed.append(failure.value))
    assert [str(error) for error in failed] == ["[Errno 11] can't start new thread"]
    workers(lambda: "first").addCallback(done.append)
    pump.turn()
    with monkeypatch.context() as crowded:
        crowded.setattr(Thread, "start", cannot_start)
        workers(lambda: "second").addCallback(done.append)
        pump.turn()
    assert len(threads("test-full")) == 1
    workers(lambda: "third").addCallback(done.append)
    pump.turn()
    assert done == ["first", "second", "third"]
    assert len(threads("test-full")) == 2


def threads(name: str) -> list[Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(name)]
