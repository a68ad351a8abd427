"""
The admin page in a real browser, which sits with a made-up daemon in a network that leads nowhere.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import pytest
from attrs import define, field
from playwright.sync_api import Browser, Dialog, Page, Request
from playwright.sync_api import Error as PlaywrightError

from tests.support import wait
from tests.support.adminindex import FINGERPRINT
from tests.support.adminserver import CRASH_ID, HOSTILE
from tests.support.chromium import SecludedServer, missing
from tests.support.daemon import ROOT
from tests.support.mounts import can_mount

PORT = 8001
URL = f"http://127.0.0.1:{PORT}/"
TOKEN = "s3cret"
AXE = Path(sys.prefix) / "npm/node_modules/axe-core/axe.min.js"
"""From npm: C{.ci/run} installs it beside the virtual environment."""
CRASH = f"crashes/{CRASH_ID}"
SCHEMES: Sequence[Literal["light", "dark"]] = ("light", "dark")


pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(120),
    pytest.mark.skipif(bool(missing()), reason=missing() or "all is there"),
]


@define
class AdminServer(SecludedServer):
    """The made-up daemon."""

    def served(self) -> Sequence[str]:
        serve = [sys.executable, "-m", "tests.support.adminserver", str(PORT)]
        return [*serve, self._path("scenario"), self._path("ready"), TOKEN]

    def environment(self) -> Mapping[str, str]:
        return {"PYTHONPATH": str(ROOT)}

    def answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()
        return Path(self._path("ready")).exists()

    def show(self, scenario: str) -> None:
        path = Path(self._path("scenario"))
        path.with_suffix(".new").write_text(scenario)
        path.with_suffix(".new").replace(path)

    def _path(self, name: str) -> str:
        return str(self.log.with_name(name))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminServer]:
    made = AdminServer(tmp_path_factory.mktemp("admin") / "log")
    made.show("busy")
    with made:
        yield made


@pytest.fixture(scope="module")
def browser(server: AdminServer) -> Iterator[Browser]:
    with server.browser() as started:
        yield started


@define
class Watched:
    """
    A page whose clock a test can hurry, and what went wrong in it.

    @ivar asked: the URLs that it asked for.
    @ivar waits: how many answers its script waits for.
    """

    page: Page
    wrong: list[str] = field(factory=list)
    asked: list[str] = field(factory=list)
    waits: int = 0

    def go(self, path: str = "") -> Page:
        """Look at another page, if nothing was wrong with this one."""
        self.check()
        self.page.goto(URL + path)
        return self.page

    def check(self) -> None:
        """Nothing ran that a client sent, nothing was blocked, and nobody else was asked."""
        assert self.page.evaluate("[window.pwned, window.violations ?? []]") == [None, []]
        assert self.wrong == []
        assert [url for url in self.asked if not url.startswith(URL)] == []

    def until(self, condition: str) -> None:
        """Wait until a condition holds; meanwhile the page asks again and again, for its clock is fast."""

        def holds() -> bool:
            if not self.waits:  # Otherwise the answer would seem to take long, and the page would ask less often.
                self.page.clock.run_for(10_000)
            return bool(self.page.evaluate(condition))

        wait.until(holds)

    def forget(self) -> None:
        """What was wrong was meant to be so."""
        self.page.goto("about:blank")
        self.wrong.clear()
        self.asked.clear()


def watched_page(page: Page) -> Watched:
    watched = Watched(page)

    def dismissed(dialog: Dialog) -> None:
        watched.wrong.append("a dialog")
        dialog.dismiss()

    def asked(request: Request) -> None:
        watched.asked.append(request.url)
        watched.waits += request.resource_type == "fetch"

    def answered(request: Request) -> None:
        watched.waits -= request.resource_type == "fetch"

    def failed(request: Request) -> None:
        answered(request)
        if request.resource_type != "fetch":  # those end with the page
            watched.wrong.append(f"failed: {request.url}")

    page.on("console", lambda message: watched.wrong.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: watched.wrong.append(f"error: {error}"))
    page.on("dialog", dismissed)
    page.on("request", asked)
    page.on("requestfinished", answered)
    page.on("requestfailed", failed)
    page.clock.install()
    page.add_init_script(
        "window.violations = [];"
        "addEventListener('securitypolicyviolation', (event) => window.violations.push(event.violatedDirective));"
    )
    return watched


@pytest.fixture(scope="module")
def shared(browser: Browser) -> Watched:
    return watched_page(browser.new_context().new_page())


@pytest.fixture
def watched(shared: Watched, server: AdminServer) -> Iterator[Watched]:
    """The one page of all tests; whatever is wrong with it in the end fails the test."""
    server.show("busy")
    shared.page.set_viewport_size({"width": 1280, "height": 900})
    shared.page.emulate_media(color_scheme="light")
    try:
        yield shared
        shared.check()
    finally:
        shared.forget()


LIVE = "document.getElementById('link').textContent === 'live'"
LAST = "section[aria-labelledby=last] tbody"
PATHS = ["", CRASH, "search?q=product:Firefox", f"fingerprints/{FINGERPRINT}"]


# ——— live ———


def test_the_numbers_move(watched: Watched) -> None:
    page = watched.go("?span=10m")
    watched.until(LIVE)
    newest = page.locator(f"{LAST} th a").first.inner_text()
    watched.until(f"!document.querySelector('{LAST} th a').textContent.startsWith({newest!r})")
    links = page.locator(f"{LAST} th a").evaluate_all("links => links.map((a) => [a.text, a.pathname])")
    assert [path for _, path in links] == [f"/crashes/{crash_id}" for crash_id, _ in links]
    assert page.locator(f"{LAST} tr").count() == 10
    assert page.locator("svg.plot .slot").count() == 120
    assert page.locator("nav [aria-current]").all_inner_texts() == ["10 min", "24 h"]


def test_all_pages_are_live(watched: Watched) -> None:
    for path in PATHS[1:]:
        page = watched.go(path)
        before = page.locator("header time").inner_text()
        watched.until(f"{LIVE} && document.querySelector('header time').innerText !== {before!r}")


def test_a_crash_that_is_no_longer_known(watched: Watched, server: AdminServer) -> None:
    page = watched.go(CRASH)
    server.show("empty")
    watched.until("document.getElementById('link').textContent === ', no longer known'")
    assert page.locator("h1").inner_text() == CRASH_ID
    watched.forget()  # The browser writes to its console that the page was not there.


def test_troubles_come_and_go(server: AdminServer, watched: Watched) -> None:
    page = watched.go()
    assert page.get_by_role("status").inner_text() == "All is well"
    server.show("troubled")
    watched.until("document.querySelector('[role=status]').textContent === '4 things need attention'")
    watched.until("document.title === '(4) collectord crash-01'")
    assert page.locator(".troubles li").count() == 4
    assert "No space left on device" in page.locator(".stores tbody tr").first.inner_text()
    server.show("empty")
    watched.until("document.querySelector('[role=status]').textContent === 'All is well'")
    assert page.locator(".troubles li").count() == 0
    page.get_by_text("No crash has come since the start").wait_for(state="visible")
    server.show("losing")
    watched.until("document.title === 'CRASHES ARE BEING LOST · collectord crash-01'")
    assert page.get_by_role("alert").inner_text() == "CRASHES ARE BEING LOST"
    server.show("busy")
    watched.until(f"document.querySelectorAll('{LAST} tr').length === 10")
    assert page.get_by_text("No crash has come since the start").count() == 0


def test_without_javascript(browser: Browser, server: AdminServer) -> None:
    server.show("busy")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(URL)
    page.get_by_text("as loaded").wait_for(state="visible")
    assert page.locator(f"{LAST} tr").count() == 10
    page.locator("svg.plot").wait_for(state="visible")
    page.get_by_role("link", name="Rising").click()
    page.wait_for_url("**/?top=rising")
    page.get_by_role("link", name="10 min").click()
    page.wait_for_url("**/?*span=10m*")
    assert page.locator("nav [aria-current]").all_inner_texts() == ["10 min", "Rising"]
    page.get_by_role("searchbox").fill("product:Firefox")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search?q=product%3AFirefox")
    page.get_by_role("heading", name="4,821 crashes").wait_for(state="visible")
    page.locator(".results tbody th a").first.click()
    page.wait_for_url("**/crashes/*")
    page.get_by_text("MOZ_RELEASE_ASSERT(aIndex < mLength)").wait_for(state="visible")
    page.get_by_role("link", name="this fingerprint").click()
    page.wait_for_url("**/fingerprints/*")
    page.get_by_role("link", name="collectord", exact=True).click()
    page.wait_for_url(URL)
    context.close()


def test_a_row_keeps_the_focus_while_others_come(watched: Watched) -> None:
    page = watched.go()
    for _ in range(4):
        page.keyboard.press("Tab")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    watched.until(LIVE)
    link = page.locator(f"{LAST} th a").first
    crash_id = link.inner_text()
    link.focus()
    watched.until(f"[...document.querySelectorAll('{LAST} th a')].findIndex((a) => a.text === {crash_id!r}) > 1")
    assert page.evaluate("document.activeElement.textContent") == crash_id
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/crashes/{crash_id}")
    assert page.locator("h1").inner_text() == crash_id


def test_a_connection_that_is_lost(watched: Watched) -> None:
    page = watched.go()
    watched.until(LIVE)
    page.route(URL, lambda route: route.abort())
    watched.until("document.getElementById('link').className === 'bad'")
    assert page.locator("#link").inner_text() == ", not connected"
    assert page.get_by_role("status").inner_text() == "All is well"
    page.unroute(URL)
    watched.until(LIVE)
    watched.forget()  # The browser writes to its console that it was not connected.


def test_a_hidden_page_asks_for_nothing(watched: Watched) -> None:
    page = watched.go()
    watched.until(LIVE)
    hide = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true});"
    hide += "document.dispatchEvent(new Event('visibilitychange'))"
    page.evaluate(hide % "true")
    page.wait_for_load_state("networkidle")  # An answer may be on its way.
    before = len(watched.asked)
    page.clock.run_for(60_000)
    page.evaluate("fetch('static/icon.svg').then((answer) => answer.text())")  # It would have come after others.
    assert watched.asked[before:] == [f"{URL}static/icon.svg"]
    page.evaluate(hide % "false")
    wait.until(lambda: watched.page.evaluate(LIVE) and len(watched.asked) > before + 1)


# ——— hostile ———


def test_nothing_that_a_client_sent_runs(server: AdminServer, watched: Watched) -> None:
    """What would load or run something is looked for, since it may take its time to do so."""
    server.show("hostile")
    for path in PATHS:
        page = watched.go(path)
        assert page.locator("main :is(img, script, iframe, object, embed, style, base, link)").count() == 0
        attributes = "[...document.querySelectorAll('main *')].flatMap((each) => [...each.attributes])"
        runs = "(one) => one.name.startsWith('on') || /^\\s*(javascript|data):/i.test(one.value)"
        links = "(one) => ['href', 'src', 'action'].includes(one.name) || one.name.startsWith('on')"
        assert page.evaluate(f"{attributes}.filter({links}).filter({runs}).map((one) => one.value)") == []
        for name in ("Img", "Svg", "Style", "Entity", "Link") if path == CRASH else ("Img",):
            page.get_by_text(HOSTILE[name]).first.wait_for(state="attached")
    watched.go()
    watched.until(LIVE)


def test_the_policy_would_stop_what_slipped_through(watched: Watched) -> None:
    page = watched.go()
    page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.pwned = 1";
            const image = document.createElement("img");
            image.setAttribute("onerror", "window.pwned = 1");
            image.src = "http://192.0.2.1/x";
            const style = document.createElement("style");
            document.body.append(script, image, style);
        }"""
    )
    wait.until(lambda: page.evaluate("window.violations.length >= 3"))
    assert page.evaluate("window.pwned") is None
    watched.forget()


def test_no_other_page_can_read_it(server: AdminServer, browser: Browser) -> None:
    """By the name localhost it is another origin than by 127.0.0.1."""
    server.show("busy")
    context = browser.new_context(bypass_csp=True)
    page = context.new_page()
    page.goto(f"http://localhost:{PORT}/static/icon.svg")
    read = """(url) => fetch(url, {mode: "no-cors"}).then((answer) => answer.text()).catch((error) => String(error))"""
    assert "Failed to fetch" in page.evaluate(read, URL + "overview.json")
    context.close()


# ——— the token ———


def test_a_token(server: AdminServer, browser: Browser) -> None:
    server.show("busy")
    url = f"http://127.0.0.1:{PORT + 1}/"
    context = browser.new_context()
    with pytest.raises(PlaywrightError, match="ERR_INVALID_AUTH_CREDENTIALS"):
        context.new_page().goto(url)
    context.close()
    context = browser.new_context(http_credentials={"username": "", "password": TOKEN})
    watched = watched_page(context.new_page())
    watched.page.goto(url)
    watched.until(LIVE)
    assert TOKEN not in watched.page.content()
    watched.page.locator(f"{LAST} th a").first.click()
    watched.page.wait_for_url("**/crashes/*")
    assert watched.wrong == []
    context.close()


# ——— how it looks ———


WIDTHS = (1440, 1409, 1281, 1001, 768, 390, 360)
"""The last one is that of a small phone; the others are beside those at which the layout changes."""


def fits(page: Page) -> bool:
    """Whether the page needs no scrolling sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


@pytest.mark.parametrize(
    ("scenario", "path"),
    [
        *(("busy", path) for path in PATHS),
        *((scenario, "") for scenario in ("empty", "troubled", "losing", "unindexed", "hostile")),
        ("moved", CRASH),
        ("erased", CRASH),
        ("unlogged", CRASH),
        ("hostile", CRASH),
        ("busy", "search?q=nothing"),
    ],
)
def test_how_it_looks(server: AdminServer, watched: Watched, scenario: str, path: str) -> None:
    """On a wide screen and on a phone, light and dark: it fits, it can be read, and axe-core finds nothing wrong."""
    server.show(scenario)
    page = watched.go(path)
    has_axe = AXE.exists()
    if has_axe:
        page.evaluate(AXE.read_text())
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert fits(page), width
        if width in (1440, 390):
            for scheme in SCHEMES:
                page.emulate_media(color_scheme=scheme)
                assert low_contrast(page) == []
                assert not has_axe or found_by_axe(page, only_colors=scheme != SCHEMES[0]) == []
    tables = page.locator("table").count()
    assert page.locator("table > caption").count() == tables
    assert page.locator("thead th:not([scope=col]), tbody th:not([scope=row])").count() == 0
    assert (page.locator("main").count(), page.locator("h1").count()) == (1, 1)
    if not has_axe:
        pytest.skip(f"needs {AXE} (npm install --prefix .venv/npm axe-core); all else was as it should be")


def found_by_axe(page: Page, *, only_colors: bool) -> list[str]:
    """What axe-core finds wrong. The policy of the page forbids to add its script, but not to evaluate it."""
    found: list[str] = page.evaluate(
        """(rules) => axe.run({ resultTypes: ["violations"], ...rules }).then(({ violations }) =>
            violations.flatMap(({ id, nodes }) => nodes.map(({ html }) => `${id}: ${html.slice(0, 200)}`)))""",
        {"runOnly": {"type": "rule", "values": ["color-contrast"]}} if only_colors else {},
    )
    return found


def low_contrast(page: Page) -> list[str]:
    """Texts whose contrast is below the 4.5 : 1 of WCAG AA."""
    found: list[str] = page.evaluate(
        """() => {
            const channels = (color) => color.match(/[\\d.]+/g).map(Number);
            const light = ([r, g, b]) =>
                [r, g, b]
                    .map((c) => c / 255)
                    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
                    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
            const paper = (element) => {
                for (let at = element; at; at = at.parentElement) {
                    const color = channels(getComputedStyle(at).backgroundColor);
                    if (color.length === 3 || color[3] > 0) return color;
                }
            };
            const wrong = [];
            for (const element of document.body.querySelectorAll("*")) {
                if (element.nodeName === "title") continue; // a tip, which is not in the page
                if (![...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim())) continue;
                const style = getComputedStyle(element);
                const ink = element.closest("svg") ? style.fill : style.color;
                const [a, b] = [light(channels(ink)), light(paper(element))];
                const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
                const told = `${contrast.toFixed(2)} ${element.tagName} ${element.textContent.slice(0, 40)}`;
                if (contrast < 4.5) wrong.push(told);
            }
            return wrong;
        }"""
    )
    return found


# ——— a real daemon ———


@pytest.mark.timeout(250)
@pytest.mark.skipif(bool(can_mount()), reason=can_mount() or "all is there")
def test_a_real_daemon_a_flood_and_full_disks(tmp_path: Path) -> None:
    scene = [sys.executable, "-m", "tests.support.adminscene", str(tmp_path)]
    ran = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *scene],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
