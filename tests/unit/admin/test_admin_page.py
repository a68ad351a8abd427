import re

import pytest
from attrs import evolve

from collectord.admin.overview import Choice, FromMemory, choice_of, overview_page
from collectord.admin.state import title
from collectord.index.day import DayCounts
from collectord.observe.since import TroubleTimes
from collectord.observe.status import Loss, WorkerStatus
from collectord.observe.trouble import Trouble
from tests.support.adminindex import FINGERPRINT, STORE, WHY, MadeUpIndex
from tests.support.adminserver import CRASH_ID, busy, empty, losing, troubled
from tests.unit.admin.adminwire import Admin
from tests.unit.admin.pagereader import page_at, read

NOW = 1_466_608_800.0
NO_INTAKE = MadeUpIndex("empty", NOW).history("24h")
NOTHING_COUNTED = FromMemory(day=DayCounts(), intake_day=NO_INTAKE, intake=NO_INTAKE)
PATHS = ["/", f"/crashes/{CRASH_ID}", "/search?q=a", f"/fingerprints/{FINGERPRINT}"]


@pytest.fixture
def admin() -> Admin:
    return Admin()


# ——— what it says ———


def test_the_overview(admin: Admin) -> None:
    page = page_at(admin, "/")
    assert "All is well" in page.text
    assert "22 Jun 2016, 15:20:00 UTC, as loaded" in page.text
    assert page.row("/mnt/nfs/crashes")[2:] == ["7.2 TiB free", "954 MiB", "0", "", "—", "0"]
    assert page.row("/var/lib/collectord/crashes ext4")[4].isdecimal()
    assert page.row("rabbitmq: socorro.normal publisher")[1:] == ["takes crashes", "225,318", "0", "—", "—"]
    assert page.row("s3: crashes destination")[2:] == ["225,318", "3", "≤ 50 ms", "—"]
    assert page.row("too slow") == ["408", "too slow", "23", "< 0.1 %"]
    assert page.row("infobar_is_true")[2:] == ['* : SubmittedFromInfobar = "true"', "5,170", "reject"]
    assert page.row("the first 100 of each fingerprint in 1 h, then 1 of 100 kept reject 30,781, accept 400")[1:4] == [
        "flood",
        "every report",
        "31,181",
    ]
    assert page.row("no_more")[2:] == ["", "1", "accept 1"]
    assert page.row("worker 1 (pid 4022)") == ["worker 1 (pid 4022)", "takes reports", "3.1", "2 h 26 min"]
    assert page.row("worker 2 (pid 4023)")[2] == "not known"
    assert "the first that matches decides, counted for 21 h of 24 h" in page.text
    assert "2 of 2 stores take crashes" in page.text
    assert "7.6 TiB free, 60 days if nothing could be moved" in page.text
    assert "2 of 2 destinations and publishers take them" in page.text


def test_a_destination_that_was_not_tried_yet_or_since_it_failed() -> None:
    busily = busy(NOW)
    s3, rabbitmq = busily.sinks
    sinks = [evolve(s3, is_tried=False), evolve(rabbitmq, problem="it was away", is_tried=False)]
    page = read(overview_page(evolve(busily, sinks=sinks), Choice(), NOTHING_COUNTED, None))
    assert page.row("s3: crashes destination")[1] == "not tried yet"
    assert page.row("rabbitmq: socorro.normal publisher")[1] == "it was away" + "not tried since"  # two lines
    assert "it was away. It was not tried since: the next crash tries it." in page.text


def test_what_the_index_knows(admin: Admin) -> None:
    page = page_at(admin, "/")
    assert page.row("Left out by rules")[1:] == ["3.0", "0.5", "3.0", "46,440"]
    first = page.row("ACCESS_VIOLATION_READ")
    assert first[:3] == ["appcore.dll+0x1f2e4c new", "ACCESS_VIOLATION_READ", "Firefox 128.0.1, 128.0"]
    assert first[4:6] == ["8,912", "189"]
    assert page.row("11 others")[2:] == ["35", "732"]
    assert f"fingerprints/{FINGERPRINT}" in page.links()
    assert "search?q=product%3AFirefox+version%3A128.0" in page.links()
    assert page.row("moved to s3: crashes, rabbitmq")
    assert "1,204 were seen in 24 h" in page.text


def test_another_span_and_another_order(admin: Admin) -> None:
    page = page_at(admin, "/?span=30d&top=rising")
    assert "each point is a mean over 6 h" in page.text
    assert "?top=1h&span=30d" in page.links() or "?span=30d&top=1h" in page.links()
    assert ("aria-sort", "descending") not in page.attributes


def test_what_can_not_be_chosen(admin: Admin) -> None:
    assert choice_of("10m", "new") == Choice(span="10m", top="new")
    assert choice_of("<", "\0") == Choice()
    assert "each point is a mean over 15 min" in page_at(admin, "/?span=x&top=%ff").text


def test_troubles(admin: Admin) -> None:
    admin.source.scenario = "troubled"
    page = page_at(admin, "/")
    assert "4 things need attention — every crash is still kept, none is lost" in page.text
    assert (
        "Store /var/lib/collectord/crashes No space left on device. Crashes go to /mnt/nfs/crashes instead."
        in page.text
    )
    assert "since 15:08:00, 12 min" in page.text
    assert "Store /mnt/nfs/crashes 3 in the quarantine. They are not moved" in page.text
    assert "130,606 crashes wait. It is tried again in 41 s." in page.text
    assert page.row("s3: crashes destination")[3:] == ["88", "≤ 50 ms", "in 41 s"]
    assert "3 crashes that can't be moved" in page.text
    assert page.row(WHY)[3:5] == [STORE, WHY]
    anchors = {value for name, value in page.attributes if name == "id"}
    assert {link[1:] for link in page.links("#")} <= anchors


def test_a_trouble_that_asks() -> None:
    away, other = troubled(busy(NOW)).stores
    asks = evolve(away, problem="there is no directory; is its file system mounted?")
    page = read(overview_page(evolve(busy(NOW), stores=[asks, other]), Choice(), NOTHING_COUNTED, None))
    assert "is its file system mounted? Crashes go to /mnt/nfs/crashes instead." in page.text


def test_what_waits_in_a_store_that_is_moved_and_was_not_counted() -> None:
    first, other = busy(NOW).stores
    stores = [evolve(first, backlog=None), evolve(other, is_moved=False, backlog=None)]
    page = read(overview_page(evolve(busy(NOW), stores=stores), Choice(), NOTHING_COUNTED, None))
    assert [page.row(name)[4] for name in ("/var/lib/collectord/crashes ext4", "/mnt/nfs/crashes")] == [
        "not known",
        "—",
    ]


def test_a_destination_that_is_tried_again_at_once() -> None:
    destination = evolve(troubled(busy(NOW)).sinks[0], resumes_in_s=0.2)
    page = read(overview_page(evolve(busy(NOW), sinks=[destination]), Choice(), NOTHING_COUNTED, None))
    assert page.row("s3: crashes destination")[5] == "now"
    assert "It is tried again" not in page.text


def test_not_every_crash_is_kept_while_no_process_takes_any() -> None:
    hangs = WorkerStatus(pid=7, since=NOW, problem="hangs")
    page = read(overview_page(evolve(busy(NOW), workers=[hangs]), Choice(), NOTHING_COUNTED, None))
    assert "2 things need attention" in page.text
    assert "every crash is still kept" not in page.text


def test_reports_that_are_answered_503_while_crashes_are_kept() -> None:
    overview = busy(NOW)
    overview = evolve(overview, rates=evolve(overview.rates, lost=0.42))
    what = "0.4 a second are answered 503, though a store takes crashes: the log says why"
    assert overview.troubles == [Trouble(where="Reports", what=what, anchor="answers")]
    page = read(overview_page(overview, Choice(), NOTHING_COUNTED, None))
    assert "1 thing needs attention" in page.text
    assert "every crash is still kept" not in page.text
    assert evolve(overview, loss=Loss(since=NOW, refused=1)).troubles == []


def test_a_worker_that_hangs() -> None:
    hangs = WorkerStatus(pid=7, name="worker 1", since=NOW, problem="hangs: nothing was heard of it for 7 s")
    overview = evolve(busy(NOW), workers=[hangs, WorkerStatus(pid=8, since=NOW)])
    assert overview.troubles == [
        Trouble(where="Worker 1 (pid 7)", what="hangs: nothing was heard of it for 7 s", anchor="workers")
    ]
    page = read(overview_page(overview, Choice(), NOTHING_COUNTED, None))
    assert page.row("worker 1 (pid 7)")[1] == "hangs: nothing was heard of it for 7 s"
    assert evolve(overview, workers=[hangs]).troubles[0].where == "No process"


def test_processes_that_only_move() -> None:
    overview = evolve(busy(NOW), movers=[WorkerStatus(pid=9, name="mover 1", since=NOW)])
    assert overview.troubles == []
    assert read(overview_page(overview, Choice(), NOTHING_COUNTED, None)).row("mover 1 (pid 9)")[1] == "moves crashes"
    none = Trouble(where="Crashmover", what="no process moves crashes: the log says why", anchor="workers")
    assert evolve(overview, movers=[]).troubles == [none]


def test_since_when_there_is_a_trouble() -> None:
    times = TroubleTimes()
    one, other = Trouble(where="Store a", what="full", anchor="stores"), Trouble(where="Store b", what="full")
    times.note(10.0, [one])
    times.note(20.0, [evolve(one, what="fuller"), other])
    assert times.since == {one.key: 10.0, other.key: 20.0}
    times.note(30.0, [other])
    times.note(40.0, [one, other])
    assert times.since == {one.key: 40.0, other.key: 20.0}
    overview = evolve(troubled(busy(NOW)), trouble_since={"Store /mnt/nfs/crashes quarantine": 5.0})
    assert [trouble.since for trouble in overview.troubles] == [None, None, 5.0, None]


def test_what_is_not_promised(admin: Admin) -> None:
    assert "on nfs4: its server may sync nothing" in page_at(admin, "/").row("/mnt/nfs/crashes")[1]


def test_crashes_are_being_lost(admin: Admin) -> None:
    admin.source.scenario = "losing"
    page = page_at(admin, "/")
    assert page.text.startswith("CRASHES ARE BEING LOST · collectord crash-01")
    assert "since 15:16:48 UTC, 3 min 12 s ago. 1,115 reports were answered 503 so far" in page.text
    assert "Store /var/lib/collectord/crashes No space left on device" in page.text
    assert "every crash is still kept" not in page.text
    assert ("class", "state losing") in page.attributes
    assert ("role", "alert") in page.attributes
    assert "each point is a mean over 5 s" in page.text
    assert "last crash kept" in page.text
    assert page.row("Lost (503)")[-1] != "0"
    assert "so far, 5.9 more each second; most" in page.text
    nfs = page.row("/mnt/nfs/crashes")
    assert (nfs[2], nfs[4], nfs[7]) == ("7.2 TiB free", "12", "0")
    assert "what is told here was so 3 min ago" in nfs[1]
    assert "Make room, or lower min_free_bytes and restart." in page.text
    assert "nothing for 5 s. It is tried again and again: see whether its disk or server answers." in page.text
    assert "none for " in page.text


def test_a_daemon_that_has_just_started(admin: Admin) -> None:
    admin.source.scenario = "empty"
    page = page_at(admin, "/")
    assert page.row("/home/me/crashes")[2:] == ["45.1 GiB free", "256 MiB", "—", "", "—", "0"]
    assert "This sends one:curl -F ProductName=Test" in page.text
    assert "http://HOST:PORT/submit" in page.text
    assert "None is set: crashes stay in their stores." in page.text
    assert "Top crashes" not in page.text
    overview = evolve(empty(NOW), submit_url="http://localhost:8000/submit")
    page = read(overview_page(overview, Choice(), NOTHING_COUNTED, None))
    assert "@crash.dmp http://localhost:8000/submit" in page.text


def test_an_index_that_can_not_be_asked(admin: Admin) -> None:
    """What the daemon itself remembers is still shown."""
    admin.source.scenario = "unindexed"
    page = page_at(admin, "/")
    assert "Without the index of crashes, some things are not shown: it takes too long." in page.text
    assert "Top crashes" not in page.text
    assert page.row("Left out by rules")[1:] == ["3.0", "0.5", "3.0", "46,440"]
    assert "form" not in page.elements
    newest = admin.source.named.overview().recent[0]
    assert page.row(newest.crash_id)[2:3] == [f"{newest.product} {newest.version}"]
    assert admin.ask("/search?q=a").status == 503
    assert page_at(admin, f"/crashes/{CRASH_ID}").row("upload_file_minidump")


def test_titles() -> None:
    assert title(busy(NOW)) == "collectord crash-01"
    assert title(empty(NOW)) == "collectord"
    assert title(troubled(busy(NOW))) == "(4) collectord crash-01"
    assert title(losing(busy(NOW))) == "CRASHES ARE BEING LOST · collectord crash-01"


# ——— what it costs ———


def test_a_page_is_made_once_a_second_for_all_who_ask(admin: Admin) -> None:
    for _ in range(5):
        page_at(admin, "/")
    assert admin.source.overviews == 1
    page_at(admin, "/?top=new")
    assert admin.source.overviews == 2
    admin.wait(1)
    page_at(admin, "/")
    assert admin.source.overviews == 3
    assert len(admin.in_thread) == 3


# ——— what it must not do ———


@pytest.mark.parametrize("path", PATHS)
def test_what_a_client_sent_is_never_markup(admin: Admin, path: str) -> None:
    harmless = page_at(admin, path)
    admin.wait(2)
    admin.source.scenario = "hostile"
    page = page_at(admin, path)
    assert page.elements <= harmless.elements
    assert {name for name, _ in page.attributes} <= {name for name, _ in harmless.attributes} | {"tabindex"}
    assert not any(name.startswith("on") or name == "style" for name, _ in page.attributes)
    allowed = r"(\.\./|\./)?(#?[a-z]*|[\w./-]+|fingerprints/[\w:]+|(search(\.json)?)?\?[\w%+=&.*-]*)"
    assert [link for link in page.links() if not re.fullmatch(allowed, link)] == []


@pytest.mark.parametrize("path", PATHS)
def test_nothing_inline_and_nothing_from_elsewhere(admin: Admin, path: str) -> None:
    body = admin.ask(path).body
    assert b"<style" not in body
    assert re.findall(rb"<script[^>]*>(.*?)</script>", body, re.S) in ([], [b""])
    assert not [link for link in read(body).links() if "//" in link]


def test_huge_texts_are_cut(admin: Admin) -> None:
    admin.source.scenario = "hostile"
    for path in ("/", "/search?q=a", f"/fingerprints/{FINGERPRINT}"):
        assert len(admin.ask(path).body) < 300_000
