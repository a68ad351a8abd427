"""
A report that comes again: while the first is being saved, after it is kept, and where its save fails.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import pytest
from attrs import define, evolve, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import formatEvent
from twisted.python.failure import Failure
from zope.interface import implementer

from collectord.collector import Collector, Outcome
from collectord.duplicates.duplicates import Duplicates
from collectord.duplicates.table import KeptTable
from collectord.errors import AllStoresFailed
from collectord.interfaces import ICrashStorage
from collectord.metrics import REGISTRY
from collectord.model import Annotations, Crash, CrashEvent, CrashReport, Dump, InMemory, Payload
from collectord.storage.chain.chain import FallbackCrashStorage
from collectord.storage.chain.waitingroom import WaitingRoom
from collectord.throttle.results import Result
from collectord.throttle.rules import Verdict
from tests.support.judging import judging
from tests.unit.intake.parts import LogRecorder, result_of

DUMP = Dump(name="upload_file_minidump", size=4, sha256="aa", content=InMemory([b"MDMP"]))
PAYLOAD = Payload(structure="multipart", compressed=False, size=1234, user_agent="Crashpad/1.0")
CHOSEN = "11111111-57c6-4e5d-b2cf-cabde2150101"
WINDOW_S = 3600.0
PATIENCE_S = 40.0
ROOM = 100 * 1024
"""What may wait: six reports with small dumps."""
ACCEPT = Verdict(Result.ACCEPT, "some_rule", 100)


def report(*, token: str | None = None, **annotations: str) -> CrashReport:
    annotations = {"ProductName": "Fenix", **annotations}
    return CrashReport(
        annotations=annotations, dumps=[DUMP], notes=[], payload=PAYLOAD, bearer_token=token, has_minidump=True
    )


@implementer(ICrashStorage)
@define
class Storage:
    """Each save ends when its test says so, unless it is at once."""

    name: str = "memory"
    at_once: bool = False
    saving: list[tuple[Crash, Deferred[str]]] = field(factory=list)
    gone: set[str] = field(factory=set)
    erased: set[str] = field(factory=set)
    asked: list[str] = field(factory=list)
    on_asked: Callable[[str], None] = lambda crash_id: None

    async def has(self, crash_id: str) -> bool:
        self.asked.append(crash_id)
        self.on_asked(crash_id)
        return crash_id not in self.gone

    async def was_erased(self, crash_id: str) -> bool:
        return crash_id in self.erased

    async def save(self, crash: Crash) -> str:
        done: Deferred[str] = Deferred()
        self.saving.append((crash, done))
        if self.at_once:
            done.callback("memory")
        return await done

    async def check(self) -> Mapping[str, int]:
        return {}

    async def close(self) -> None:
        """Nothing to close."""

    def keep(self, number: int) -> str:
        crash, done = self.saving[number]
        done.callback("memory")
        return crash.crash_id

    def fail(self, number: int) -> None:
        self.saving[number][1].errback(AllStoresFailed("no"))


@define
class Rig:
    """Processes, each with a collector, over one table."""

    table: KeptTable = field(factory=KeptTable)
    clock: Clock = field(factory=Clock)
    storage: Storage = field(factory=Storage)
    verdict: Verdict = ACCEPT
    judged: list[Annotations] = field(factory=list)
    events: list[CrashEvent] = field(factory=list)
    waiting_room: WaitingRoom = field(init=False)
    duplicates: Duplicates = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.waiting_room = WaitingRoom(self.clock, seconds=PATIENCE_S, limit=ROOM)
        waiting = FallbackCrashStorage([], self.clock, self.waiting_room).waiting
        self.duplicates = Duplicates(
            self.table, WINDOW_S, self.storage, waiting, self.clock, lambda: 1e9 + self.clock.seconds()
        )

    def judge(self, annotations: Annotations) -> Verdict:
        self.judged.append(annotations)
        return self.verdict

    def collect(self, report: CrashReport, began: float | None = None) -> Deferred[Outcome]:
        collector = Collector(
            judge=judging(self.judge),
            storage=self.storage,
            now=lambda: datetime.fromtimestamp(1e9 + self.clock.seconds(), UTC),
            seconds=self.clock.seconds,
            random=lambda: os.urandom(16),
            token="sesame",
            duplicates=self.duplicates,
            on_event=self.events.append,
        )
        return Deferred.fromCoroutine(collector.collect(report, began))

    def crash_ids(self, outcomes: Sequence[Deferred[Outcome]]) -> list[str | None]:
        return [result_of(outcome).crash_id for outcome in outcomes]


def error_of(outcome: Deferred[Outcome]) -> type[BaseException] | None:
    errors: list[Failure] = []
    outcome.addErrback(errors.append)
    return errors[0].type if errors else None


@pytest.fixture
def rig() -> Rig:
    return Rig()


def counted() -> float:
    return REGISTRY.get_sample_value("collectord_duplicates_total") or 0.0


@pytest.mark.parametrize("result", [Result.ACCEPT, Result.DEFER])
def test_a_report_that_comes_again(rig: Rig, result: Result, log: LogRecorder) -> None:
    before = counted()
    rig.verdict = Verdict(result, "some_rule", 100)
    first = rig.collect(report())
    crash_id = rig.storage.keep(0)
    assert result_of(first) == Outcome(result, "some_rule", crash_id)
    rig.verdict = Verdict(Result.REJECT, "other_rule", 100)
    rig.clock.advance(WINDOW_S)
    again = result_of(rig.collect(report()))
    assert (again.crash_id, again.is_duplicate) == (crash_id, True)
    assert len(rig.storage.saving) == len(rig.judged) == 1
    kept, duplicate = rig.events
    assert (kept.kind, len(str(kept.about["digest"]))) == ("kept", 32)
    assert (duplicate.kind, duplicate.crash_id, duplicate.where) == ("duplicate", crash_id, "")
    assert duplicate.at == 1e9 + WINDOW_S
    assert counted() == before + 1
    assert formatEvent(log.events[-1]) == f"{crash_id} came again: 1234 bytes, not stored once more"


def test_a_deferred_crash_that_is_sent_again_to_be_processed(rig: Rig) -> None:
    rig.storage.at_once = True
    rig.verdict = Verdict(Result.DEFER, "some_rule", 100)
    deferred = rig.collect(report(Throttleable="1"))
    again = rig.collect(report())
    rig.verdict = ACCEPT
    by_hand = rig.collect(report(Throttleable="0"))
    assert result_of(by_hand).result is Result.ACCEPT
    ids = rig.crash_ids([deferred, again, by_hand, *(rig.collect(report(Throttleable=each)) for each in "01")])
    assert ids[0] == ids[1] != ids[2] == ids[3] == ids[4]
    assert len({event.about["digest"] for event in rig.events if event.kind == "kept"}) == 2


@pytest.mark.parametrize(("first", "again"), [("0", "0"), ("1", "1"), ("1", ""), ("", "2")])
def test_a_deferred_crash_that_is_sent_again_as_before(rig: Rig, first: str, again: str) -> None:
    rig.storage.at_once = True
    rig.verdict = Verdict(Result.DEFER, "some_rule", 100)
    ids = rig.crash_ids([rig.collect(report(Throttleable=each)) for each in (first, again)])
    assert ids[0] == ids[1]


def test_a_crash_that_is_not_in_its_store_any_more(rig: Rig) -> None:
    """The one that is stored then takes its place."""
    rig.storage.at_once = True
    first = rig.collect(report())
    rig.storage.gone.add(str(result_of(first).crash_id))
    again, once_more = rig.collect(report()), rig.collect(report())
    ids = rig.crash_ids([first, again, once_more])
    assert ids[0] != ids[1] == ids[2]
    assert rig.storage.asked == [ids[0], ids[1]]


def test_a_crash_that_was_moved_is_not_looked_for(rig: Rig) -> None:
    rig.storage.at_once = True
    first = str(result_of(rig.collect(report())).crash_id)
    rig.storage.gone.add(first)
    rig.table.set_moved(first)
    assert result_of(rig.collect(report())).crash_id == first
    assert rig.storage.asked == []


def test_a_crash_that_is_moved_while_it_is_looked_for(rig: Rig) -> None:
    rig.storage.at_once = True
    first = str(result_of(rig.collect(report())).crash_id)
    rig.storage.gone.add(first)
    rig.storage.on_asked = rig.table.set_moved
    assert result_of(rig.collect(report())).crash_id == first


def test_the_id_of_an_erased_crash_is_not_given_out_again(rig: Rig) -> None:
    rig.storage.at_once = True
    first = str(result_of(rig.collect(report())).crash_id)
    rig.storage.gone.add(first)
    rig.table.set_moved(first)
    rig.storage.erased.add(first)
    second, again = rig.crash_ids([rig.collect(report()), rig.collect(report())])
    assert first != second == again
    assert [crash.crash_id for crash, _ in rig.storage.saving] == [first, second]


def test_after_the_window_it_is_another_crash(rig: Rig) -> None:
    rig.storage.at_once = True
    first = rig.collect(report())
    rig.clock.advance(WINDOW_S + 1)
    ids = rig.crash_ids([first, rig.collect(report()), rig.collect(report())])
    assert ids[0] != ids[1] == ids[2]


def test_no_window(rig: Rig) -> None:
    rig.storage.at_once = True
    rig.duplicates.window = 0
    ids = rig.crash_ids([rig.collect(report()), rig.collect(report())])
    assert len(set(ids)) == 2
    assert "digest" not in rig.events[0].about


def test_another_report_is_stored(rig: Rig) -> None:
    rig.storage.at_once = True
    ids = rig.crash_ids([rig.collect(report()), rig.collect(report(Version="2"))])
    assert len(set(ids)) == 2


def test_it_waits_until_the_first_is_durable(rig: Rig) -> None:
    outcomes = [rig.collect(report()) for _ in range(3)]
    rig.clock.pump([0.1] * 30)
    assert not any(outcome.called for outcome in outcomes)
    assert len(rig.storage.saving) == 1
    crash_id = rig.storage.keep(0)
    rig.clock.pump([0.1] * 15)
    assert rig.crash_ids(outcomes) == [crash_id] * 3
    assert len(rig.storage.saving) == 1
    assert rig.clock.getDelayedCalls() == []


def test_it_takes_over_where_the_first_fails(rig: Rig) -> None:
    first, second, third = [rig.collect(report()) for _ in range(3)]
    rig.storage.fail(0)
    rig.clock.pump([0.1] * 5)
    assert len(rig.storage.saving) == 2
    crash_id = rig.storage.keep(1)
    rig.clock.pump([0.1] * 5)
    assert rig.crash_ids([second, third]) == [crash_id] * 2
    assert error_of(first) is AllStoresFailed
    assert [event.kind for event in rig.events] == ["kept", "duplicate"]


@pytest.mark.parametrize("upload", [0, 15, 39.5])
def test_it_waits_as_long_as_others_since_its_client_began(rig: Rig, upload: float) -> None:
    """Then it is saved, even though the first may still be, and both ids are true."""
    began = rig.clock.seconds()
    rig.clock.advance(upload)
    first, second = rig.collect(report()), rig.collect(report(), began)
    while rig.clock.seconds() < began + PATIENCE_S - 0.05:
        assert len(rig.storage.saving) == 1
        rig.clock.advance(0.1)
    rig.clock.advance(0.1)
    assert len(rig.storage.saving) == 2
    late = rig.collect(report())
    ids = {rig.storage.keep(0), rig.storage.keep(1)}
    assert {*rig.crash_ids([first, second])} == ids
    rig.clock.pump([0.1] * 15)
    assert result_of(late).crash_id in ids
    assert result_of(rig.collect(report())).crash_id in ids


def test_who_took_longer_to_send_it_does_not_wait(rig: Rig) -> None:
    rig.clock.advance(PATIENCE_S)
    first, second = rig.collect(report()), rig.collect(report(), 0.0)
    ids = [rig.storage.keep(number) for number in range(2)]
    assert rig.crash_ids([first, second]) == ids


def test_no_more_wait_than_there_is_memory_for(rig: Rig) -> None:
    """The others are saved."""
    outcomes = [rig.collect(report()) for _ in range(10)]
    assert len(rig.storage.saving) == 4
    ids = [rig.storage.keep(number) for number in range(4)]
    rig.clock.pump([0.1] * 15)
    assert {*rig.crash_ids(outcomes)} == {*ids}
    big = evolve(report(Version="2"), dumps=[evolve(DUMP, size=ROOM - 1)])
    for _ in range(2):
        outcomes = [rig.collect(big) for _ in range(3)]
        assert len(rig.storage.saving) == 6, "one may always wait"
        rig.storage.keep(4)
        rig.storage.keep(5)
        rig.clock.pump([0.1] * 15)
        del rig.storage.saving[4:]
        rig.clock.advance(WINDOW_S + 1)


def test_at_a_stop_none_waits(rig: Rig) -> None:
    outcomes = [rig.collect(report()) for _ in range(3)]
    rig.waiting_room.end()
    rig.clock.advance(0)
    late = rig.collect(report())
    ids = [rig.storage.keep(number) for number in range(4)]
    assert rig.crash_ids([*outcomes, late]) == ids
    assert rig.clock.getDelayedCalls() == []


def test_other_processes_wait_and_know_it_too(rig: Rig) -> None:
    other = Rig(rig.table, rig.clock)
    first, second = rig.collect(report()), other.collect(report())
    rig.clock.pump([0.1] * 5)
    assert other.storage.saving == []
    crash_id = rig.storage.keep(0)
    rig.clock.pump([0.1] * 5)
    assert rig.crash_ids([first, second]) == [crash_id] * 2


@pytest.mark.parametrize("result", [Result.REJECT, Result.FAKEACCEPT, Result.IGNORE])
def test_what_is_not_kept_is_not_remembered(rig: Rig, result: Result) -> None:
    rig.verdict = Verdict(result, "some_rule", 100)
    for _ in range(2):
        assert result_of(rig.collect(report())).result is result
    assert len(rig.judged) == 2
    rig.verdict = Verdict(Result.ACCEPT, "some_rule", 100)
    rig.storage.at_once = True
    assert not result_of(rig.collect(report())).is_duplicate


def test_a_chosen_id_is_no_duplicate_and_not_remembered(rig: Rig) -> None:
    rig.storage.at_once = True
    for _ in range(2):
        outcome = result_of(rig.collect(report(uuid=CHOSEN, token="sesame")))
        assert (outcome.crash_id, outcome.is_duplicate) == (CHOSEN, False)
    assert len(rig.storage.saving) == 2
    assert not result_of(rig.collect(report(uuid=CHOSEN))).is_duplicate
    assert "digest" not in rig.events[0].about


def test_a_defect_gives_its_claim_back(rig: Rig) -> None:
    failed = rig.collect(report())
    rig.storage.saving[0][1].errback(ZeroDivisionError())
    assert error_of(failed) is ZeroDivisionError
    rig.storage.at_once = True
    assert not result_of(rig.collect(report())).is_duplicate


@pytest.mark.parametrize("comes", [True, False], ids=["comes", "does not come"])
def test_the_memory_is_waited_for_at_the_start(rig: Rig, comes: bool) -> None:
    filled = Deferred.fromCoroutine(rig.duplicates.filled())
    rig.clock.pump([0.01] * 100)
    assert not filled.called
    if comes:
        rig.table.set_filled()
    rig.clock.pump([0.01] if comes else [0.01] * 1000)
    assert filled.called
