"""
Work that is shared: done once for all who ask meanwhile, whatever becomes of each of them.
"""

import gc
import weakref
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred

from collectord.concurrency.sharing import SingleFlight


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
