"""
Reports that rules with a rate count, on their way through the collector.
"""

import os
from collections.abc import Sequence
from datetime import UTC, date, datetime

import pytest
from attrs import define, evolve, field
from twisted.internet.defer import CancelledError, Deferred
from zope.interface import implementer

from collectord.collector import Collector, Outcome
from collectord.errors import AllStoresFailed
from collectord.interfaces import ICrashStorage
from collectord.judge import Judge
from collectord.model import Annotations, Crash, CrashFacts, CrashReport, Dump, metadata_of
from collectord.pressure import Pressure, PressureLevel
from collectord.testing.memory import MemoryCrashStorage
from collectord.throttle import Always, RateSample, Result, Rule, load_rules
from collectord.throttle.counts import RateCounts
from tests.support.cases import for_each
from tests.unit.collector.test_collector import report
from tests.unit.intake.parts import result_of

CHOSEN = "11111111-57c6-4e5d-b2cf-cabde2150101"
OTHER = "22222222-57c6-4e5d-b2cf-cabde2150101"


@implementer(ICrashStorage)
class Failing(MemoryCrashStorage):
    """Fails as it is told."""

    error: BaseException | None = None

    async def save(self, crash: Crash) -> str:
        if self.error is not None:
            raise self.error
        return await super().save(crash)


async def facts_of(dumps: Sequence[Dump], annotations: Annotations) -> CrashFacts | None:
    fingerprint = annotations.get("fingerprint")
    return None if fingerprint is None else CrashFacts(fingerprint=fingerprint, place=f"place of {fingerprint}")


@define
class Rig:
    """A collector with real rules, whose crashes are in memory."""

    rules: Sequence[Rule]
    storage: Failing = field(factory=Failing)
    collector: Collector = field(init=False)

    def __attrs_post_init__(self) -> None:
        counts = RateCounts(lambda: 0.0)
        counts.use(self.rules)
        self.collector = Collector(
            judge=Judge(self.rules, counts, lambda: 0.0, lambda: date(2016, 6, 22)).judge,
            storage=self.storage,
            now=lambda: datetime(2016, 6, 22, tzinfo=UTC),
            seconds=lambda: 0.0,
            random=lambda: os.urandom(16),
            token="sesame",
            facts_of=facts_of,
        )

    def collect(self, report: CrashReport) -> Outcome:
        return result_of(Deferred.fromCoroutine(self.collector.collect(report)))

    def result(self, fingerprint: str = "1:a", uuid: str | None = None) -> str:
        sent = {"fingerprint": fingerprint}
        if uuid is not None:
            return self.collect(report({**sent, "uuid": uuid}, token="sesame")).result.name
        return self.collect(report(sent)).result.name

    def error(self) -> type[BaseException]:
        failed = Deferred.fromCoroutine(self.collector.collect(report({"fingerprint": "1:a"})))
        errors: list[type[BaseException]] = []
        failed.addErrback(lambda failure: errors.append(failure.type))  # type: ignore[call-overload]
        return errors[0]

    def sampled(self) -> list[object]:
        return [metadata_of(crash.raw_crash).get("sampled") for crash in self.storage.crashes.values()]


@pytest.fixture
def flood() -> Rig:
    return Rig(load_rules("flood"))


def test_what_disk_pressure_leaves_out_uses_up_nothing(flood: Rig) -> None:
    level = PressureLevel.FIRST_ONLY
    flood.collector = evolve(flood.collector, pressure=Pressure(lambda: level))
    outcomes = [flood.collect(report({"fingerprint": "1:a"})) for _ in range(20)]
    assert [outcome.rule for outcome in outcomes] == ["accept_everything"] + ["disk_pressure"] * 19
    level = PressureLevel.NONE
    assert [flood.result() for _ in range(10)] == ["ACCEPT"] * 9 + ["REJECT"]


@for_each("below", [Result.ACCEPT, Result.CONTINUE], ids=["the rule decides", "another one decides"])
def test_what_is_not_saved_gives_its_place_back_whoever_let_it_through(below: Result) -> None:
    rate = RateSample(per="fingerprint", first=1, hours=1, below=below, above=Result.REJECT)
    rig = Rig([Rule("one", "*", Always(), rate), Rule("rest", "*", Always(), Result.ACCEPT)])
    rig.collector = evolve(rig.collector, pressure=Pressure(lambda: PressureLevel.FIRST_ONLY))
    rig.collector.pressure.refuses("1:a")
    assert [rig.collect(report({"fingerprint": "1:a"})).rule for _ in range(3)] == ["disk_pressure"] * 3


def test_a_flood_leaves_ten_crashes_and_every_thousandth(flood: Rig) -> None:
    results = [flood.result() for _ in range(1011)]
    assert results == ["ACCEPT"] * 10 + ["REJECT"] * 999 + ["ACCEPT", "REJECT"]
    assert flood.result("1:b") == "ACCEPT"
    assert flood.collect(report({"a": "1"})).result is Result.ACCEPT
    assert flood.sampled() == [
        *({"seen": number, "kept": number} for number in range(1, 11)),
        {"seen": 1010, "kept": 11},
        {"seen": 1, "kept": 1},
        None,
    ]


def test_the_name_of_the_rule_is_told(flood: Rig) -> None:
    outcomes = [flood.collect(report({"fingerprint": "1:a"})) for _ in range(11)]
    assert outcomes[-1] == Outcome(Result.REJECT, "flood", None)


@pytest.mark.parametrize("error", [AllStoresFailed("full"), CancelledError()], ids=["failed", "given up"])
def test_a_report_that_is_not_saved_uses_up_nothing(flood: Rig, error: BaseException) -> None:
    assert [flood.result() for _ in range(3)] == ["ACCEPT"] * 3
    flood.storage.error = error
    for _ in range(20):
        assert flood.error() is type(error)
    flood.storage.error = None
    assert [flood.result() for _ in range(8)] == ["ACCEPT"] * 7 + ["REJECT"]
    assert flood.sampled()[-1] == {"seen": 10, "kept": 10}


def test_a_report_that_a_relay_sends_again_is_counted_once(flood: Rig) -> None:
    assert [flood.result(uuid=CHOSEN) for _ in range(50)] == ["ACCEPT"] * 50
    assert [flood.result() for _ in range(10)] == ["ACCEPT"] * 9 + ["REJECT"]
    assert [flood.result(uuid=OTHER) for _ in range(3)] == ["REJECT"] * 3
    assert flood.result(uuid=CHOSEN) == "ACCEPT"


def test_the_rate_that_decides_says_how_many_reports_a_crash_stands_for() -> None:
    rate = RateSample(per="place", first=1, every=4, hours=1, below=Result.ACCEPT, above=Result.DEFER)
    rig = Rig([Rule("some", "*", Always(), rate)])
    assert [rig.result() for _ in range(6)] == ["ACCEPT", "DEFER", "DEFER", "DEFER", "ACCEPT", "DEFER"]
    rates = [crash.raw_crash["throttle_rate"] for crash in rig.storage.crashes.values()]
    assert rates == [100, 100, 100, 100, 25, 100]
    assert rig.sampled()[-1] == {"seen": 6, "kept": 2}


def test_reports_are_counted_by_address_and_key() -> None:
    rate = RateSample(per=["address", "key"], first=1, hours=1, below=Result.ACCEPT, above=Result.REJECT)
    rig = Rig([Rule("one_each", "*", Always(), rate), Rule("rest", "*", Always(), Result.IGNORE)])

    def result(address: str | None, **annotations: str) -> str:
        return rig.collect(evolve(report(annotations or {"a": "1"}), address=address)).result.name

    assert [result("192.0.2.1", sentry_key="k") for _ in range(2)] == ["ACCEPT", "REJECT"]
    assert [result("192.0.2.2", sentry_key="k") for _ in range(2)] == ["ACCEPT", "REJECT"]
    assert [result("192.0.2.1", api_key="l") for _ in range(2)] == ["ACCEPT", "REJECT"]
    assert (result(None, sentry_key="k"), result("192.0.2.1")) == ("IGNORE", "IGNORE")
    assert not any("192.0.2" in str(crash.raw_crash) for crash in rig.storage.crashes.values())
