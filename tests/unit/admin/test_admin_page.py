import re
from html.parser import HTMLParser
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest
from attrs import define, evolve, field
from hypothesis import given
from hypothesis import strategies as st

from collectord.admin.format import count, moment, rate, share, size, span, time_of_day, visible
from collectord.admin.templating import render
from collectord.admin.view import MAX_ANNOTATIONS, MAX_NAME, MAX_VALUE, crash_values, overview_values
from collectord.observe.crashpage import CrashPage, JournalEntry, moved_to
from collectord.observe.status import AnswerCount, Trouble, WorkerStatus
from tests.support.adminserver import CRASH_ID, HOSTILE, busy, crash_page, empty, hostile, troubled
from tests.unit.admin.adminwire import Admin

NOW = 1_466_608_800.0


@define
class Page(HTMLParser):
    """
    A page as a browser reads it.

    @ivar elements: names, with the names of their attributes.
    @ivar rows: the texts of the cells of all rows that are shown.
    """

    elements: set[str] = field(factory=set)
    attributes: list[tuple[str, str | None]] = field(factory=list)
    rows: list[list[str]] = field(factory=list)
    texts: list[str] = field(factory=list)
    _templates: int = 0
    _in_cell: bool = False

    def __attrs_pre_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes += attrs
        self._templates += tag == "template"
        if not self._templates and tag == "tr":
            self.rows.append([])
        if not self._templates and tag in ("td", "th"):
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self._templates -= tag == "template"
        self._in_cell = self._in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if not self._templates:
            self.texts.append(data)
            if self._in_cell:
                self.rows[-1][-1] += data

    def row(self, name: str) -> list[str]:
        """The cells of the row that begins so."""
        return next([cell.strip() for cell in row] for row in self.rows if row and row[0].strip() == name)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def page_at(admin: Admin, path: str) -> Page:
    response = admin.ask(path)
    assert (response.status, response.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert response.body.startswith(b"<!DOCTYPE html>\n<html")
    page = Page()
    page.feed(response.body.decode("utf-8", errors="strict"))
    return page


@pytest.fixture
def admin() -> Admin:
    return Admin()


# ——— what it says ———


def test_the_overview(admin: Admin) -> None:
    page = page_at(admin, "/")
    assert "All is well" in page.text
    assert "2016-06-22 15:20:00 UTC" in page.text
    assert page.row("/mnt/nfs/crashes") == ["/mnt/nfs/crashes", "takes crashes", "7.9 TB", "1.0 GB", "0", "—", "0"]
    assert page.row("rabbitmq: socorro.normal")[1:3] == ["publisher", "takes crashes"]
    assert page.row("too_slow") == ["too_slow", "408", "204", "< 0.1 %"]
    assert page.row("2")[1:] == ["infobar_is_true", '* : SubmittedFromInfobar = "true"', "5,170", "reject 5,170"]
    assert page.row("4022") == ["4022", "takes submissions", "2016-06-22 12:53:22 UTC", "2 h 26 min"]
    newest = admin.source.named.overview().recent[0]
    assert page.row(newest.crash_id)[1:] == [
        time_of_day(newest.at),
        newest.product,
        newest.version,
        size(newest.size),
        newest.rule,
        newest.state,
        newest.where,
    ]
    assert ("href", f"crashes/{newest.crash_id}") in page.attributes


def test_troubles(admin: Admin) -> None:
    admin.source.scenario = "troubled"
    page = page_at(admin, "/")
    assert "3 things need attention" in page.text
    assert "Store /var/lib/collectord/crashes No space left on device" in page.text
    assert "Store /mnt/nfs/crashes 3 in the quarantine" in page.text
    assert "Destination s3: crashes PutObject" in page.text
    assert page.row("s3: crashes")[-2:] == ["88", "41 s"]


def test_a_worker_that_hangs() -> None:
    hangs = WorkerStatus(pid=7, since=NOW, problem="hangs: nothing was heard of it for 7 s")
    overview = evolve(busy(NOW), workers=[hangs, WorkerStatus(pid=8, since=NOW)])
    assert overview.troubles == [Trouble(where="Worker 7", what="hangs: nothing was heard of it for 7 s")]
    rows: Any = overview_values(overview)["workers"]
    assert [(row["state"], row["level"]) for row in rows] == [
        ("hangs: nothing was heard of it for 7 s", "bad"),
        ("takes submissions", "good"),
    ]
    assert evolve(overview, workers=[hangs]).troubles[0].where == "No process"


def test_what_is_not_promised(admin: Admin) -> None:
    admin.source.scenario = "busy"
    assert "Store /mnt/nfs/crashes on nfs4: its server may sync nothing" in page_at(admin, "/").text


def test_crashes_are_being_lost(admin: Admin) -> None:
    admin.source.scenario = "losing"
    page = page_at(admin, "/")
    assert page.text.startswith("CRASHES ARE BEING LOST · collectord ")
    assert "since 2016-06-22 15:16:48 UTC, 3 min 12 s ago. 1,115 reports were answered 503 so far" in page.text
    assert "Store /var/lib/collectord/crashes No space left on device" in page.text
    assert ("class", "state losing") in page.attributes
    assert page.row("/mnt/nfs/crashes")[-1] == "not known"


def test_a_daemon_that_has_just_started(admin: Admin) -> None:
    admin.source.scenario = "empty"
    page = page_at(admin, "/")
    assert page.row("/home/me/crashes")[2:] == ["48.4 GB", "268 MB", "—", "—", "0"]
    assert "No crash has come since the start." in page.text
    assert "None is set: crashes stay in their stores." in page.text


def test_a_crash(admin: Admin) -> None:
    page = page_at(admin, f"/crashes/{CRASH_ID}")
    assert CRASH_ID in page.text
    assert page.row("upload_file_minidump") == ["upload_file_minidump", "391 kB", "391,204", "9f86d081884c7d65" * 4]
    assert page.row("memory_report")[3] == "—"
    assert page.row("/var/lib/collectord/crashes") == ["/var/lib/collectord/crashes", "waits to be moved"]
    assert page.row("2016-06-22 15:19:51 UTC") == ["2016-06-22 15:19:51 UTC", "moved", "s3: crashes"]
    assert page.row("MozCrashReason") == ["MozCrashReason", "MOZ_RELEASE_ASSERT(aIndex < mLength)"]
    assert page.row("throttle_rule") == ["throttle_rule", "accept_everything"]
    assert ("href", f"{CRASH_ID}.json") in page.attributes


def test_a_crash_of_which_nothing_is_known() -> None:
    values = crash_values(CrashPage(crash_id=CRASH_ID, annotations={}, facts={}, dumps=[], places=[], events=[]))
    assert values["no_places"] == "In no store any more."
    assert all(values[f"no_{name}"] for name in ("dumps", "events", "facts", "annotations"))


def test_a_crash_that_was_moved() -> None:
    moved = JournalEntry(at=2.0, what="moved", where="s3://a", place="s3://a/v1/raw_crash/20160622/id")
    page = CrashPage(crash_id=CRASH_ID, annotations=None, facts={}, dumps=[], places=moved_to([moved]), events=[moved])
    values: Any = crash_values(page)
    assert values["annotation_count"] == ""
    assert f"collectord fetch {CRASH_ID}" in values["no_annotations"]
    assert values["events"][0]["where"] == values["places"][0]["store"] == moved.place
    values = crash_values(evolve(page, events=[]))
    assert values["no_annotations"] == "Not here any more."


@pytest.mark.parametrize(
    ("overview", "title", "state"),
    [
        (busy(NOW), "collectord", "state good"),
        (empty(NOW), "collectord", "state good"),
        (troubled(busy(NOW)), "(3) collectord", "state bad"),
        (evolve(busy(NOW), stores=troubled(busy(NOW)).stores[:1]), "(1) collectord", "state bad"),
    ],
)
def test_the_title_and_the_state(overview, title: str, state: str) -> None:  # type: ignore[no-untyped-def]
    values = overview_values(overview)
    assert (values["title"], values["state"]) == (title, state)


def test_totals_that_have_no_tile_are_facts() -> None:
    values = overview_values(evolve(busy(NOW), totals={"received": 5, "fell_back": 7}))
    assert values["received_total"] == "5 in all"
    assert values["kept_total"] == ""
    assert {"key": "fell_back", "name": "fell back", "value": "7"} in values["facts"]


# ——— what it must not do ———


@pytest.mark.parametrize("path", ["/", f"/crashes/{CRASH_ID}"])
def test_what_a_client_sent_is_never_markup(admin: Admin, path: str) -> None:
    harmless = page_at(admin, path)
    admin.source.scenario = "hostile"
    page = page_at(admin, path)
    assert page.elements == harmless.elements
    assert {name for name, _ in page.attributes} == {name for name, _ in harmless.attributes}
    assert not any(name.startswith("on") or name == "style" for name, _ in page.attributes)
    links = [value for name, value in page.attributes if name in ("href", "src")]
    assert all(re.fullmatch(r"(\.\./)?[a-z]*(/|\.)?[\w./-]*", value or "") for value in links), links
    if path != "/":
        for name in ("Img", "Svg", "Style", "Entity", "Link"):
            assert page.row(name) == [name, HOSTILE[name]]


def test_nothing_inline_and_nothing_from_elsewhere(admin: Admin) -> None:
    for path in ("/", f"/crashes/{CRASH_ID}"):
        body = admin.ask(path).body
        assert b"<style" not in body
        assert re.findall(rb"<script[^>]*>(.*?)</script>", body, re.S) in ([], [b""])
        assert b"//" not in body.replace(b"<!DOCTYPE html>", b"")


def test_what_can_not_be_seen_is_shown_by_its_number(admin: Admin) -> None:
    admin.source.scenario = "hostile"
    page = page_at(admin, f"/crashes/{CRASH_ID}")
    assert page.row("Bidi") == ["Bidi", "harmless⟨U+202E⟩txt.exe"]
    assert page.row("Control") == ["Control", "a⟨U+0000⟩b⟨U+001B⟩[31mc⟨U+007F⟩⟨U+009B⟩"]
    assert page.row("Surrogate") == ["Surrogate", "⟨U+D83D⟩ alone, ⟨U+DE00⟩"]
    assert page.row("Lines") == ["Lines", "one\ntwo\n\tthree"]


def test_huge_values_are_cut(admin: Admin) -> None:
    admin.source.scenario = "hostile"
    page = page_at(admin, f"/crashes/{CRASH_ID}")
    assert page.row("Huge")[1] == "x" * MAX_VALUE + "… 2,995,000 more characters are in the JSON."
    assert page.row(("Long" + "n" * 500)[:MAX_NAME])[1] == "a name"
    assert len(admin.ask("/").body) < 200_000


def test_many_annotations_are_cut() -> None:
    values = crash_values(crash_page(CRASH_ID, {f"a{n}": "" for n in range(MAX_ANNOTATIONS + 1234)}))
    assert len(values["annotations"]) == MAX_ANNOTATIONS
    assert values["annotation_count"] == "2,234"
    assert values["more_annotations"] == "1,234 more are in the JSON."


def test_every_value_of_an_overview_is_sanitized() -> None:
    overview = hostile(busy(NOW))
    overview = evolve(overview, answers=[AnswerCount(status="2\x0000", reason="\u202e", count=1)])
    values = overview_values(overview)
    assert values["answers"][0]["status"] == "2⟨U+0000⟩00"  # type: ignore[index]
    assert values["answers"][0]["reason"] == "⟨U+202E⟩"  # type: ignore[index]


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=50))
def test_any_text_can_be_shown_and_sent(text: str) -> None:
    shown = visible(text)
    assert visible(shown) == shown
    assert not any(0xD800 <= ord(character) < 0xE000 for character in shown)
    template = fromstring('<p data-text="x" data-href="x" data-class="x" />')
    page = Page()
    page.feed(render(template, {"x": shown}).decode())
    assert page.elements == {"p"}
    assert "".join(page.texts).lstrip("\n") == shown.replace("\r", "\n").lstrip("\n")


def test_rows_are_repeated_beside_their_template() -> None:
    template = fromstring('<ul data-rows="x"><li data-key="key"><b data-text="a" /></li></ul>')
    assert render(template, {"x": [{"key": "1", "a": "<"}, {"key": "2", "a": "&"}]}) == (
        b'<!DOCTYPE html>\n<ul data-rows="x"><template><li data-key="key"><b data-text="a"></b></li></template>'
        b'<li data-key="1"><b data-text="a">&lt;</b></li><li data-key="2"><b data-text="a">&amp;</b></li></ul>'
    )


# ——— words ———


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (count(1234567), "1,234,567"),
        (rate(0), "0.0"),
        (rate(12.34), "12.3"),
        (rate(1234.5), "1,234"),
        (size(0), "0 B"),
        (size(812), "812 B"),
        (size(999.7), "1.0 kB"),
        (size(4100), "4.1 kB"),
        (size(99_960), "100 kB"),
        (size(120_400_000), "120 MB"),
        (size(5e18), "5,000 PB"),
        (span(0), "0 s"),
        (span(-3), "0 s"),
        (span(59.6), "1 min"),
        (span(725), "12 min 5 s"),
        (span(3600), "1 h"),
        (span(3630), "1 h"),
        (span(273_600), "3 d 4 h"),
        (share(1, 8), "12.5 %"),
        (share(1, 10_000), "< 0.1 %"),
        (share(0, 10), "0.0 %"),
        (share(0, 0), "0.0 %"),
        (moment(1466608789.9), "2016-06-22 15:19:49"),
        (time_of_day(1466608789.9), "15:19:49"),
        (visible("a\r\nb\tc"), "a\nb\tc"),
        (visible("naïve שלום 日本 🦊 é"), "naïve שלום 日本 🦊 é"),
        (visible("\u2066\u200b\U000e0041\ufeff\ufffe"), "⟨U+2066⟩⟨U+200B⟩⟨U+E0041⟩⟨U+FEFF⟩⟨U+FFFE⟩"),
    ],
)
def test_words(said: str, expected: str) -> None:
    assert said == expected
