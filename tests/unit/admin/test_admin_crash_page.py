import json

import pytest
from attrs import evolve

from collectord.admin.annotationlist import MAX_ANNOTATIONS, MAX_NAME, MAX_VALUE, reading
from collectord.admin.crash import CrashView
from collectord.admin.frame import Frame
from collectord.observe.crashpage import LEFT, CrashLocation, CrashPage, JournalEntry
from tests.support.adminindex import FINGERPRINT
from tests.support.adminserver import CRASH_ID, HOSTILE, busy, crash_page, troubled
from tests.support.cases import for_each
from tests.unit.admin.adminwire import Admin
from tests.unit.admin.pagereader import Page, page_at, read

NOW = 1_466_608_800.0
PATH = f"/crashes/{CRASH_ID}"
FRAME = Frame(now=NOW, started=NOW, version="1.0.0", up="../")


@pytest.fixture
def admin() -> Admin:
    return Admin()


def shown(crash: CrashPage, *, downloads: bool = False) -> Page:
    return read(CrashView(frame=FRAME, crash=crash, downloads=downloads).page())


def test_a_crash(admin: Admin) -> None:
    page = page_at(admin, PATH)
    assert "Fenix 128.0.1 on Windows 11, amd64 · kept 22 Jun 2016, 15:19:49 UTC, 10 s ago" in page.text
    assert "waits in /var/lib/collectord/crashes; moved to s3: crashes" in page.text
    minidump = ["upload_file_minidump", "382 KiB", "391,204", "minidump, 214 modules, 61 threads", "Download"]
    assert page.row("upload_file_minidump") == minidump
    assert page.row("memory_report")[3] == "gzip sent as memory.json.gz"
    assert page.row("SHA-256 as received " + "9f86d081884c7d65" * 4)
    assert page.row("MozCrashReason") == ["MozCrashReason", "MOZ_RELEASE_ASSERT(aIndex < mLength)"]
    assert page.row("throttle_rule") == ["throttle_rule", "accept_everything"]
    assert page.row("CrashTime") == ["CrashTime", "1466608789 2016-06-22 15:19:49"]
    assert f"{CRASH_ID}.json" in page.links()
    assert page.links().count(f"../fingerprints/{FINGERPRINT}") == 3  # as a place, as a heading, and by itself
    assert "Seen 8,912 times in the last hour, 189 kept. First seen 22 Jun 2016, 12:50:00 UTC, in Firefox 128.0.1." in (
        page.text
    )
    assert "15:19:51moved to s3: crashes" in page.text.replace(" moved", "moved")
    assert f"{CRASH_ID}/dumps/upload_file_minidump" in page.links()


def test_dumps_that_may_not_be_downloaded() -> None:
    assert shown(crash_page(CRASH_ID, {})).links("dumps") == []
    assert shown(crash_page(CRASH_ID, {}), downloads=True).links("dumps")


def test_whether_dumps_are_what_was_received() -> None:
    crash = crash_page(CRASH_ID, {})
    whole, other = crash.dumps
    assert "2, whole: as received" not in shown(crash).text
    assert "2, whole: as received" in shown(evolve(crash, dumps=[whole, evolve(other, is_whole=True)])).text
    page = shown(evolve(crash, dumps=[whole, evolve(other, is_whole=False)]))
    assert "2, 1 not as received" in page.text
    assert "The file has other bytes than were received." in page.text
    page = shown(evolve(crash, dumps=[evolve(other, size=None, problem="it can't be read: Input/output error")]))
    assert "it can't be read: Input/output error" in page.text
    assert page.row("memory_report")[1:3] == ["not known", ""]


def test_a_crash_of_which_nothing_is_known() -> None:
    page = shown(CrashPage(crash_id=CRASH_ID, annotations={}, facts={}, dumps=[], places=[], events=[]))
    assert "in no store any more" in page.text
    assert "The client sent none." in page.text
    assert "Nothing is recorded." in page.text


def test_a_crash_that_was_moved(admin: Admin) -> None:
    """Nothing is said of what is not known."""
    admin.source.scenario = "moved"
    page = page_at(admin, PATH)
    assert "Its annotations and dumps went to s3: crashes" in page.text
    assert "This collector removed its copy on 22 Jun 2016 at 15:19:52 UTC, after it was confirmed there." in page.text
    assert "What follows is what the ledger remembers." in page.text
    assert "The ledger keeps this until 20 Sep 2016, or longer." in page.text
    assert f"s3://crashes/v1/raw_crash/20160622/{CRASH_ID}" in page.text
    assert f"This brings it back: collectord fetch {CRASH_ID}" in page.text
    assert "published to rabbitmq: socorro.normal" in page.text
    assert page.row("payload_size") == ["payload_size", "183204 179 KiB"]
    assert "Annotations" not in page.text
    assert "1, as they were received" in page.text
    minidump = ["upload_file_minidump", "1.2 MiB", "1,284,096", "minidump, by its name or first bytes"]
    assert page.row("upload_file_minidump") == minidump
    assert page.links("dumps") == []


def test_the_way_of_a_crash_says_how_long_each_step_took(admin: Admin) -> None:
    admin.source.scenario = "moved"
    way = page_at(admin, PATH).text
    steps = [
        "15:19:49 received in 0.8 s",
        "15:19:49 kept in /var/lib/collectord/crashes, CrashID answered "
        "by rule flood; 8,841 of its kind so far, 187 kept durable after 4 ms",
        f"15:19:51 moved to s3: crashes s3://crashes/v1/raw_crash/20160622/{CRASH_ID} 44 ms, after 2 tries that failed",
        "15:19:52 published to rabbitmq: socorro.normal confirmed after 3 ms",
        "15:19:52 removed from /var/lib/collectord/crashes",
    ]
    places = [way.find(step) for step in steps]
    assert all(place > 0 for place in places), way
    assert places == sorted(places)


@for_each(
    ("place", "words"),
    [("by hand", "removed from /a by hand"), ("keep_days", "removed from /a by keep_days"), ("", "from /a too old")],
)
def test_why_it_was_removed_for_good(place: str, words: str) -> None:
    events = [JournalEntry(at=NOW, what="expired", where="/a", place=place)]
    gone = CrashPage(crash_id=CRASH_ID, annotations=None, facts={}, dumps=[], places=[], events=events)
    assert words in shown(gone).text


def test_a_crash_that_was_released_from_the_quarantine() -> None:
    steps = [("quarantined", "/a"), ("moved", "/a"), ("moved", "s3://a")]
    events = [JournalEntry(at=NOW + at, what=what, where=where) for at, (what, where) in enumerate(steps)]
    text = shown(evolve(crash_page(CRASH_ID, {}), events=events)).text
    assert "15:20:00 put into the quarantine of /a" in text
    assert "15:20:01 released into /a" in text
    assert "15:20:02 moved to s3://a" in text


def test_a_crash_that_was_moved_from_one_of_our_stores_to_another() -> None:
    events = [JournalEntry(at=NOW, what="moved", where=where) for where in ("/primary", "s3://a")]
    there = CrashLocation(store="s3://a", state="was moved there")
    gone = CrashPage(crash_id=CRASH_ID, annotations=None, facts={}, dumps=[], places=[there], events=events)
    assert gone.moved_to == ["s3://a"]
    assert "went to s3://a" in shown(gone).text


def test_what_it_waits_for(admin: Admin) -> None:
    sinks = troubled(busy(NOW)).sinks
    kept = [JournalEntry(at=NOW - 60, what="kept", where="/a")]
    waits = evolve(crash_page(CRASH_ID, {}), events=kept)
    page = read(CrashView(frame=FRAME, crash=waits, sinks=sinks).page())
    assert "now waits to be moved s3: crashes: PutObject: Could not connect" in page.text
    assert "/crashes; tried again in 41 s" in page.text
    moved = evolve(waits, events=[*kept, JournalEntry(at=NOW - 50, what="moved", where="s3: crashes")])
    assert "Could not connect" not in read(CrashView(frame=FRAME, crash=moved, sinks=sinks).page()).text


def test_a_crash_that_only_the_index_knows(admin: Admin) -> None:
    admin.source.scenario = "unlogged"
    page = page_at(admin, PATH)
    assert "Fenix 128.0.1 on Windows 11, amd64" in page.text
    assert "· moved to s3: crashes" in page.text
    assert "No store has it any more." in page.text
    assert "What follows is what the index remembers." in page.text
    assert page.row("payload_size") == ["payload_size", "412001 402 KiB"]
    assert "The ledger keeps" not in page.text
    facts = json.loads(admin.ask(f"{PATH}.json").body)["facts"]
    assert facts["ProductName"] == "Fenix"


def test_a_crash_that_may_be_where_it_could_not_be_looked_for(admin: Admin) -> None:
    admin.source.scenario = "away"
    for path in (PATH, f"{PATH}.json"):
        response = admin.ask(path)
        assert response.status == 503
        assert response.body == b"Not found, but not all could be asked: /mnt/nfs/crashes: it hangs\n"
    kept = [JournalEntry(at=NOW, what="kept", where="/mnt/nfs/crashes")]
    gone = CrashPage(
        crash_id=CRASH_ID, annotations=None, facts={}, dumps=[], places=[], events=kept, not_asked="/a: it hangs"
    )
    page = shown(gone)
    assert "not found, but not all could be asked" in page.text
    assert "It may still be here" in page.text
    assert "Not all could be asked: /a: it hangs" in page.text
    assert "in no store any more" not in page.text


def test_a_crash_that_has_left_its_destination() -> None:
    events = [JournalEntry(at=NOW, what="moved", where="/mnt/new")]
    gone = CrashPage(
        crash_id=CRASH_ID,
        annotations=None,
        facts={},
        dumps=[],
        places=[CrashLocation(store="/mnt/new", state=LEFT)],
        events=events,
    )
    page = shown(gone)
    assert "moved to /mnt/new" in page.text
    assert "It has left /mnt/new since." in page.text
    assert "fetch" not in page.text


def test_a_crash_that_was_erased(admin: Admin) -> None:
    admin.source.scenario = "erased"
    page = page_at(admin, PATH)
    assert "erased 23 Jun 2016, 15:19:52 UTC" in page.text
    assert "Only that it was here, and when it was erased, is told." in page.text
    assert "The ledger keeps this until 20 Sep 2016, or longer." in page.text
    assert "Fenix" not in page.text
    assert page.rows == []


def test_only_some_annotations(admin: Admin) -> None:
    page = page_at(admin, f"{PATH}?only=moz")
    assert "3 of 14" in page.text
    assert page.row("MozCrashReason")
    assert not any("BuildID" in row for row in page.rows)
    assert "None has “<nothing>”." in page_at(admin, f"{PATH}?only=%3Cnothing%3E").text


def test_hostile_annotations(admin: Admin) -> None:
    admin.source.scenario = "hostile"
    page = page_at(admin, PATH)
    for name in ("Img", "Svg", "Style", "Entity", "Link"):
        assert page.row(name) == [name, HOSTILE[name]]
    assert page.row("Bidi") == ["Bidi", "harmless⟨U+202E⟩txt.exe"]
    assert page.row("Control") == ["Control", "a⟨U+0000⟩b⟨U+001B⟩[31mc⟨U+007F⟩⟨U+009B⟩"]
    assert page.row("Surrogate") == ["Surrogate", "⟨U+D83D⟩ alone, ⟨U+DE00⟩"]
    assert page.row("Lines") == ["Lines", "one\ntwo\n\tthree"]
    assert page.row("Huge")[1] == "x" * MAX_VALUE + " … 2,995,000 more characters in the JSON.".replace(" …", "…")
    assert page.row(("Long" + "n" * 500)[:MAX_NAME])[1] == "a name"


def test_many_annotations_are_cut() -> None:
    page = shown(crash_page(CRASH_ID, {f"a{n}": "" for n in range(MAX_ANNOTATIONS + 1234)}))
    assert "2,234, from the client" in page.text
    assert "1,234 more are in the JSON." in page.text
    assert len(page.rows) < MAX_ANNOTATIONS + 50


def test_facts_are_shown_without_a_fingerprint() -> None:
    crash = crash_page(CRASH_ID, {})
    facts = {name: value for name, value in crash.facts.items() if name != "metadata.fingerprint"}
    page = shown(evolve(crash, facts=facts))
    assert "Crashes atappcore.dll+0x1f2e4c" in page.text.replace("at ", "at")
    assert page.links("fingerprints") == []


@for_each(
    ("name", "value", "expected"),
    [
        ("CrashTime", "1466608789", "2016-06-22 15:19:49"),
        ("StartupTime", "1466608102", "2016-06-22 15:08:22"),
        ("UptimeTS", "3207.4", "53 min 27 s"),
        ("uptime", "12", ""),
        ("TotalPhysicalMemory", "17037594624", "15.9 GiB"),
        ("payload_size", "183204", "179 KiB"),
        ("ScreenSize", "2560x1440", ""),
        ("BuildID", "20160618030212", ""),
        ("CrashTime", "9" * 400, ""),
        ("CrashTime", "١٢٣٤", ""),
    ],
)
def test_readings(name: str, value: str, expected: str) -> None:
    assert reading(name, value) == expected
