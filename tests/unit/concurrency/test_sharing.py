"""
Work that is shared: done once for all who ask meanwhile, whatever becomes of each of them.
"""

import gc
import weakref
from collections.abc import Sequence
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred

from collectord.concurrency.sharing import Batches, SingleFlight


@define(eq=False)
class Work:
    """Each time it is begun it waits for one of C{begun}."""

    begun: list[Deferred[str]] = field(factory=list)

    async def __call__(self) -> str:
        done: Deferred[str] = Deferred()
        self.begun.append(done)
        return await done


def fired(waiter: Deferred[str]) -> list[Any]:
    results: list[Any] = []
    waiter.addCallbacks(results.append, lambda failure: results.append(failure.type))
    return results


def test_once_for_all_who_ask_meanwhile() -> None:
    work = Work()
    shared = SingleFlight(work)
    results = [fired(shared()) for _ in range(5000)]
    assert len(work.begun) == 1
    work.begun[0].callback("done")
    assert results == [["done"]] * 5000


def test_again_for_who_asks_afterwards() -> None:
    work = Work()
    shared = SingleFlight(work)
    first = fired(shared())
    work.begun[0].callback("one")
    second = fired(shared())
    assert (first, second, len(work.begun)) == (["one"], [], 2)
    work.begun[1].callback("two")
    assert second == ["two"]


def test_a_failure_is_everybodys() -> None:
    work = Work()
    shared = SingleFlight(work)
    results = [fired(shared()) for _ in range(3)]
    work.begun[0].errback(OSError("no"))
    assert results == [[OSError]] * 3
    fired(shared())
    assert len(work.begun) == 2


def test_cancelling_ends_the_waiting_and_not_the_work() -> None:
    work = Work()
    shared = SingleFlight(work)
    gone = shared()
    results = [fired(gone), fired(shared())]
    gone.cancel()
    assert results == [[CancelledError], []]
    work.begun[0].callback("done")
    assert results == [[CancelledError], ["done"]]


def test_nobody_waits_any_more() -> None:
    work = Work()
    shared = SingleFlight(work)
    gone = shared()
    fired(gone)
    gone.cancel()
    after = fired(shared())
    assert (after, len(work.begun)) == ([], 1)
    work.begun[0].errback(OSError("no"))
    assert after == [OSError]


def test_who_is_told_may_cancel_another_and_ask_again() -> None:
    work = Work()
    shared = SingleFlight(work)
    first, second = shared(), shared()
    again: list[list[Any]] = []

    def act(result: str) -> None:
        second.cancel()
        again.append(fired(shared()))

    first.addCallback(act)
    results = fired(second)
    work.begun[0].callback("done")
    assert (results, again, len(work.begun)) == ([CancelledError], [[]], 2)
    work.begun[1].callback("next")
    assert again == [["next"]]


def test_work_that_never_waits() -> None:
    async def at_once() -> str:
        return "done"

    assert fired(SingleFlight(at_once)()) == ["done"]


def test_who_waits_no_more_is_let_go_while_the_work_goes_on() -> None:
    work = Work()
    shared = SingleFlight(work)
    waiter = shared()
    assert fired(waiter) == []
    waiter.cancel()
    of_it = weakref.ref(waiter)
    del waiter
    gc.collect()
    assert of_it() is None
    work.begun[0].callback("done")


# ——— batches ———


class Worker:
    """Does a batch when it is told to."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.ends: list[Deferred[Sequence[Exception | None]]] = []
        self.batch = Batches(self._work)

    async def _work(self, items: Sequence[int]) -> Sequence[Exception | None]:
        self.batches.append(list(items))
        self.ends.append(Deferred())
        return await self.ends[-1]


def test_what_comes_while_a_batch_is_done_is_the_next_one() -> None:
    worker, done = Worker(), list[int]()
    for item in range(4):
        worker.batch(item).addCallback(lambda _: done.append(len(done)))
    assert worker.batches == [[0]]
    worker.ends[0].callback([None])
    assert (worker.batches, done) == ([[0], [1, 2, 3]], [0])
    worker.ends[1].callback([None] * 3)
    assert done == [0, 1, 2, 3]
    worker.batch(4)
    assert worker.batches[2:] == [[4]]


def test_each_of_a_batch_has_its_own_error_or_all_have_one() -> None:
    worker, failed = Worker(), list[object]()
    worker.batch(0)
    worker.batch(1).addErrback(lambda why: failed.append((1, why.type)))
    worker.batch(2).addErrback(lambda why: failed.append((2, why.type)))
    worker.ends[0].callback([None])
    worker.ends[1].callback([None, ValueError()])
    assert failed == [(2, ValueError)]
    worker.batch(3).addErrback(lambda why: failed.append((3, why.type)))
    worker.ends[2].errback(OSError())
    assert failed == [(2, ValueError), (3, OSError)]


def test_who_is_cancelled_waits_no_longer_and_stops_nobody() -> None:
    worker, done = Worker(), list[int]()
    first = worker.batch(0).addErrback(lambda _: None)
    worker.batch(1).addCallback(lambda _: done.append(1))
    first.cancel()
    worker.ends[0].callback([None])
    worker.ends[1].callback([None])
    assert done == [1]
