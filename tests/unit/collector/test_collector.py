import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import pytest
from attrs import define, evolve, field
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent
from zope.interface import implementer

from collectord.annotations import KeptNames, NamePatterns
from collectord.collector import Collector, Outcome
from collectord.errors import AllStoresFailed, MalformedReport, RelayLoop, UnauthorizedUuid
from collectord.interfaces import ICrashStorage
from collectord.metrics import REGISTRY
from collectord.model import (
    COLLECTOR_NAMES,
    Annotations,
    Crash,
    CrashEvent,
    CrashFacts,
    CrashReport,
    Dump,
    InMemory,
    Note,
    Payload,
)
from collectord.pressure import Pressure, PressureLevel
from collectord.settings.schema import Submission
from collectord.testing.memory import MemoryCrashStorage
from collectord.throttle.results import Result
from collectord.throttle.rules import Verdict
from tests.support.cases import for_each
from tests.support.judging import judging
from tests.unit.intake.parts import LogRecorder, result_of

NOW = datetime(2016, 6, 22, 23, 59, 59, 123456, UTC)
UUID4 = UUID("8f63752c-57c6-4e5d-b2cf-cabdefedcba9")
CRASH_ID = "8f63752c-57c6-4e5d-b2cf-cabde2160622"
CHOSEN = "11111111-57c6-4e5d-b2cf-cabde2150101"
ACCEPT = Verdict(Result.ACCEPT, "some_rule", 100)
DUMPS = (
    Dump(
        name="upload_file_minidump",
        size=4,
        sha256="aa",
        content=InMemory([b"MDMP"]),
        filename="a.dmp",
        content_type="application/x",
    ),
    Dump(name="other", size=0, sha256="bb", content=InMemory([])),
)
PAYLOAD = Payload(structure="multipart", compressed=False, size=1234, user_agent="Crashpad/1.0")


def report(annotations: Annotations, *notes: str, token: str | None = None) -> CrashReport:
    made = [Note("repaired", text) for text in notes]
    return CrashReport(annotations=annotations, dumps=DUMPS, notes=made, payload=PAYLOAD, bearer_token=token)


def removing(*patterns: str) -> KeptNames:
    return KeptNames(removed=NamePatterns(patterns))


@define
class Judge:
    """Says what it is told, and remembers what it was asked."""

    verdict: Verdict = ACCEPT
    asked: list[Annotations] = field(factory=list)

    def __call__(self, annotations: Annotations) -> Verdict:
        self.asked.append(dict(annotations))
        return self.verdict


@define
class Rig:
    """A collector in memory."""

    collector: Collector
    judge: Judge
    storage: MemoryCrashStorage

    def collect(self, report: CrashReport) -> Outcome:
        return result_of(self.collector.collect(report))

    @property
    def raw_crash(self) -> Mapping[str, object]:
        """Of the only crash that was kept."""
        (crash,) = self.storage.crashes.values()
        return crash.raw_crash

    @property
    def metadata(self) -> Mapping[str, object]:
        metadata = self.raw_crash["metadata"]
        assert isinstance(metadata, dict)
        return metadata


def make_rig(**settings: Any) -> Rig:
    judge, storage = Judge(), MemoryCrashStorage()
    collector = Collector(
        judge=judging(judge), storage=storage, now=lambda: NOW, seconds=lambda: 0.0, random=lambda: UUID4.bytes
    )
    return Rig(evolve(collector, **settings), judge, storage)


@pytest.fixture
def rig() -> Rig:
    return make_rig()


def said(event: LogEvent) -> str:
    return str(event["log_format"]).format_map(event)


# ——— verdicts ———


@pytest.mark.parametrize(
    ("result", "reported", "kept"),
    [
        (Result.ACCEPT, CRASH_ID, True),
        (Result.DEFER, CRASH_ID, True),
        (Result.REJECT, None, False),
        (Result.FAKEACCEPT, CRASH_ID, False),
        (Result.STOP, None, False),
        (Result.IGNORE, None, False),
    ],
)
def test_verdicts(rig: Rig, result: Result, reported: str | None, kept: bool) -> None:
    rig.judge.verdict = Verdict(result, "some_rule", 100)
    assert rig.collect(report({"a": "1"})) == Outcome(result, "some_rule", reported)
    assert list(rig.storage.crashes) == ([CRASH_ID] if kept else [])


def test_every_result_has_a_test() -> None:
    assert {result.name for result in Result} == {
        "ACCEPT",
        "DEFER",
        "REJECT",
        "FAKEACCEPT",
        "STOP",
        "IGNORE",
        "CONTINUE",
    }


@pytest.mark.parametrize(
    ("verdict", "legacy_processing", "rate"),
    [
        (ACCEPT, 0, 100),
        (Verdict(Result.ACCEPT, "sampled", 10), 0, 10),
        (Verdict(Result.DEFER, "sampled", 12.5), 1, 12.5),
        (Verdict(Result.DEFER, "deferred", 100), 1, 100),
    ],
)
def test_what_the_verdict_leaves(rig: Rig, verdict: Verdict, legacy_processing: int, rate: float) -> None:
    rig.judge.verdict = verdict
    rig.collect(report({"a": "1"}))
    assert rig.raw_crash["legacy_processing"] == legacy_processing
    assert rig.raw_crash["throttle_rate"] == rate
    assert rig.metadata["throttle_rule"] == verdict.rule


# ——— the raw crash ———


def test_the_raw_crash(rig: Rig) -> None:
    rig.collect(report({"ProductName": "Fenix", "Version": "1.0", "Empty": ""}, "a note", "another"))
    (crash,) = rig.storage.crashes.values()
    assert crash.crash_id == CRASH_ID
    assert list(crash.dumps) == list(DUMPS)
    assert crash.raw_crash == {
        "ProductName": "Fenix",
        "Version": "1.0",
        "Empty": "",
        "uuid": CRASH_ID,
        "submitted_timestamp": "2016-06-22T23:59:59.123456+00:00",
        "version": 2,
        "legacy_processing": 0,
        "throttle_rate": 100,
        "type_tag": "bp",
        "metadata": {
            "payload": "multipart",
            "payload_compressed": "0",
            "payload_size": 1234,
            "collector_notes": ["a note", "another"],
            "dump_checksums": {"upload_file_minidump": "aa", "other": "bb"},
            "dumps": {
                "upload_file_minidump": {"size": 4, "filename": "a.dmp", "content_type": "application/x"},
                "other": {"size": 0},
            },
            "user_agent": "Crashpad/1.0",
            "throttle_rule": "some_rule",
        },
    }
    assert json.loads(json.dumps(crash.raw_crash)) == crash.raw_crash


def test_what_is_known_of_the_crash() -> None:
    facts = CrashFacts(
        fingerprint="1:0123456789abcdef",
        place="amd64 0xb app 4C1B2E8F90A34D7792E65C0B7A1D3F221 0x1f2e",
        cpu="amd64",
        exception_code="0xb",
        module="app",
        module_offset="0x1f2e",
        uptime_s=0,
    )

    async def facts_of(dumps: Sequence[Dump], annotations: Annotations) -> CrashFacts:
        assert (dumps, annotations) == (DUMPS, {"a": "1"})
        return facts

    rig = make_rig(facts_of=facts_of, kept_names=removing("Email"))
    rig.collect(report({"a": "1", "Email": "somebody@example.com"}))
    assert {
        "fingerprint": "1:0123456789abcdef",
        "crash_place": "amd64 0xb app 4C1B2E8F90A34D7792E65C0B7A1D3F221 0x1f2e",
        "cpu": "amd64",
        "exception_code": "0xb",
        "module": "app",
        "module_offset": "0x1f2e",
        "uptime_s": 0,
    }.items() <= rig.metadata.items()
    assert not {"exception_name", "os"} & rig.metadata.keys()


@for_each(("record", "token", "stored"), [(True, None, "192.0.2.1"), (False, None, None), (True, "secret", None)])
def test_the_address_of_a_client(record: bool, token: str | None, stored: str | None) -> None:
    """It is stored if the settings say so; that of a relay is not the client's."""
    rig = make_rig(record_address=record, token="secret")
    rig.collect(evolve(report({"a": "1", "uuid": CHOSEN}, token=token), address="192.0.2.1"))
    assert rig.metadata.get("client_address") == stored
    without = make_rig(record_address=True)
    without.collect(report({"a": "1"}))
    assert "client_address" not in without.metadata


def test_a_packed_json_payload(rig: Rig) -> None:
    rig.collect(evolve(report({"a": "1"}), payload=evolve(PAYLOAD, structure="json", compressed=True), dumps=()))
    assert rig.metadata["payload"] == "json"
    assert rig.metadata["payload_compressed"] == "1"
    assert rig.metadata["dump_checksums"] == {}


OWN_NAMES = ["legacy_processing", "metadata", "submitted_timestamp", "throttle_rate", "type_tag", "uuid", "version"]


def test_annotations_with_the_collectors_own_names_are_kept_by_others() -> None:
    assert sorted(COLLECTOR_NAMES) == OWN_NAMES
    clean, rig = make_rig(), make_rig()
    clean.collect(report({"a": "1"}, "a note"))
    given_report = report({**{name: f"a {name}" for name in OWN_NAMES}, "a": "1"}, "a note")
    rig.collect(given_report)
    kept = {f"client_{name}": f"a {name}" for name in OWN_NAMES}
    assert rig.metadata["collector_notes"] == [
        "a note",
        *(f"{name}: the collector's own name, kept as client_{name}" for name in OWN_NAMES),
    ]
    assert {**rig.raw_crash, "metadata": None} == {**clean.raw_crash, **kept, "metadata": None}
    assert rig.judge.asked == [{**kept, "a": "1"}]
    assert given_report.notes == [Note("repaired", "a note")]


def test_a_name_that_was_sent_is_not_given_to_another_annotation() -> None:
    rig = make_rig()
    rig.collect(report({"version": "1", "client_version": "2", "client_version_2": "3", "client_uuid": "4"}))
    kept = {"client_version": "2", "client_version_2": "3", "client_version_3": "1", "client_uuid": "4"}
    assert kept.items() <= rig.raw_crash.items()
    assert rig.metadata["collector_notes"] == ["version: the collector's own name, kept as client_version_3"]


def test_what_was_kept_by_another_name_is_sent_on_unchanged() -> None:
    first, second = make_rig(aliases=ALIASES), make_rig(aliases=ALIASES, token="secret")
    first.collect(report({"uuid": "a device", "version": "1", "type_tag": "x", "client_type_tag": "y"}))
    annotations = {n: str(v) for n, v in first.raw_crash.items() if n not in COLLECTOR_NAMES}
    second.collect(report({**annotations, "uuid": CHOSEN}, token="secret"))
    assert {n: v for n, v in second.raw_crash.items() if n not in COLLECTOR_NAMES} == annotations
    assert second.metadata["collector_notes"] == []


def test_notes_on_what_is_kept_are_counted() -> None:
    def counted() -> list[float]:
        return [REGISTRY.get_sample_value("collectord_notes_total", {"kind": kind}) or 0.0 for kind in kinds]

    kinds = ["repaired", "renamed"]
    before = counted()
    rig = make_rig()
    rig.collect(report({"a": "1", "version": "1"}, "a note", "another"))
    rig.judge.verdict = Verdict(Result.REJECT, "some_rule", 100)
    rig.collect(report({"a": "1", "version": "1"}, "a note"))
    assert [now - then for now, then in zip(counted(), before, strict=True)] == [2, 1]


@given(
    st.dictionaries(
        st.text(max_size=20).filter(lambda name: name.casefold() not in ("uuid", "email")), st.text(max_size=20)
    )
)
def test_any_annotations_make_a_raw_crash(annotations: Annotations) -> None:
    rig = make_rig(kept_names=removing("Email"))
    rig.collect(report({**annotations, "Email": "x", "type_tag": "forged"} | {"uuidx": "1"}))
    renamed = {f"client_{name}" for name in {*annotations, "type_tag"} & COLLECTOR_NAMES}
    raw_crash = rig.raw_crash
    assert json.loads(json.dumps(raw_crash)) == raw_crash
    for name, value in annotations.items():
        if name not in COLLECTOR_NAMES | {"Email", "uuidx"}:
            assert raw_crash[name] == value
    assert set(raw_crash) == (set(annotations) | COLLECTOR_NAMES | {"uuidx"} | renamed) - {"Email"}
    assert raw_crash["type_tag"] == "bp"


# ——— aliases, and what is not kept ———


def test_aliases_fill_in_what_did_not_come() -> None:
    rig = make_rig(aliases={"prod": "ProductName", "ver": "Version"})
    sent = {"prod": "Chrome", "ver": "99"}
    rig.collect(report(sent))
    assert rig.judge.asked == [{"prod": "Chrome", "ver": "99", "ProductName": "Chrome", "Version": "99"}]
    assert {name: rig.raw_crash[name] for name in ("prod", "ver", "ProductName", "Version")} == rig.judge.asked[0]
    assert sent == {"prod": "Chrome", "ver": "99"}


def test_aliases_never_replace() -> None:
    rig = make_rig(aliases={"prod": "ProductName", "ver": "Version"})
    rig.collect(report({"prod": "alias", "ProductName": "", "Version": "1"}))
    assert rig.judge.asked == [{"prod": "alias", "ProductName": "", "Version": "1"}]
    assert rig.raw_crash["ProductName"] == ""


def test_aliases_that_did_not_come_fill_in_nothing() -> None:
    rig = make_rig(aliases={"prod": "ProductName", "ver": "Version"})
    rig.collect(report({"prod": "Chrome"}))
    assert rig.judge.asked == [{"prod": "Chrome", "ProductName": "Chrome"}]


ALIASES = Submission().annotation_aliases


@for_each(
    ("sent", "product", "version"),
    [
        ({"_productName": "app", "_version": "1", "prod": "Electron", "ver": "2"}, "app", "1"),
        ({"prod": "Electron", "ver": "2", "_productName": "app", "_version": "1"}, "app", "1"),
        ({"prod": "app", "ver": "1", "product": "x", "version": "x"}, "app", "1"),
        ({"product": "app", "version": "1"}, "app", "1"),
        ({"product": "x", "version": "1", "ProductName": "app"}, "app", "1"),
        ({"_productName": "x", "version": "x", "ProductName": "app", "Version": ""}, "app", ""),
    ],
    ids=["electron", "in any order", "breakpad before others", "product", "one did not come", "both came"],
)
def test_the_first_alias_counts(sent: Annotations, product: str, version: str) -> None:
    rig = make_rig(aliases=ALIASES)
    rig.collect(report(sent))
    assert (rig.raw_crash["ProductName"], rig.raw_crash["Version"]) == (product, version)
    assert [rig.raw_crash.get(name) for name in sent if name != "version"] == [
        value for name, value in sent.items() if name != "version"
    ]
    assert rig.raw_crash.get("client_version") == sent.get("version")
    assert [(each["ProductName"], each["Version"]) for each in rig.judge.asked] == [(product, version)]


def test_aliases_are_a_setting(rig: Rig) -> None:
    rig.collect(report({"prod": "Chrome"}))
    assert rig.judge.asked == [{"prod": "Chrome"}]
    assert "ProductName" not in rig.raw_crash


def test_rules_see_what_is_not_kept() -> None:
    rig = make_rig(kept_names=removing("Email", "TelemetryClientId"))
    rig.collect(report({"Email": "a@b", "email": "c@d", "a": "1"}))
    assert rig.judge.asked == [{"Email": "a@b", "email": "c@d", "a": "1"}]
    assert rig.raw_crash["a"] == "1"
    assert "@" not in json.dumps(rig.raw_crash)
    assert rig.metadata["collector_notes"] == []


def test_what_is_not_kept_is_not_kept_by_another_name_either() -> None:
    rig = make_rig(kept_names=removing("uuid"))
    rig.collect(report({"uuid": "a device", "type_tag": "x"}))
    assert rig.judge.asked == [{"client_uuid": "a device", "client_type_tag": "x"}]
    assert "a device" not in json.dumps(rig.raw_crash)
    assert rig.metadata["collector_notes"] == ["type_tag: the collector's own name, kept as client_type_tag"]


def test_of_an_allow_list_nothing_else_is_kept() -> None:
    kept = KeptNames(wanted=NamePatterns(["productname", "Moz*", "metadata"]), removed=NamePatterns(["MozSecret"]))
    rig = make_rig(kept_names=kept, aliases={"prod": "ProductName"})
    sent = {"prod": "Fenix", "MozCrashReason": "oom", "mozsecret": "x", "Email": "a@b", "metadata": "m", "version": "1"}
    rig.collect(report(sent))
    assert set(rig.judge.asked[0]) > {"prod", "Email", "mozsecret"}
    assert set(rig.raw_crash) == {"ProductName", "MozCrashReason", "client_metadata", *COLLECTOR_NAMES}
    assert rig.metadata["collector_notes"] == ["metadata: the collector's own name, kept as client_metadata"]


# ——— crash ids ———


@for_each(
    ("now", "timestamp", "end"),
    [
        (datetime(2026, 1, 1, 0, 0, 0, 0, UTC), "2026-01-01T00:00:00+00:00", "2260101"),
        (datetime(2025, 12, 31, 23, 59, 59, 999999, UTC), "2025-12-31T23:59:59.999999+00:00", "2251231"),
    ],
)
def test_the_day_is_that_of_the_clock(now: datetime, timestamp: str, end: str) -> None:
    rig = make_rig(now=lambda: now)
    outcome = rig.collect(report({"a": "1"}))
    assert outcome.crash_id == f"{str(UUID4)[:29]}{end}"
    assert rig.raw_crash["submitted_timestamp"] == timestamp
    assert datetime.fromisoformat(timestamp).utcoffset() == timedelta(0)


def test_the_clock_is_read_once() -> None:
    times = iter([NOW])
    rig = make_rig(now=lambda: next(times))
    rig.collect(report({"a": "1"}))
    assert rig.raw_crash["submitted_timestamp"] == NOW.isoformat()


def test_a_chosen_uuid() -> None:
    rig = make_rig(token="secret")
    assert rig.collect(report({"uuid": CHOSEN, "a": "1"}, token="secret")).crash_id == CHOSEN
    assert list(rig.storage.crashes) == [CHOSEN]
    assert rig.raw_crash["uuid"] == CHOSEN
    assert rig.metadata["collector_notes"] == []


def test_only_a_crash_id_that_was_made_here_is_fresh() -> None:
    """Of an id that a client chose, a store looks first whether it has it already."""
    for annotations, fresh in (({"a": "1"}, True), ({"uuid": CHOSEN, "a": "1"}, False)):
        rig = make_rig(token="secret")
        rig.collect(report(annotations, token="secret"))
        (crash,) = rig.storage.crashes.values()
        assert crash.fresh is fresh


@for_each(
    ("token", "bearer"),
    [("secret", ""), ("secret", "Secret"), ("secret", "secret2"), ("secret", "\ufffd"), ("", ""), ("", "x")],
)
@for_each("uuid", [CHOSEN, "nonsense", ""])
def test_a_chosen_uuid_with_a_wrong_token(token: str, bearer: str, uuid: str) -> None:
    rig = make_rig(token=token)
    with pytest.raises(UnauthorizedUuid):
        rig.collect(report({"uuid": uuid, "a": "1"}, token=bearer))
    assert rig.storage.crashes == {}
    assert rig.judge.asked == []


@for_each("token", ["", "secret"])
@for_each("uuid", [CHOSEN, "A1B2C3D4-device", ""])
def test_a_uuid_without_any_token_is_an_annotation(token: str, uuid: str) -> None:
    rig = make_rig(token=token)
    assert rig.collect(report({"uuid": uuid, "a": "1"})).crash_id == CRASH_ID
    assert (rig.raw_crash["uuid"], rig.raw_crash["client_uuid"]) == (CRASH_ID, uuid)
    assert next(iter(rig.storage.crashes.values())).fresh


def test_a_relay_never_means_its_uuid_as_an_annotation() -> None:
    """Otherwise one whose token a proxy takes out would send its crash again and again, to be kept by a new id."""
    rig = make_rig(token="secret")
    with pytest.raises(UnauthorizedUuid):
        rig.collect(evolve(report({"uuid": CHOSEN}), sender_stores=["a"]))
    assert rig.storage.crashes == {}


@for_each("uuid", ["", str(UUID4), f"bp-{CHOSEN}", CHOSEN.upper(), f"{CHOSEN[:-4]}1301", "../../x", "\ud800"])
def test_a_chosen_uuid_that_is_no_crash_id(uuid: str) -> None:
    rig = make_rig(token="secret")
    with pytest.raises(MalformedReport) as raised:
        rig.collect(report({"uuid": uuid, "a": "1"}, token="secret"))
    assert raised.value.reason == "invalid_uuid"
    assert rig.storage.crashes == {}


def test_a_token_without_a_uuid_changes_nothing() -> None:
    rig = make_rig(token="secret")
    assert rig.collect(report({"a": "1"}, token="secret")).crash_id == CRASH_ID
    assert rig.collect(report({"a": "1"}, token="other")).crash_id == CRASH_ID


def test_a_token_of_any_text() -> None:
    rig = make_rig(token="sécret")
    assert rig.collect(report({"uuid": CHOSEN}, token="sécret")).crash_id == CHOSEN


@for_each(("theirs", "refused"), [((), False), (("a", "ours"), True), (("a", "b"), False)])
def test_a_relay_that_sends_what_came_from_here_is_refused(theirs: Sequence[str], refused: bool) -> None:
    async def shares(staging_ids: Sequence[str]) -> bool:
        return "ours" in staging_ids

    rig = make_rig(token="secret", shares=shares)
    relayed = evolve(report({"uuid": CHOSEN}, token="secret"), sender_stores=theirs)
    if refused:
        with pytest.raises(RelayLoop):
            rig.collect(relayed)
    else:
        rig.collect(relayed)
    assert list(rig.storage.crashes) == ([] if refused else [CHOSEN])


def test_the_notes_of_a_relay_stand_before_our_own() -> None:
    rig = make_rig(token="secret")
    sent = report({"uuid": CHOSEN, "version": "1"}, token="secret")
    rig.collect(evolve(sent, sender_notes=["log: left out"]))
    assert rig.metadata["collector_notes"] == [
        "log: left out",
        "version: the collector's own name, kept as client_version",
    ]


def test_the_notes_of_who_relays_no_crash_are_not_taken() -> None:
    rig = make_rig(token="secret")
    rig.collect(evolve(report({"a": "1"}, token="secret"), sender_notes=["log: left out"]))
    assert rig.metadata["collector_notes"] == []


def test_without_stores_of_its_own_it_shares_none() -> None:
    rig = make_rig(token="secret")
    rig.collect(evolve(report({"uuid": CHOSEN}, token="secret"), sender_stores=["a"]))
    assert list(rig.storage.crashes) == [CHOSEN]


# ——— keeping ———


@implementer(ICrashStorage)
@define
class SlowStorage:
    """Keeps when it is told so."""

    name: str = "slow"
    saving: "list[tuple[Crash, Deferred[str]]]" = field(factory=list)

    async def save(self, crash: Crash) -> str:
        done: Deferred[str] = Deferred()
        self.saving.append((crash, done))
        return await done

    async def check(self) -> Mapping[str, int]:
        return {}

    async def close(self) -> None:
        """There is nothing to let go of."""


def test_no_answer_before_the_crash_is_kept(log: LogRecorder) -> None:
    storage, now = SlowStorage(), [100.0]
    rig = make_rig(storage=storage, seconds=lambda: now[0])
    results: list[object] = []
    Deferred.fromCoroutine(rig.collector.collect(report({"a": "1"}))).addBoth(results.append)
    ((crash, done),) = storage.saving
    assert crash.crash_id == CRASH_ID
    assert results == log.events == []
    now[0] += 0.0123
    done.callback("/mnt/store")
    assert results == [Outcome(Result.ACCEPT, "some_rule", CRASH_ID)]
    assert [said(event) for event in log.events] == [
        f"{CRASH_ID} kept: ACCEPT by some_rule, 1234 bytes, in /mnt/store after 12.3 ms"
    ]


DETAILS = "took=250 dumps=upload_file_minidump:4:application/x,other:0:"


def test_a_kept_crash_is_an_event() -> None:
    on_event: list[CrashEvent] = []
    seconds = iter([100.0, 100.25])
    rig = make_rig(on_event=on_event.append, seconds=lambda: next(seconds))
    rig.collect(report({"ProductName": "F" * 100, "Version": "1.0"}))
    (kept,) = on_event
    assert (kept.crash_id, kept.kind, kept.where) == (CRASH_ID, "kept", "memory")
    assert kept.at == NOW.timestamp() + 0.25
    about = {"product": "F" * 80, "version": "1.0", "size": 1234, "rule": "some_rule"}
    assert kept.about == {**about, "details": DETAILS, "minidump": "none"}


def test_a_crash_that_is_not_kept_is_no_event() -> None:
    class Full(MemoryCrashStorage):
        async def save(self, crash: Crash) -> str:
            raise AllStoresFailed("full")

    on_event: list[CrashEvent] = []
    rig = make_rig(storage=Full(), on_event=on_event.append)
    with pytest.raises(AllStoresFailed):
        rig.collect(report({"a": "1"}))
    rig.judge.verdict = Verdict(Result.REJECT, "some_rule", 100)
    rig.collect(report({"a": "1"}))
    assert on_event == []


def test_nowhere_to_save() -> None:
    class Full(MemoryCrashStorage):
        async def save(self, crash: Crash) -> str:
            raise AllStoresFailed("full")

    rig = make_rig(storage=Full())
    with pytest.raises(AllStoresFailed):
        rig.collect(report({"a": "1"}))


@pytest.mark.parametrize("result", [Result.REJECT, Result.FAKEACCEPT, Result.IGNORE])
def test_a_report_that_is_not_kept_is_logged(rig: Rig, log: LogRecorder, result: Result) -> None:
    rig.judge.verdict = Verdict(result, "some_rule", 100)
    rig.collect(report({"a": "1"}))
    assert [said(event) for event in log.events] == [f"{result.name} by some_rule: not kept, 1234 bytes"]


def test_the_log_has_no_crash_data(rig: Rig, log: LogRecorder) -> None:
    secret = "private@example.org"
    for result in (Result.ACCEPT, Result.REJECT):
        rig.judge.verdict = Verdict(result, "some_rule", 100)
        rig.collect(report({"Email": secret, secret: "1"}, secret, token=""))
    assert len(log.events) == 2
    assert secret not in repr(log.events)


# ——— disk pressure ———


FACTS = CrashFacts(fingerprint="1:0123456789abcdef", place="a place")
NO_FINGERPRINT = evolve(FACTS, fingerprint=None)
LIGHT = [evolve(DUMPS[0], is_minidump=True), DUMPS[1]]


async def facts_of(dumps: Sequence[Dump], annotations: Annotations) -> CrashFacts | None:
    return None if "unknown" in annotations else NO_FINGERPRINT if "nameless" in annotations else FACTS


def under(level: PressureLevel, **settings: Any) -> Rig:
    return make_rig(pressure=Pressure(lambda: level), facts_of=facts_of, **settings)


def heavy(**annotations: str) -> CrashReport:
    return evolve(report(annotations), dumps=LIGHT)


def test_attachments_are_left_out_while_disks_are_nearly_full() -> None:
    rig = under(PressureLevel.NO_ATTACHMENTS)
    rig.collect(heavy(a="1"))
    (crash,) = rig.storage.crashes.values()
    assert [dump.name for dump in crash.dumps] == ["upload_file_minidump"]
    assert rig.metadata["dump_checksums"] == {"upload_file_minidump": "aa"}
    assert set(cast(dict[str, object], rig.metadata["dumps"])) == {"upload_file_minidump"}
    assert rig.metadata["collector_notes"] == ["other: 0 bytes, left out: the disk is nearly full"]
    assert rig.collect(heavy(a="1")).result is Result.ACCEPT  # that level keeps all crashes


def test_then_only_the_first_crash_of_each_fingerprint_is_kept() -> None:
    rig = under(PressureLevel.FIRST_ONLY)
    assert rig.collect(heavy(a="1")).crash_id is not None
    assert rig.collect(heavy(a="2")) == Outcome(Result.REJECT, "disk_pressure")
    for unknown in ("2", "3"):
        assert rig.collect(heavy(unknown=unknown)).result is Result.ACCEPT  # who knows what it is
        assert rig.collect(heavy(nameless=unknown)).result is Result.ACCEPT
    rig.judge.verdict = Verdict(Result.DEFER, "some_rule", 100)
    assert rig.collect(heavy(a="3")) == Outcome(Result.REJECT, "disk_pressure")
    rig.judge.verdict = Verdict(Result.IGNORE, "some_rule", 100)
    assert rig.collect(heavy(a="3")) == Outcome(Result.IGNORE, "some_rule")


def test_a_crash_that_could_not_be_kept_is_not_the_first() -> None:
    rig = under(PressureLevel.FIRST_ONLY)

    @implementer(ICrashStorage)
    class Full(MemoryCrashStorage):
        async def save(self, crash: Crash) -> str:
            raise AllStoresFailed("full")

    failing = evolve(rig.collector, storage=Full())
    with pytest.raises(AllStoresFailed):
        result_of(failing.collect(heavy(a="1")))
    assert rig.collect(heavy(a="1")).result is Result.ACCEPT


def test_what_was_acknowledged_by_another_collector_is_kept_whole() -> None:
    rig = under(PressureLevel.FIRST_ONLY, token="secret")
    for chosen in (CHOSEN, CRASH_ID):
        relayed = evolve(heavy(uuid=chosen), bearer_token="secret")
        assert rig.collect(relayed) == Outcome(Result.ACCEPT, "some_rule", chosen)
    assert all(len(crash.dumps) == 2 for crash in rig.storage.crashes.values())
