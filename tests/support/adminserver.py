"""
The admin site of a daemon that is made up: C{python -m tests.support.adminserver PORT SCENARIO READY TOKEN}.

It is on PORT without a token, and on the next port with one.

The file SCENARIO names what it shows, and may be changed at any time; the file READY appears once it listens.
"""

import math
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from attrs import evolve, frozen

from collectord.admin import first
from collectord.admin.downloads import DumpToSend
from collectord.admin.site import AdminSite
from collectord.crashid import is_crash_id
from collectord.errors import LookUpFailed
from collectord.observe.crashpage import (
    MOVED_THERE,
    CrashLocation,
    CrashPage,
    DumpFile,
    JournalEntry,
    dumps_of,
    facts_of,
    moved_to,
)
from collectord.observe.status import (
    AnswerCount,
    CertificateStatus,
    Loss,
    Overview,
    Rates,
    Recent,
    RuleCount,
    SinkStatus,
    WorkerStatus,
)
from collectord.observe.storestatus import StoreFigures, StoreStatus
from collectord.stepdetails import read_details
from tests.support.adminindex import DEBUG_ID, FINGERPRINT, CurrentIndex, MadeUpIndex

STARTED = 1_466_600_000.0
CRASH_ID = "8f63752c-57c6-4e5d-b2cf-cabde2160622"
HOSTILE = {
    "<script>window.pwned = 1</script>": "<script>window.pwned = 1</script>",
    "Img": "<img src=x onerror='window.pwned = 1'>",
    "Svg": '"><svg onload="window.pwned = 1">',
    "Link": "javascript:window.pwned=1",
    "Style": "</style></pre></td></table></template><script>alert(1)</script>",
    "Entity": "&lt;script&gt;window.pwned = 1&lt;/script&gt;",
    "Bidi": "harmless\u202etxt.exe",
    "Control": "a\0b\x1b[31mc\x7f\x9b",
    "Surrogate": "\ud83d alone, \ude00",
    "Huge": "x" * 3_000_000,
    "Long" + "n" * 500: "a name",
    "Lines": "one\r\ntwo\n\tthree",
}
ANNOTATIONS = {
    "ProductName": "Fenix",
    "Version": "128.0.1",
    "BuildID": "20160618030212",
    "ReleaseChannel": "release",
    "Vendor": "Mozilla",
    "CrashTime": "1466608789",
    "StartupTime": "1466608102",
    "UptimeTS": "687.2",
    "ProcessType": "content",
    "MozCrashReason": "MOZ_RELEASE_ASSERT(aIndex < mLength)",
    "Notes": "FP(D00-L1000-W0000000-T000) WR? WR+ EGL? EGL+ GL Layers? GL Layers+",
    "Android_Model": "Pixel 7",
    "JavaStackTrace": "java.lang.IllegalStateException: not attached\n"
    + "".join(f"\tat org.mozilla.fenix.home.HomeFragment.step{n}(HomeFragment.kt:{100 + n})\n" for n in range(24)),
    "TelemetryEnvironment": '{"build":{"applicationId":"{aa3c5121-dab2-40e2-81ca-7ea25febc110}","version":"128.0.1"}}'
    * 6,
}
FACTS = {
    "submitted_timestamp": "2016-06-22T15:19:49.123456+00:00",
    "legacy_processing": "0",
    "throttle_rate": "100",
    "throttle_rule": "accept_everything",
    "payload": "multipart",
    "payload_compressed": "1",
    "payload_size": "183204",
    "user_agent": "Crashpad/1.0 (Android)",
    "metadata.fingerprint": FINGERPRINT,
    "metadata.crash_place": f"amd64 0xc0000005 appcore.dll {DEBUG_ID} 0x1f2e4c",
    "metadata.exception_name": "ACCESS_VIOLATION_READ",
    "metadata.exception_code": "0xc0000005",
    "metadata.uptime_s": "3207",
    "metadata.os": "Windows 11",
    "metadata.cpu": "amd64",
    "collector_notes": "removed TelemetryClientId\nremoved Email",
}


@frozen
class Named:
    """The made-up values of one scenario: C{busy}, C{empty}, C{troubled}, C{losing}, C{hostile} and so on."""

    scenario: str
    now: float

    @property
    def index(self) -> MadeUpIndex:
        attacks = tuple(HOSTILE.values()) if self.scenario == "hostile" else ()
        return MadeUpIndex(self.scenario, self.now, attacks)

    def overview(self) -> Overview:
        if self.scenario == "empty":
            return empty(self.now)
        overview = busy(self.now)
        if self.scenario == "troubled":
            return troubled(overview)
        if self.scenario == "losing":
            return losing(overview)
        if self.scenario == "hostile":
            return hostile(overview)
        return overview

    def crash(self, crash_id: str) -> CrashPage | None:
        if not is_crash_id(crash_id) or self.scenario == "empty":
            return None
        if self.scenario == "unlogged":
            return None
        if self.scenario == "away":
            raise LookUpFailed("/mnt/nfs/crashes: it hangs")
        if self.scenario in ("moved", "erased"):
            return gone(crash_id, self.scenario)
        return crash_page(crash_id, HOSTILE if self.scenario == "hostile" else ANNOTATIONS)


@lru_cache(2000)
def rates(at: float) -> Rates:
    """Waves."""
    received = 60 + 25 * math.sin(at / 70) + 12 * math.sin(at / 11) + 4 * math.sin(at * 1.7)
    refused = 6 + 3 * math.sin(at / 31) + (20 * math.exp(-(((at % 400) - 200) ** 2) / 300))
    kept = max(0.0, received - refused)
    moved = 50 + 20 * math.sin((at - 30) / 70)
    return Rates(at=at, received=received, kept=kept, refused=refused, moved=moved, bytes_in=received * 182_000)


def empty(now: float) -> Overview:
    """A daemon that has just started, with the built-in settings."""
    return Overview(
        version="1.0.0",
        started=now - 3,
        now=now,
        connections=0,
        receiving=0,
        saving=0,
        moving=0,
        totals={"received": 0, "kept": 0, "refused": 0, "moved": 0, "bytes_in": 0},
        rates=Rates(at=now),
        history=[],
        answers=[],
        rules=[RuleCount(name="accept_everything", condition="every report", results={})],
        stores=[
            StoreStatus(
                name="/home/me/crashes",
                problem="",
                free_bytes=48_412_000_000,
                min_free_bytes=268_435_456,
                backlog=None,
                oldest_age_s=0,
                quarantined=0,
            )
        ],
        sinks=[],
        workers=[WorkerStatus(pid=4021, since=now - 3)],
        recent=[],
    )


def busy(now: float) -> Overview:
    """Some tens of crashes a second, and all is well."""
    seconds = now - STARTED
    received, refused = int(61 * seconds), int(8 * seconds)
    kept = received - refused
    at = math.floor(now)
    return Overview(
        version="1.0.0",
        started=STARTED,
        now=now,
        connections=312 + at % 9,
        receiving=14 + at % 5,
        saving=at % 3,
        moving=8,
        totals={
            "received": received,
            "kept": kept,
            "refused": refused,
            "moved": kept - 41,
            "bytes_in": received * 182_000,
        },
        rates=rates(at),
        history=[rates(float(second)) for second in range(at - 599, at + 1)],
        answers=[
            AnswerCount(status="200", reason="kept", count=kept),
            AnswerCount(status="200", reason="rule_unsupported_product", count=refused - 5821),
            AnswerCount(status="400", reason="malformed_no_annotations", count=4410),
            AnswerCount(status="413", reason="too_large", count=1207),
            AnswerCount(status="408", reason="too_slow", count=204),
        ],
        rules=[
            RuleCount(
                name="has_hangid_and_browser",
                condition="* : HangID is there and ProcessType is not plugin",
                results={"reject": 12},
            ),
            RuleCount(
                name="infobar_is_true",
                condition='* : SubmittedFromInfobar = "true"',
                results={"REJECT": 5170},
                outcome="reject",
            ),
            RuleCount(
                name="flood",
                condition="every report",
                results={"REJECT": 30_781},
                outcome="the first 100 of each fingerprint in 1 h, then 1 of 100 kept",
            ),
            RuleCount(
                name="unsupported_product",
                condition="ProductName is none of Firefox, Fenix, Focus, ReferenceBrowser, Thunderbird, MozillaVPN",
                results={"reject": refused - 5821 - 5182},
            ),
            RuleCount(
                name="is_firefox_desktop",
                condition='ProductName = "Firefox" and ReleaseChannel = "release"',
                results={"accept": kept // 9, "defer": kept - kept // 9 - 99_210},
            ),
            RuleCount(name="accept_everything", condition="every report", results={"accept": 99_210}),
        ],
        stores=[
            StoreStatus(
                name="/var/lib/collectord/crashes",
                problem="",
                free_bytes=412_300_000_000,
                total_bytes=1_000_000_000_000,
                min_free_bytes=30_000_000_000,
                file_system="ext4",
                is_moved=True,
                backlog=41 + at % 7,
                oldest_age_s=2.0 + at % 4,
                quarantined=0,
            ),
            StoreStatus(
                name="/mnt/nfs/crashes",
                problem="",
                free_bytes=7_910_000_000_000,
                min_free_bytes=1_000_000_000,
                is_moved=True,
                backlog=0,
                oldest_age_s=0,
                quarantined=0,
                cautions=["on nfs4: its server may sync nothing"],
            ),
        ],
        sinks=[
            SinkStatus(name="s3: crashes", kind="destination", problem="", given=kept - 41, failures=3, resumes_in_s=0),
            SinkStatus(
                name="rabbitmq: socorro.normal",
                kind="publisher",
                problem="",
                given=kept - 42,
                failures=0,
                resumes_in_s=0,
            ),
        ],
        workers=[
            WorkerStatus(pid=4022, name="worker 1", since=STARTED + 2, per_s=3.1),
            WorkerStatus(pid=4023, name="worker 2", since=STARTED + 2),
        ],
        recent=[recent(at * 2 - n) for n in range(30)],
        host="crash-01",
    )


def recent(number: int) -> Recent:
    """One of the last crashes; newer ones have greater numbers."""
    product, version, amount = [
        ("Firefox", "128.0.1", 391_204),
        ("Fenix", "128.0", 88_310),
        ("Thunderbird", "115.12.2", 1_204_118),
    ][number % 3]
    state, where = [
        ("published", "rabbitmq: socorro.normal"),
        ("moved", "s3: crashes"),
        ("kept", "/var/lib/collectord/crashes"),
    ][number % 3]
    return Recent(
        crash_id=f"{number:08x}-57c6-4e5d-b2cf-{number * 7919 % 16**5:05x}2160622"[:24]
        + f"{number % 16**5:05x}2160622",
        at=number / 2,
        product=product,
        version=version,
        size=amount + number % 997,
        rule="is_firefox_desktop" if product == "Firefox" else "accept_everything",
        state=state,
        where=where,
    )


def troubled(overview: Overview) -> Overview:
    """A store fails, a destination is away, and some crashes are broken."""
    primary, second = overview.stores
    destination, publisher = overview.sinks
    broken, *others = overview.recent
    return evolve(
        overview,
        stores=[
            evolve(
                primary, problem="No space left on device", free_bytes=1_204_000, backlog=128_402, oldest_age_s=50_400
            ),
            evolve(second, backlog=2204, oldest_age_s=1200, quarantined=3),
        ],
        sinks=[
            evolve(
                destination,
                problem="PutObject: Could not connect to the endpoint URL: https://s3.eu-central-1.amazonaws.com/crashes",
                failures=88,
                resumes_in_s=41,
            ),
            publisher,
        ],
        certificates=[
            CertificateStatus(
                listen="ssl:8443",
                expires=overview.now + 9 * 86400,
                problem="its certificate expires in 9 d: 2016-07-01 12:00:00 UTC",
            )
        ],
        trouble_since={"Store /var/lib/collectord/crashes stores": overview.now - 720},
        recent=[evolve(broken, state="quarantined", where="/mnt/nfs/crashes"), *others],
    )


def losing(overview: Overview) -> Overview:
    """No store takes anything."""
    primary, second = overview.stores
    return evolve(
        overview,
        stores=[
            evolve(primary, problem="No space left on device", free_bytes=1_204_000, backlog=128_402),
            evolve(
                second,
                problem="nothing for 5 s",
                free_bytes=None,
                backlog=None,
                quarantined=None,
                last_known=StoreFigures(at=overview.now - 192, free_bytes=7_910_000_000_000, backlog=12, quarantined=0),
            ),
        ],
        rates=evolve(overview.rates, lost=5.9),
        loss=Loss(since=overview.now - 192, refused=1115),
    )


def hostile(overview: Overview) -> Overview:
    """All that a client has a say in is an attack."""
    newest, *others = overview.recent
    attacks = list(HOSTILE.values())
    return evolve(
        overview,
        recent=[
            evolve(
                newest, crash_id=CRASH_ID, product=attacks[0], version=attacks[1], rule=attacks[2], where=attacks[6]
            ),
            *(
                evolve(other, product=attack[:100_000], version=attack[:100_000])
                for other, attack in zip(others, attacks, strict=False)
            ),
        ],
        stores=[evolve(store, problem=attack) for store, attack in zip(overview.stores, attacks, strict=False)],
        answers=[evolve(overview.answers[0], reason=attack[:1000]) for attack in attacks],
    )


def crash_page(crash_id: str, annotations: dict[str, str]) -> CrashPage:
    """All that is known of a made-up crash."""
    return CrashPage(
        crash_id=crash_id,
        annotations=annotations,
        facts=FACTS,
        dumps=[
            DumpFile(
                name="upload_file_minidump",
                size=391_204,
                expected="9f86d081884c7d65" * 4,
                kind="minidump, 214 modules, 61 threads",
                is_whole=True,
            ),
            DumpFile(
                name="memory_report",
                size=20_113,
                expected="",
                kind="gzip",
                sent_as=annotations.get("Img", "memory.json.gz"),
            ),
        ],
        places=[
            CrashLocation(store="/var/lib/collectord/crashes", state="waits to be moved"),
            CrashLocation(store="s3: crashes", state=MOVED_THERE),
        ],
        events=[
            JournalEntry(at=1_466_608_789.1, what="kept", where="/var/lib/collectord/crashes"),
            JournalEntry(at=1_466_608_791.9, what="moved", where="s3: crashes"),
        ],
    )


def gone(crash_id: str, scenario: str) -> CrashPage:
    """A made-up crash that is in no store any more."""
    key = f"s3://crashes/v1/raw_crash/20160622/{crash_id}"
    events = [
        JournalEntry(
            at=1_466_608_789.1,
            what="kept",
            where="/var/lib/collectord/crashes",
            rule="flood",
            product="Fenix",
            version="128.0.1",
            size=183_204,
            details=read_details("took=4 received=812 sampled=8841/187 dumps=upload_file_minidump:1284096:minidump"),
        ),
        JournalEntry(
            at=1_466_608_791.9, what="moved", where="s3: crashes", place=key, details=read_details("took=44 failures=2")
        ),
        JournalEntry(
            at=1_466_608_792.4, what="published", where="rabbitmq: socorro.normal", details=read_details("took=3")
        ),
        JournalEntry(at=1_466_608_792.5, what="removed", where="/var/lib/collectord/crashes"),
    ]
    until = STARTED + 90 * 86400
    nothing = CrashPage(
        crash_id=crash_id, annotations=None, facts={}, dumps=[], places=[], events=events, told_until=until
    )
    if scenario == "erased":
        told = [JournalEntry(at=event.at, what=event.what, where=event.where) for event in events]
        told.append(JournalEntry(at=1_466_695_192.5, what="erased", where="s3: crashes"))
        return evolve(nothing, events=told)
    return evolve(nothing, facts=facts_of(events), dumps=dumps_of(events), places=moved_to(events))


@frozen
class MadeUp:
    """
    The operations of a daemon that is made up.

    @ivar scenario: the file that names what it shows.
    """

    scenario: Path

    @property
    def _named(self) -> Named:
        return Named(self.scenario.read_text(), STARTED + 400_000 + time.time() % 100_000)

    def overview(self) -> Overview:
        return self._named.overview()

    async def crash(self, crash_id: str) -> CrashPage | None:
        return self._named.crash(crash_id)

    @property
    def index(self) -> MadeUpIndex:
        return self._named.index

    async def dump(self, crash_id: str, name: str) -> DumpToSend | None:
        return None

    def metrics(self) -> tuple[bytes, str]:
        return b"collectord_received_total 5.0\n", "text/plain; version=0.0.4; charset=utf-8"


def main(port: str, scenario: str, ready: str, token: str) -> None:
    from twisted.internet import reactor as any_reactor

    first.KEPT_S = 0.0  # A test that has changed the scenario wants no page of the one before.
    reactor = cast(Any, any_reactor)
    made_up = MadeUp(Path(scenario))
    index = cast(Any, CurrentIndex(lambda: made_up.index))
    for number, needed in enumerate(["", token]):
        site = AdminSite(made_up, index, token=needed, hosts=[], clock=reactor, downloads=True)
        reactor.listenTCP(int(port) + number, site.factory(), interface="127.0.0.1")
    reactor.callWhenRunning(Path(ready).touch)
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
