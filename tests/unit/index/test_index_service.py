"""
The index as a service: it never holds anything up, tells a failure once, and answers questions.
"""

import sqlite3
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import pytest
from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from collectord.concurrency.threadpool import ThreadPool, at_once
from collectord.errors import IndexUnavailable
from collectord.index.counted import CountedSoFar
from collectord.index.day import CountedNow
from collectord.index.gap import IndexSources
from collectord.index.intake import IntakeCounts
from collectord.index.products import ProductCounter
from collectord.index.service import CrashIndex
from collectord.index.values import SeenKept
from collectord.index.writer import IndexFile, IndexLimits, index_path, remove_index
from collectord.metrics import REGISTRY
from collectord.model import CrashEvent, CrashFacts
from collectord.telling import SeenReport

T = TypeVar("T")

NOW = 1466590000.0


class AtOnce(ThreadPool):
    """Does all work here and now."""

    def __init__(self) -> None:
        super().__init__("", 0, lambda function, *arguments: None)

    def __call__(self, work: Callable[[], T], /) -> Deferred[T]:
        return at_once(work)


def kept(number: int) -> CrashEvent:
    crash_id = f"{number:08x}-57c6-4e5d-b2cf-cabde2160622"
    return CrashEvent(at=NOW + number / 1000, crash_id=crash_id, kind="kept", where="/a", about={"product": "App"})


def seen(fingerprint: str) -> SeenReport:
    facts = CrashFacts(fingerprint=fingerprint, place="there")
    return SeenReport(at=NOW, product="App", version="1.0", facts=facts, became="left_out", rule="flood")


def answer(question: Coroutine[Any, Any, T]) -> T:
    answers: list[T | Failure] = []
    Deferred.fromCoroutine(question).addBoth(answers.append)
    (found,) = answers
    if isinstance(found, Failure):
        found.raiseException()
    return found


@define
class Rig:
    """An index whose time is turned by hand, and whose threads are none."""

    directory: Path
    enabled: bool = True
    clock: Clock = field(factory=Clock)
    asked: list[float] = field(factory=list)
    events: list[CrashEvent] = field(factory=list)
    totals: IntakeCounts = IntakeCounts()  # noqa: RUF009
    index: CrashIndex = field(init=False)

    def __attrs_post_init__(self) -> None:
        limits = IndexLimits(keep_s=30 * 86400.0, max_bytes=10_000_000)
        file = IndexFile(str(self.directory), ["/a"], limits, IndexSources(self._since))
        self.index = CrashIndex(
            str(self.directory),
            file if self.enabled else None,
            lambda: CountedSoFar(intake=self.totals, rest=CountedNow(counters={}, gauges={})),
            ProductCounter(),
            AtOnce(),
            AtOnce(),
            lambda: NOW + self.clock.seconds(),
            self.clock,
        )

    def _since(self, at: float) -> Iterator[CrashEvent]:
        self.asked.append(at)
        return iter(self.events)

    def run(self, seconds: float) -> None:
        self.clock.pump([0.1] * round(seconds * 10))


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "index")


def failures() -> float:
    return REGISTRY.get_sample_value("collectord_index_failures_total") or 0.0


def ids(rig: Rig) -> list[int]:
    return [int(crash.crash_id[:8], 16) for crash in answer(rig.index.reader.last(100))]


def test_what_happens_can_be_asked_for_a_second_later(rig: Rig) -> None:
    rig.index.startService()
    rig.index.note(kept(1))
    rig.index.note_seen(seen("1:a"))
    rig.index.note_tally(([["1:b", "Viewer", "2.0", 3, 1]], []))
    rig.run(6)
    assert ids(rig) == [1]
    assert [each.fingerprint for each in answer(rig.index.reader.top("day")).fingerprints] == ["1:a"]
    assert [(each.product, each.day) for each in answer(rig.index.reader.products()).products] == [
        ("Viewer", SeenKept(3, 1)),
        ("App", SeenKept(1, 0)),
    ]
    assert answer(rig.index.reader.search("product:App")).count == 1
    assert answer(rig.index.reader.fingerprint("1:a")) is not None
    assert answer(rig.index.reader.neighbours(kept(1).crash_id, "1:a")) is not None
    assert answer(rig.index.reader.crash(kept(1).crash_id)) is not None


def test_a_stop_writes_what_waits(rig: Rig) -> None:
    rig.index.startService()
    rig.run(2)
    rig.index.note(kept(1))
    stopped: list[None] = []
    rig.index.stopService().addCallback(stopped.append)
    assert stopped == [None]
    again = Rig(rig.directory)
    assert ids(again) == [1]


def test_history_outlives_a_restart(rig: Rig) -> None:
    rig.index.startService()
    rig.run(10)
    rig.totals = IntakeCounts(received=100.0)
    rig.run(10)
    rig.index.stopService()
    again = Rig(rig.directory, clock=rig.clock)
    again.index.startService()
    again.run(10)
    assert again.index.reader.history("24h").sums.received == pytest.approx(100.0)


def test_a_failure_is_told_once_and_nothing_is_lost(rig: Rig) -> None:
    rig.directory.write_text("a file")
    before = failures()
    with capturedLogs() as logs:
        rig.index.startService()
        rig.index.note(kept(1))
        rig.run(30)
        assert failures() >= before + 5
        rig.directory.unlink()
        rig.run(10)
    texts = [log["log_format"] for log in logs if "the index" in log.get("log_format", "")]
    assert texts == ["the index of crashes can't be written: {why}", "the index of crashes is written again"]
    assert ids(rig) == [1]


def test_a_failure_to_save_what_was_counted_is_told_once(rig: Rig) -> None:
    rig.directory.joinpath("history.json.tmp").mkdir(parents=True)
    with capturedLogs() as logs:
        rig.index.startService()
        rig.run(200)
        rig.directory.joinpath("history.json.tmp").rmdir()
        rig.run(100)
    texts = [log["log_format"] for log in logs if log["log_format"]]
    assert texts == ["what was counted can't be written: {why}", "what was counted is written again"]


def test_what_can_not_be_written_is_bounded_and_read_again_later(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collectord.index.service._LIMIT", 1000)
    rig.directory.write_text("a file")
    with capturedLogs():
        rig.index.startService()
        for number in range(1001):
            rig.index.note(kept(number))
        rig.run(6)
        rig.directory.unlink()
        rig.run(6)
    assert len(rig.index._events) == 0
    assert rig.asked[-1] <= NOW
    assert len(answer(rig.index.reader.search("")).crashes) == 24
    assert answer(rig.index.reader.search("")).count == 501


def test_a_damaged_index_is_made_anew_and_told(rig: Rig) -> None:
    rig.directory.mkdir()
    Path(index_path(str(rig.directory))).write_bytes(b"no database" * 1000)
    with capturedLogs() as logs:
        rig.index.startService()
        rig.index.note(kept(1))
        rig.run(10)
    assert ["made anew" in log.get("log_format", "") for log in logs].count(True) == 1
    assert ids(rig) == [1]


def test_a_lost_index_is_made_anew_and_the_log_says_how_far_that_is(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collectord.index.service._TELL_S", 1.0)
    rig.events = [kept(number) for number in range(500)]
    with capturedLogs() as logs:
        rig.index.startService()
        rig.run(5)
        remove_index(str(rig.directory))
        rig.events = [kept(number) for number in range(4500)]
        rig.run(8)
    texts = [log["log_format"].format(**log) for log in logs if "the index" in log.get("log_format", "")]
    rest = "lines of the journal, and 0 crashes that only the stores had"
    assert texts[0] == f"the index of crashes is complete again: 500 {rest}"
    assert texts[1] == "the index of crashes is made anew: the file was removed"
    assert list(dict.fromkeys(text.split(":")[0] for text in texts[2:])) == [
        "the index of crashes is being made again",
        "the index of crashes is complete again",
    ]
    assert texts[-1].endswith(f": 4500 {rest}")


def test_damage_that_a_question_meets_is_mended(rig: Rig) -> None:
    rig.index.startService()
    for number in range(3000):
        rig.index.note(kept(number))
    rig.run(5)
    path = Path(index_path(str(rig.directory)))
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as damaged:
        damaged.seek(20 * 4096)
        damaged.write(b"\x55" * (path.stat().st_size - 20 * 4096))
    with capturedLogs() as logs:
        with pytest.raises(IndexUnavailable):
            answer(rig.index.reader.search("product:Other"))
        rig.events = [kept(7)]
        rig.run(20)
    assert any("made anew" in log.get("log_format", "") for log in logs)
    assert ids(rig) == [7]


def test_without_an_index_there_is_an_answer_to_no_question_but_that_of_history(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "index", enabled=False)
    rig.index.startService()
    rig.index.note(kept(1))
    rig.run(20)
    with pytest.raises(IndexUnavailable, match="enabled is false"):
        answer(rig.index.reader.last())
    assert sum(slot is not None for slot in rig.index.reader.history("10min").slots) > 0


def test_before_the_first_write_there_is_no_answer(rig: Rig) -> None:
    with pytest.raises(IndexUnavailable):
        answer(rig.index.reader.last())


def test_a_question_that_takes_too_long_is_given_up(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collectord.index.reader._STEPS", 100)
    rig.index.startService()
    for number in range(2000):
        rig.index.note(kept(number))
    rig.run(2)
    with pytest.raises(IndexUnavailable, match="too long"):
        answer(rig.index.reader.search("place:nowhere"))


def count_of(product: str, result: str) -> float:
    return REGISTRY.get_sample_value("collectord_product_reports_total", {"product": product, "result": result}) or 0.0


def test_products_beyond_fifty_are_others() -> None:
    counter = ProductCounter(["Expected"])
    before = {name: count_of(name, "kept") for name in ("P0", "P48", "P49", "other", "unnamed", "Expected")}
    for number in range(60):
        counter.note(([["", f"P{number}", "1", 2, 1]], []))
    counter.note(([["", "", "", 1, 1], ["1:a", "Expected", "1", 1, 1]], []))
    got = {name: count_of(name, "kept") - value for name, value in before.items()}
    assert got == {"P0": 1, "P48": 1, "P49": 0, "other": 11, "unnamed": 1, "Expected": 1}


def test_a_product_of_which_nothing_was_kept_has_no_label() -> None:
    before = count_of("other", "not_kept")
    counter = ProductCounter()
    counter.note(([["", "made up", "1", 5, 0]], []))
    assert count_of("made up", "not_kept") == 0
    assert count_of("other", "not_kept") == before + 5
