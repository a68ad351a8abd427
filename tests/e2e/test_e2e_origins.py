"""
Pages in a real browser send reports to a daemon of another origin, in a network that leads nowhere.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from attrs import define
from playwright.sync_api import Browser, Page

from tests.support.chromium import SecludedServer, missing
from tests.support.daemon import ROOT, config
from tests.support.disk import problems, stored_crashes
from tests.support.wait import until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(120),
    pytest.mark.skipif(bool(missing()), reason=missing() or "all is there"),
]

PORT, PAGES_PORT = 8000, 8001
LISTED, OTHER = f"http://localhost:{PAGES_PORT}", f"http://127.0.0.1:{PAGES_PORT}"
ROWS = f"""
dialects = ["submit", "sentry"]
[[submission.dialect]]
name = "pages"
path = "/pages"
body = "multipart or dump"
cors = ["{LISTED}"]
[[submission.dialect]]
name = "all"
path = "/all"
cors = ["*"]
[[submission.dialect]]
name = "sentry"
cors = ["{LISTED}"]
"""


@define
class DaemonAndPages(SecludedServer):
    """A daemon, and a server of pages. There is one page, which is empty."""

    def served(self) -> Sequence[str]:
        self._path("pages").mkdir()
        self._path("pages/index.html").write_text("<!doctype html><title>a page</title>")
        self._path("collectord.toml").write_text(config(PORT, self.root, submission=ROWS))
        pages = f"{sys.executable} -m http.server {PAGES_PORT} --bind 127.0.0.1 --directory {self._path('pages')}"
        twistd = Path(sys.executable).with_name("twistd")
        serve = f"{twistd} -n --pidfile= collectord --config {self._path('collectord.toml')}"
        return ["sh", "-c", f"{pages} & exec {serve}"]

    def environment(self) -> Mapping[str, str]:
        return {"PYTHONPATH": str(ROOT), "STATE_DIRECTORY": str(self._path("state"))}

    def answers(self) -> bool:
        urls = [f"http://127.0.0.1:{PORT}/__lbheartbeat__", OTHER]
        asked = [*self.beside(), "curl", "--silent", "--fail", *urls]
        return subprocess.run(asked, stdout=subprocess.DEVNULL, check=False).returncode == 0

    @property
    def root(self) -> Path:
        """The directory of the store."""
        return self._path("root")

    def _path(self, name: str) -> Path:
        return self.log.parent / name


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonAndPages]:
    with DaemonAndPages(tmp_path_factory.mktemp("origins") / "log") as made:
        yield made
        assert problems(made.root) == []
        assert "Traceback" not in made.log.read_text()


@pytest.fixture(scope="module")
def browser(server: DaemonAndPages) -> Iterator[Browser]:
    with server.browser() as started:
        yield started


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.new_context() as context:
        yield context.new_page()


FORM = """async () => {
    const form = new FormData();
    form.append("ProductName", "Page");
    form.append("upload_file_minidump", new Blob(["MDMP of a page"]), "a.dmp");
    return {body: form};
}"""
DUMP = 'async () => ({body: new Blob(["MDMP of a page"], {type: "application/octet-stream"})})'
GZIP = """async () => {
    const packed = new Blob(["MDMP of a page"]).stream().pipeThrough(new CompressionStream("gzip"));
    const headers = {"Content-Encoding": "gzip", "Content-Type": "application/octet-stream"};
    return {body: await new Response(packed).blob(), headers};
}"""
OBJECT = """async () => ({body: new Blob(['{"a": 1}'], {type: "application/json"})})"""
ENVELOPE = (
    """async () => ({body: '{}\\n{"type":"event"}\\n{"release":"1.0"}\\n', headers: {"Content-Type": "text/plain"}})"""
)
NOTHING = "async () => ({body: new FormData()})"
"""What a page sends: a body, and headers."""

MINIDUMP = {"upload_file_minidump": b"MDMP of a page"}
FETCH = """async ([url, make]) => {
    try {
        const response = await fetch(url, {method: "POST", ...await eval(make)()});
        return [response.status, await response.text()];
    } catch (error) {
        return [0, error.name];
    }
}"""
BEACON = "async ([url, make]) => navigator.sendBeacon(url, (await eval(make)()).body)"


def sent(page: Page, origin: str, path: str, make: str) -> tuple[int, str]:
    """What a page can read of the answer."""
    page.goto(origin)
    status, text = page.evaluate(FETCH, [f"http://127.0.0.1:{PORT}{path}", make])
    return int(status), str(text)


@pytest.mark.parametrize(
    ("origin", "path", "make", "dumps"),
    [
        pytest.param(LISTED, "/pages", FORM, MINIDUMP, id="form"),
        pytest.param(LISTED, "/pages", DUMP, MINIDUMP, id="a type that is asked for first"),
        pytest.param(LISTED, "/pages", GZIP, MINIDUMP, id="a header that is asked for first"),
        pytest.param(LISTED, "/pages", OBJECT, {"body": b'{"a": 1}'}, id="json"),
        pytest.param(LISTED, "/all", FORM, MINIDUMP, id="all origins, listed elsewhere"),
        pytest.param(OTHER, "/all", FORM, MINIDUMP, id="all origins"),
    ],
)
def test_a_page_reads_the_crash_id(
    page: Page, server: DaemonAndPages, origin: str, path: str, make: str, dumps: Mapping[str, bytes]
) -> None:
    status, text = sent(page, origin, path, make)
    assert status == 200
    assert stored_crashes(server.root)[text.removeprefix("CrashID=bp-").strip()].dumps == dumps


def test_a_page_sends_an_envelope(page: Page, server: DaemonAndPages) -> None:
    status, text = sent(page, LISTED, "/api/7/envelope/?sentry_key=k", ENVELOPE)
    assert (status, list(json.loads(text))) == (200, ["id"])
    assert any(crash.raw_crash.get("Version") == "1.0" for crash in stored_crashes(server.root).values())


def test_a_page_reads_why_it_is_refused(page: Page) -> None:
    assert sent(page, LISTED, "/pages", NOTHING) == (400, "Discarded=malformed_no_annotations")


@pytest.mark.parametrize(("origin", "path"), [(LISTED, "/submit"), (OTHER, "/submit"), (OTHER, "/pages")])
def test_what_a_page_may_not_read_is_kept_nevertheless(
    page: Page, server: DaemonAndPages, origin: str, path: str
) -> None:
    """A browser sends a form without asking first."""
    before = set(stored_crashes(server.root))
    assert sent(page, origin, path, FORM) == (0, "TypeError")
    [crash_id] = set(stored_crashes(server.root)) - before
    assert stored_crashes(server.root)[crash_id].dumps == MINIDUMP


@pytest.mark.parametrize(("origin", "path"), [(LISTED, "/submit"), (OTHER, "/pages"), (LISTED, "/no/such/path")])
@pytest.mark.parametrize("make", [DUMP, OBJECT], ids=["dump", "json"])
def test_what_has_to_be_asked_for_is_not_sent(
    page: Page, server: DaemonAndPages, origin: str, path: str, make: str
) -> None:
    before = set(stored_crashes(server.root))
    assert sent(page, origin, path, make) == (0, "TypeError")
    assert set(stored_crashes(server.root)) == before


@pytest.mark.parametrize("make", [FORM, OBJECT], ids=["form", "json"])
def test_a_beacon(page: Page, server: DaemonAndPages, make: str) -> None:
    before = set(stored_crashes(server.root))
    page.goto(LISTED)
    assert page.evaluate(BEACON, [f"http://127.0.0.1:{PORT}/pages", make]) is True
    page.goto("about:blank")  # it is sent though the page has gone
    until(lambda: len(stored_crashes(server.root)) == len(before) + 1)
