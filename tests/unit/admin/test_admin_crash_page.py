import pytest
from attrs import evolve

from collectord.admin.annotationlist import MAX_ANNOTATIONS, MAX_NAME, MAX_VALUE, reading
from collectord.admin.crash import CrashView
from collectord.admin.frame import Frame
from collectord.observe.crashpage import CrashPage
from tests.support.adminindex import FINGERPRINT
from tests.support.adminserver import CRASH_ID, HOSTILE, crash_page
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
    minidump = ["upload_file_minidump", "391 kB", "391,204", "minidump, 214 modules, 61 threads", "Download"]
    assert page.row("upload_file_minidump") == minidump
    assert page.row("memory_report")[3] == "gzip sent as memory.json.gz"
    assert page.row("SHA-256 as received " + "9f86d081884c7d65" * 4)
    assert page.row("MozCrashReason") == ["MozCrashReason", "MOZ_RELEASE_ASSERT(aIndex < mLength)"]
    assert page.row("throttle_rule") == ["throttle_rule", "accept_everything"]
    assert page.row("CrashTime") == ["CrashTime", "1466608789 2016-06-22 15:19:49"]
    assert f"{CRASH_ID}.json" in page.links()
    assert page.links().count(f"../fingerprints/{FINGERPRINT}") == 3  # as a place, as a heading, and by itself
    assert "Seen 8,912 times in the last hour, 189 kept." in page.text
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
    assert "Its annotations and dumps are in s3: crashes" in page.text
    assert f"s3://crashes/v1/raw_crash/20160622/{CRASH_ID}" in page.text
    assert f"This brings it back: collectord fetch {CRASH_ID}" in page.text
    assert "published to rabbitmq: socorro.normal" in page.text
    assert page.row("payload_size") == ["payload_size", "183204 183 kB"]
    assert "Annotations" not in page.text
    assert "Dumps" not in page.text


def test_a_crash_that_was_erased(admin: Admin) -> None:
    admin.source.scenario = "erased"
    page = page_at(admin, PATH)
    assert "erased 23 Jun 2016, 15:19:52 UTC" in page.text
    assert "Only that it was here, and when it was erased, is remembered." in page.text
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
        ("TotalPhysicalMemory", "17037594624", "17.0 GB"),
        ("payload_size", "183204", "183 kB"),
        ("ScreenSize", "2560x1440", ""),
        ("BuildID", "20160618030212", ""),
        ("CrashTime", "9" * 400, ""),
        ("CrashTime", "١٢٣٤", ""),
    ],
)
def test_readings(name: str, value: str, expected: str) -> None:
    assert reading(name, value) == expected
