"""
The admin page in a real browser, which sits with a made-up daemon in a network that leads nowhere.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from playwright.sync_api import Browser, Dialog, Page, Playwright, Request, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from tests.support import wait
from tests.support.adminindex import FINGERPRINT
from tests.support.adminserver import CRASH_ID, HOSTILE
from tests.support.daemon import ROOT
from tests.support.server import Server

CHROMIUM = "/usr/bin/chromium"
PORT = 8001
URL = f"http://127.0.0.1:{PORT}/"
TOKEN = "s3cret"
CRASH = f"crashes/{CRASH_ID}"
PHONE = (360, 780)


def missing() -> str:
    """Empty if all is there, else what is not."""
    if not Path(CHROMIUM).exists():
        return f"no {CHROMIUM}"
    if shutil.which("nsenter") is None or os.geteuid() != 0:
        return "a network of one's own needs root and nsenter"
    made = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
    return made.stderr.decode()


pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(120),
    pytest.mark.skipif(bool(missing()), reason=missing() or "all is there"),
]


@define
class AdminServer(Server):
    """The made-up daemon, in a network of its own that has a loopback and nothing else."""

    token: str = field(default="", kw_only=True)

    def command(self) -> Sequence[str]:
        serve = [
            sys.executable,
            "-m",
            "tests.support.adminserver",
            str(PORT),
            self._path("scenario"),
            self._path("ready"),
        ]
        return ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *serve, self.token]

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

    def browser_command(self) -> Path:
        """A Chromium in the same network."""
        assert self._process is not None
        script = self.log.with_name("chromium")
        script.write_text(f'#!/bin/sh\nexec nsenter --net=/proc/{self._process.pid}/ns/net {CHROMIUM} "$@"\n')
        script.chmod(0o755)
        return script

    def _path(self, name: str) -> str:
        return str(self.log.with_name(name))


def made(directory: Path, token: str = "") -> AdminServer:
    server = AdminServer(directory / "log", token=token)
    server.show("busy")
    return server


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as started:
        yield started


@contextmanager
def launched(playwright: Playwright, server: AdminServer) -> Iterator[Browser]:
    browser = playwright.chromium.launch(executable_path=str(server.browser_command()), args=["--no-sandbox"])
    try:
        yield browser
    finally:
        browser.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminServer]:
    with made(tmp_path_factory.mktemp("admin")) as started:
        yield started


@pytest.fixture(scope="module")
def browser(playwright: Playwright, server: AdminServer) -> Iterator[Browser]:
    with launched(playwright, server) as started:
        yield started


@define
class Watched:
    """A page, and what went wrong in it."""

    page: Page
    wrong: list[str] = field(factory=list)
    asked: list[str] = field(factory=list)

    def check(self) -> None:
        """Nothing ran that a client sent, nothing was blocked, and nobody else was asked."""
        assert self.page.evaluate("window.pwned") is None
        assert self.page.evaluate("window.violations") == []
        assert self.wrong == []
        assert [url for url in self.asked if not url.startswith(URL)] == []


@pytest.fixture
def watch(browser: Browser) -> Iterator[Callable[..., Watched]]:
    """Opens pages; whatever is wrong with one in the end fails the test."""
    opened: list[Watched] = []

    def open_page(
        path: str = "", *, size: tuple[int, int] = (1280, 900), dark: bool = False, **options: Any
    ) -> Watched:
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme="dark" if dark else "light", **options
        )
        watched = watched_page(context.new_page())
        opened.append(watched)
        watched.page.goto(URL + path)
        return watched

    yield open_page
    for watched in opened:
        watched.check()
        watched.page.context.close()


def watched_page(page: Page) -> Watched:
    watched = Watched(page)

    def dismissed(dialog: Dialog) -> None:
        watched.wrong.append("a dialog")
        dialog.dismiss()

    def failed(request: Request) -> None:
        if request.resource_type != "fetch":  # those end with the page
            watched.wrong.append(f"failed: {request.url}")

    page.on("console", lambda message: watched.wrong.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: watched.wrong.append(f"error: {error}"))
    page.on("dialog", dismissed)
    page.on("request", lambda request: watched.asked.append(request.url))
    page.on("requestfailed", failed)
    page.add_init_script(
        "window.violations = [];"
        "addEventListener('securitypolicyviolation', (event) => window.violations.push(event.violatedDirective));"
    )
    return watched


def until(page: Page, condition: str) -> None:
    """Playwright's own way to wait is forbidden by the policy of the page."""
    wait.until(lambda: page.evaluate(condition))


LIVE = "document.getElementById('link').textContent === 'live'"
LAST = "section[aria-labelledby=last] tbody"
PATHS = ["", CRASH, "search?q=product:Firefox", f"fingerprints/{FINGERPRINT}"]


# ——— live ———


def test_the_numbers_move(server: AdminServer, watch: Callable[..., Watched]) -> None:
    server.show("busy")
    page = watch("?span=10m").page
    until(page, LIVE)
    newest = page.locator(f"{LAST} th a").first.inner_text()
    until(page, f"!document.querySelector('{LAST} th a').textContent.startsWith({newest!r})")
    links = page.locator(f"{LAST} th a").evaluate_all("links => links.map((a) => [a.text, a.pathname])")
    assert [path for _, path in links] == [f"/crashes/{crash_id}" for crash_id, _ in links]
    assert page.locator(f"{LAST} tr").count() == 10
    assert page.locator("svg.plot .slot").count() == 120
    assert page.locator("nav [aria-current]").all_inner_texts() == ["10 min", "24 h"]


def test_troubles_come_and_go(server: AdminServer, watch: Callable[..., Watched]) -> None:
    server.show("busy")
    page = watch().page
    assert page.get_by_role("status").inner_text() == "All is well"
    server.show("troubled")
    until(page, "document.querySelector('[role=status]').textContent === '4 things need attention'")
    until(page, "document.title === '(4) collectord crash-01'")
    assert page.locator(".troubles li").count() == 4
    assert "No space left on device" in page.locator(".stores tbody tr").first.inner_text()
    server.show("empty")
    until(page, "document.querySelector('[role=status]').textContent === 'All is well'")
    assert page.locator(".troubles li").count() == 0
    assert page.get_by_text("No crash has come since the start").is_visible()
    server.show("losing")
    until(page, "document.title === 'CRASHES ARE BEING LOST · collectord crash-01'")
    assert page.get_by_role("alert").inner_text() == "CRASHES ARE BEING LOST"
    server.show("busy")
    until(page, f"document.querySelectorAll('{LAST} tr').length === 10")
    assert page.get_by_text("No crash has come since the start").count() == 0


def test_without_javascript(browser: Browser, server: AdminServer) -> None:
    server.show("busy")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(URL)
    assert page.get_by_text("as loaded").is_visible()
    assert page.locator(f"{LAST} tr").count() == 10
    assert page.locator("svg.plot").is_visible()
    page.get_by_role("link", name="Rising").click()
    page.wait_for_url("**/?top=rising")
    page.get_by_role("link", name="10 min").click()
    page.wait_for_url("**/?*span=10m*")
    assert page.locator("nav [aria-current]").all_inner_texts() == ["10 min", "Rising"]
    page.get_by_role("searchbox").fill("product:Firefox")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search?q=product%3AFirefox")
    assert page.get_by_role("heading", name="4,821 crashes").is_visible()
    page.locator(".results tbody th a").first.click()
    page.wait_for_url("**/crashes/*")
    assert page.get_by_text("MOZ_RELEASE_ASSERT(aIndex < mLength)").is_visible()
    page.get_by_role("link", name="this fingerprint").click()
    page.wait_for_url("**/fingerprints/*")
    page.get_by_role("link", name="collectord", exact=True).click()
    page.wait_for_url(URL)
    context.close()


def test_a_row_keeps_the_focus_while_others_come(server: AdminServer, watch: Callable[..., Watched]) -> None:
    server.show("busy")
    page = watch().page
    until(page, LIVE)
    link = page.locator(f"{LAST} th a").first
    crash_id = link.inner_text()
    link.focus()
    until(page, f"[...document.querySelectorAll('{LAST} th a')].findIndex((a) => a.text === {crash_id!r}) > 1")
    assert page.evaluate("document.activeElement.textContent") == crash_id
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/crashes/{crash_id}")
    assert page.locator("h1").inner_text() == crash_id
    page.get_by_role("link", name="collectord", exact=True).click()
    page.wait_for_url(URL)


def test_a_connection_that_is_lost(server: AdminServer, browser: Browser) -> None:
    server.show("busy")
    page = browser.new_page()
    page.goto(URL)
    until(page, LIVE)
    page.route(URL, lambda route: route.abort())
    until(page, "document.getElementById('link').className === 'bad'")
    assert page.locator("#link").inner_text() == ", not connected"
    assert page.get_by_role("status").inner_text() == "All is well"
    page.unroute(URL)
    until(page, LIVE)
    page.close()


def test_a_hidden_page_asks_for_nothing(server: AdminServer, watch: Callable[..., Watched]) -> None:
    server.show("busy")
    page = watch().page
    until(page, LIVE)
    hide = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true});"
    hide += "document.dispatchEvent(new Event('visibilitychange'))"
    page.evaluate(hide % "true")
    page.wait_for_timeout(300)  # an answer may be on its way
    before = page.locator("header time").inner_text()
    page.wait_for_timeout(2500)
    assert page.locator("header time").inner_text() == before
    page.evaluate(hide % "false")
    until(page, f"document.querySelector('header time').innerText !== {before!r}")


# ——— hostile ———


@pytest.mark.parametrize("size", [(1280, 900), PHONE])
def test_nothing_that_a_client_sent_runs(
    server: AdminServer, watch: Callable[..., Watched], size: tuple[int, int]
) -> None:
    server.show("hostile")
    overview = watch(size=size).page
    until(overview, LIVE)
    overview.wait_for_timeout(1500)  # an image that fails to load tells so later
    overview.get_by_text(HOSTILE["Img"]).first.wait_for(state="visible")
    assert fits(overview)
    crash = watch(CRASH, size=size).page
    crash.wait_for_timeout(500)
    for name in ("Img", "Svg", "Style", "Entity", "Link"):
        crash.get_by_text(HOSTILE[name], exact=True).first.wait_for(state="visible")
    assert fits(crash)
    for path in PATHS:
        page = watch(path, size=size).page
        assert fits(page)
        assert page.locator("main img, main script, main iframe, main style").count() == 0


def test_the_policy_would_stop_what_slipped_through(server: AdminServer, browser: Browser) -> None:
    server.show("busy")
    context = browser.new_context()
    watched = watched_page(context.new_page())
    watched.page.goto(URL)
    watched.page.evaluate(
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
    until(watched.page, "window.violations.length >= 3")
    assert watched.page.evaluate("window.pwned") is None
    context.close()


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


def test_a_token(playwright: Playwright, tmp_path: Path) -> None:
    with made(tmp_path, TOKEN) as server, launched(playwright, server) as browser:
        with pytest.raises(PlaywrightError, match="ERR_INVALID_AUTH_CREDENTIALS"):
            browser.new_page().goto(URL)
        context = browser.new_context(http_credentials={"username": "", "password": TOKEN})
        watched = watched_page(context.new_page())
        watched.page.goto(URL)
        until(watched.page, LIVE)
        assert TOKEN not in watched.page.content()
        watched.page.locator(f"{LAST} th a").first.click()
        watched.page.wait_for_url("**/crashes/*")
        assert watched.wrong == []


# ——— how it looks ———


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
        ("hostile", CRASH),
        ("busy", "search?q=nothing"),
    ],
)
def test_how_it_looks(
    server: AdminServer, watch: Callable[..., Watched], tmp_path: Path, scenario: str, path: str
) -> None:
    server.show(scenario)
    for width, dark in ((390, False), (1440, True)):
        page = watch(path, size=(width, 900), dark=dark).page
        if not path:
            until(page, LIVE)
        assert low_contrast(page) == []
        page.screenshot(path=tmp_path / f"{width}.png", full_page=True)
        for narrower in (width, 360, 768, 1001, 1281, 1409):
            page.set_viewport_size({"width": narrower, "height": 900})
            assert fits(page), narrower


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


def test_every_table_and_region_has_a_name(server: AdminServer, watch: Callable[..., Watched]) -> None:
    server.show("busy")
    for path in PATHS:
        page = watch(path).page
        assert page.locator("main").count() == 1
        assert page.locator("h1").count() == 1
        tables = page.locator("table").count()
        assert page.locator("table > caption").count() == tables > 0
        assert page.locator("thead th:not([scope=col])").count() == 0
        assert page.locator("tbody th:not([scope=row])").count() == 0
        assert page.locator("[role=region]:not([aria-labelledby])").count() == 0


def test_the_focus_can_be_seen(server: AdminServer, watch: Callable[..., Watched]) -> None:
    server.show("busy")
    page = watch().page
    until(page, LIVE)
    for _ in range(4):
        page.keyboard.press("Tab")
        style = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert style == "solid"


# ——— a real daemon ———


def test_a_real_daemon_and_real_crashes(tmp_path: Path) -> None:
    scene = [sys.executable, "-m", "tests.support.adminscene", str(tmp_path)]
    ran = subprocess.run(
        ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *scene],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
