from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from collectord.concurrency.threadpool import at_once
from collectord.judge import Judge
from collectord.metrics import REGISTRY
from collectord.model import Annotations
from collectord.throttle import Always, Matches, RateSample, Result, Rule, Sample, Verdict
from collectord.throttle.counts import RateCounts, Tally
from collectord.throttle.traits import Traits
from tests.unit.intake.parts import LogRecorder, result_of

RATE = RateSample(per="fingerprint", first=2, hours=1, below=Result.CONTINUE, above=Result.REJECT)
FLOOD = Rule("flood", "*", Always(), RATE)
REST = Rule("rest", "*", Always(), Result.ACCEPT)
LONG = "x" * 1_000_000


class Thread:
    """A thread that works when it is told."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[[], object], Deferred[object]]] = []

    def __call__(self, work: Callable[[], object]) -> Deferred[object]:
        done: Deferred[object] = Deferred()
        self.waiting.append((work, done))
        return done

    def work(self) -> None:
        work, done = self.waiting.pop(0)
        done.callback(work())


def judge_by(rules: Sequence[Rule], thread: Thread | None = None, roll: float = 0) -> Judge:
    counts = RateCounts(lambda: 0.0)
    counts.use(rules)
    in_thread: Any = at_once if thread is None else thread
    return Judge(rules, counts, lambda: roll, lambda: date(2024, 3, 1), in_thread)


def judged(judge: Judge, annotations: Annotations | None = None, report_id: str | None = None) -> tuple[Verdict, Tally]:
    found = result_of(Deferred.fromCoroutine(judge.judge(annotations or {}, Traits(fingerprint="1:a"), report_id)))
    return found.verdict, found.tally


def count_of(side: str) -> float:
    return REGISTRY.get_sample_value("collectord_rate_reports_total", {"rule": "flood", "side": side}) or 0.0


def broken(value: str) -> bool:
    raise ZeroDivisionError


def test_rules_are_applied_and_reports_are_counted() -> None:
    below, above = count_of("below"), count_of("above")
    judge = judge_by([FLOOD, REST])
    verdicts = [judged(judge)[0] for _ in range(5)]
    assert [verdict.result.name for verdict in verdicts] == ["ACCEPT"] * 2 + ["REJECT"] * 3
    assert (count_of("below") - below, count_of("above") - above) == (2, 3)


def test_a_report_that_comes_again_is_counted_once() -> None:
    below = count_of("below")
    judge = judge_by([FLOOD, REST])
    for _ in range(5):
        assert judged(judge, report_id="r")[0] == REST.below
    assert count_of("below") - below == 1


def test_what_a_later_rule_rejects_uses_up_nothing() -> None:
    judge = judge_by([FLOOD, Rule("half", "*", Always(), Sample(50, Result.ACCEPT, Result.REJECT))], roll=50)
    verdicts = [judged(judge)[0].rule for _ in range(10)]
    assert verdicts == ["half"] * 10


@pytest.mark.parametrize("text", ["short", LONG], ids=["at once", "on a thread"])
def test_a_rule_that_breaks_costs_no_crash(text: str, log: LogRecorder) -> None:
    judge = judge_by([FLOOD, Rule("b", "A", broken, Result.REJECT), Rule("m", "A", Matches("x+y+z"), Result.REJECT)])
    assert judged(judge, {"A": text})[0] == Verdict(Result.ACCEPT, "BROKEN_RULE", 100)
    (failure,) = log.events
    log.events.clear()
    assert failure["log_failure"].check(ZeroDivisionError)


def test_rules_that_may_take_long_are_tried_on_a_thread_but_counted_on_this_one() -> None:
    thread = Thread()
    judge = judge_by([Rule("m", "A", Matches("z"), Result.IGNORE), FLOOD, REST], thread)
    assert judged(judge, {"A": "short"})[0] == REST.below
    assert thread.waiting == []
    found = [
        Deferred.fromCoroutine(judge.judge({"A": LONG}, Traits(fingerprint="1:a"), None)),
        Deferred.fromCoroutine(judge.judge({"A": LONG + "z"}, Traits(fingerprint="1:a"), None)),
    ]
    assert judged(judge)[1].sampled == {"seen": 2, "kept": 2}
    thread.work()
    thread.work()
    assert [result_of(each).verdict for each in found] == [FLOOD.above, Verdict(Result.IGNORE, "m", 100)]


def test_long_annotations_that_are_counted_by_are_looked_at_on_a_thread() -> None:
    thread = Thread()
    by_text = Rule(
        "by_text", "*", Always(), RateSample(per=["A"], first=1, hours=1, below=Result.ACCEPT, above=Result.REJECT)
    )
    judge = judge_by([by_text], thread)
    assert judged(judge, {"A": "short"})[0] == by_text.below
    found = Deferred.fromCoroutine(judge.judge({"A": LONG * 3}, Traits(), None))
    thread.work()
    assert result_of(found).verdict == by_text.below
