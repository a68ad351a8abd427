"""
A real daemon, a real browser, real crashes and real full disks, all in a network that leads nowhere, and with mounts of
its own: C{unshare --net --mount} runs this.

C{python -m tests.support.adminscene DIRECTORY}
"""

import sys
from contextlib import suppress
from pathlib import Path

from attrs import frozen
from playwright.sync_api import Page, sync_playwright

from tests.support.daemon import Daemon, config, free_port
from tests.support.http import Part, multipart, post
from tests.support.mounts import tmpfs
from tests.support.reports import HEADERS, crash_id_in, make_report
from tests.support.wait import until

CHROMIUM = "/usr/bin/chromium"
HOSTILE = "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'>\"><svg onload='window.pwned = 3'>"
FLOOD = 40
"""Equal crashes. The rules keep ten of them."""
TRACE = b"java.lang.IllegalStateException: gone\n\tat org.app.Home.open(Home.kt:7)\n\tat org.app.Main.run(Main.kt:9)\n"
_BUSY_S = 90.0
"""A page that took long is asked for again only after a while."""
FORM = {"Content-Type": "multipart/form-data; boundary=xyz"}


@frozen
class Scene:
    """
    The parts of it.

    @ivar port: of the submissions.
    @ivar url: of the first page.
    @ivar directory: for screenshots.
    """

    page: Page
    port: int
    url: str
    directory: Path

    def text(self, where: str = "main") -> str:
        """What the page says there, in any case of letters as it is written; empty: there is no such place."""
        found = self.page.locator(where)
        return found.first.inner_text() if found.count() else ""

    def row(self, text: str) -> str:
        """What the first row says that has a text; empty: there is none."""
        found = self.page.locator("tbody tr", has_text=text)
        return found.first.inner_text() if found.count() else ""

    def send(self, **annotations: bytes) -> tuple[int, bytes]:
        """Post a crash with a minidump that can't be read."""
        parts = [Part(name, value) for name, value in annotations.items()]
        dump = Part("upload_file_minidump", b"MDMP", "a.dmp", "application/octet-stream")
        answer = post(self.port, multipart([*parts, dump], "xyz"), FORM)
        return answer.status, answer.body

    def keep_picture(self, name: str) -> None:
        """Take a screenshot of the whole page."""
        self.page.screenshot(path=str(self.directory / f"{name}.png"), full_page=True)


def main(directory: Path) -> None:
    """All of it; an exception tells what was not so."""
    port, admin = free_port(), free_port()
    first, second = directory / "first", directory / "second"
    for root in (first, second):
        root.mkdir()
    toml = config(port, first, second, submission="workers = 2\npatience_s = 1", moves=True, admin=admin)
    toml += f'[[crashmover.destination]]\ntype = "filesystem"\nroot = "{directory / "moved"}"\n'
    toml += '[throttle]\nrules = "flood"\n'
    with (
        tmpfs(first, 8_000_000),
        tmpfs(second, 8_000_000),
        Daemon(toml, port, directory / "work"),
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        wrong: list[str] = []
        page.on("console", lambda message: wrong.append(message.text))
        page.on("dialog", lambda dialog: wrong.append("a dialog"))
        scene = Scene(page, port, f"http://127.0.0.1:{admin}/", directory)
        page.goto(f"{scene.url}?span=10m&top=1h")
        numbers_move(scene)
        fill(first)
        nothing_runs(scene)
        a_flood_with_a_full_disk(scene, first, second)
        fill(second)
        crashes_are_lost(scene)
        assert wrong == [], wrong
        browser.close()


def fill(root: Path) -> None:
    """Leave no byte free on a file system."""
    with suppress(OSError), (root / "other").open("wb", buffering=0) as file:
        while file.write(bytes(65536)):
            pass


def numbers_move(scene: Scene) -> None:
    page = scene.page
    page.get_by_text("No crash has come since the start").wait_for(state="visible")
    crash_id = crash_id_in(post(scene.port, make_report("shown", 1000).body(), HEADERS))
    until(lambda: "moved" in scene.row(crash_id))


def nothing_runs(scene: Scene) -> None:
    """The disk of the first store is full by now, but nothing of that needs to be known."""
    page = scene.page
    hostile = HOSTILE.encode()
    crash_id = crash_id_in(scene.send(ProductName=hostile, Version=hostile, Hostile=hostile))
    until(lambda: "moved to" in scene.row(crash_id))
    page.goto(f"{scene.url}crashes/{crash_id}")
    shown = scene.text()
    assert shown.count("<script>window.pwned = 1</script>") >= 3, shown
    assert "moved to" in shown, shown
    assert "1, whole: as received" in shown, shown
    scene.keep_picture("crash")
    assert page.evaluate("window.pwned") is None
    assert page.locator("main script").count() == 0
    page.goto(f"{scene.url}?span=10m&top=1h")
    assert page.evaluate("window.pwned") is None


def a_flood_with_a_full_disk(scene: Scene, first: Path, second: Path) -> None:
    answers = [scene.send(ProductName=b"App", Version=b"2.0", JavaStackTrace=TRACE) for _ in range(FLOOD)]
    kept = sum(body.startswith(b"CrashID=") for _, body in answers)
    assert kept == 10, answers
    seen = [str(FLOOD), str(kept)]
    until(lambda: _cells(scene, "App 2.0", "[aria-labelledby=top]")[4:6] == seen, _BUSY_S)
    until(lambda: _cells(scene, "Left out by rules")[-1:] == [str(FLOOD - kept)])
    until(lambda: _cells(scene, "the first 10 of each fingerprint")[3:4] == [str(FLOOD - kept)])
    until(lambda: "need attention" in scene.text("h2") or "needs attention" in scene.text("h2"))
    until(lambda: "No space left on device" in scene.row(str(first)))
    assert "every crash is still kept, none is lost" in scene.text(".state")
    assert f"Crashes go to {second} instead." in scene.text(".troubles")
    assert scene.page.title().startswith("(1) collectord")
    assert "takes crashes" in scene.row(str(second))
    assert "tmpfs" in scene.row(str(second))
    scene.keep_picture("flood")


def _cells(scene: Scene, text: str, section: str = "main") -> list[str]:
    """What stands in the cells of the first row with a text; empty: there is none."""
    found = scene.page.locator(f"{section} tbody tr", has_text=text)
    return found.first.locator("th, td").all_inner_texts() if found.count() else []


def crashes_are_lost(scene: Scene) -> None:
    assert scene.send(ProductName=b"App", Version=b"3.0")[0] == 503
    until(lambda: scene.page.title().startswith("CRASHES ARE BEING LOST · collectord"))
    until(lambda: "1 report was answered 503 so far" in scene.text(".state"))
    state = scene.text(".state")
    assert "CRASHES ARE BEING LOST" in state
    assert "every crash is still kept" not in state
    assert "No space left on device. Make room" in state, state
    until(lambda: _cells(scene, "nowhere to save")[:1] == ["503"])
    until(lambda: _cells(scene, "Lost (503)")[-1:] == ["1"])
    scene.page.emulate_media(color_scheme="dark")
    scene.keep_picture("lost")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
