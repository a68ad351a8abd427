"""
What the collector tells of reports: that they were seen, whatever became of them, and what a kept crash is about.
"""

from collections.abc import Sequence
from typing import Any

import pytest

from collectord.errors import AllStoresFailed
from collectord.model import Annotations, Crash, CrashEvent, CrashFacts, Dump
from collectord.telling import Became, SeenReport
from collectord.testing.memory import MemoryCrashStorage
from collectord.throttle.results import Result
from collectord.throttle.rules import Verdict
from tests.support.cases import for_each
from tests.unit.collector.test_collector import CRASH_ID, NOW, Rig, make_rig, removing, report

FACTS = CrashFacts(
    fingerprint="1:0123456789abcdef",
    place="x" * 300,
    cpu="amd64",
    exception_code="0xb",
    exception_name="SIGSEGV",
    os="Linux 6.1",
    uptime_s=0,
)
SENT = {"ProductName": "App", "Version": "1.0", "Channel": "be\nta", "Email": "a@example.com"}


class Full(MemoryCrashStorage):
    """A store that takes nothing."""

    async def save(self, crash: Crash) -> str:
        raise AllStoresFailed("full")


def rig_that_tells(told: list[Any], **settings: Any) -> Rig:
    async def facts_of(dumps: Sequence[Dump], annotations: Annotations) -> CrashFacts:
        return FACTS

    return make_rig(on_seen=told.append, on_event=told.append, facts_of=facts_of, **settings)


def seen(became: Became, crash_id: str = "") -> SeenReport:
    at = NOW.timestamp()
    return SeenReport(
        at=at, product="App", version="1.0", facts=FACTS, became=became, rule="some_rule", crash_id=crash_id
    )


@for_each("result", [Result.REJECT, Result.IGNORE, Result.FAKEACCEPT])
def test_a_report_that_is_not_kept_was_seen(result: Result) -> None:
    told: list[Any] = []
    rig = rig_that_tells(told)
    rig.judge.verdict = Verdict(result, "some_rule", 100)
    rig.collect(report(SENT))
    assert told == [seen("left_out")]


def test_what_is_not_to_be_stored_is_not_told() -> None:
    """The index stores it."""
    told: list[Any] = []
    rig = rig_that_tells(told, kept_names=removing("ProductName"))
    rig.collect(report(SENT))
    event, of_report = told
    assert (event.about["product"], of_report.product, of_report.version) == ("", "", "1.0")


def test_a_report_that_no_store_took_was_seen() -> None:
    told: list[Any] = []
    rig = rig_that_tells(told, storage=Full())
    with pytest.raises(AllStoresFailed):
        rig.collect(report(SENT))
    assert told == [seen("lost")]


def test_of_a_crash_that_is_kept_all_is_told_that_lists_show() -> None:
    told: list[Any] = []
    rig = rig_that_tells(told, told_annotations=["Channel", "Email", "Unknown"], kept_names=removing("Email"))
    rig.collect(report(SENT))
    event, of_report = told
    assert of_report == seen("kept", CRASH_ID)
    assert isinstance(event, CrashEvent)
    assert event.about == {
        "product": "App",
        "version": "1.0",
        "size": 1234,
        "rule": "some_rule",
        "fingerprint": "1:0123456789abcdef",
        "crash_place": "x" * 200,
        "exception": "SIGSEGV",
        "cpu": "amd64",
        "os": "Linux 6.1",
        "uptime_s": 0,
        "annotations": "\nChannel=be ta\n",
        "details": "took=0 dumps=upload_file_minidump:4:application/x,other:0:",
    }
