"""
A real daemon, a real browser and real crashes, all in a network that leads nowhere: C{unshare --net} runs this.

C{python -m tests.support.adminscene DIRECTORY}
"""

import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.support.daemon import Daemon, config, free_port
from tests.support.http import Part, multipart, post
from tests.support.reports import HEADERS, crash_id_in, make_report
from tests.support.wait import until

CHROMIUM = "/usr/bin/chromium"
HOSTILE = "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'>\"><svg onload='window.pwned = 3'>"


def main(directory: Path) -> None:
    """All of it; an exception tells what was not so."""
    port, admin = free_port(), free_port()
    destination = f'[[crashmover.destination]]\ntype = "filesystem"\nroot = "{directory / "moved"}"\n'
    toml = config(port, directory / "root", submission="workers = 2", moves=True, admin=admin) + destination
    with Daemon(toml, port, directory / "work"), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        wrong: list[str] = []
        page.on("console", lambda message: wrong.append(message.text))
        page.on("dialog", lambda dialog: wrong.append("a dialog"))
        page.goto(f"http://127.0.0.1:{admin}/")
        numbers_move(page, port)
        nothing_runs(page, port, admin, directory)
        page.screenshot(path=str(directory / "page.png"), full_page=True)
        assert wrong == [], wrong
        browser.close()


def numbers_move(page: Page, port: int) -> None:
    assert page.get_by_text("No crash has come since the start").is_visible()
    crash_id = crash_id_in(post(port, make_report("shown", 1000).body(), HEADERS))
    until(lambda: crash_id in page.locator("main").inner_text())
    until(lambda: "moved" in page.locator("tr", has_text=crash_id).inner_text())


def nothing_runs(page: Page, port: int, admin: int, directory: Path) -> None:
    parts = [Part(name, HOSTILE.encode()) for name in ("ProductName", "Version", "Hostile")]
    body = multipart([*parts, Part("upload_file_minidump", b"MDMP", "a.dmp", "application/octet-stream")], "xyz")
    crash_id = crash_id_in(post(port, body, {"Content-Type": "multipart/form-data; boundary=xyz"}))
    until(lambda: crash_id in page.locator("main").inner_text())
    assert page.evaluate("window.pwned") is None
    page.goto(f"http://127.0.0.1:{admin}/crashes/{crash_id}")
    shown = page.locator("main").inner_text()
    assert shown.count("<script>window.pwned = 1</script>") >= 3, shown
    assert "moved to" in shown or "waits in" in shown, shown
    page.screenshot(path=str(directory / "crash.png"), full_page=True)
    assert page.evaluate("window.pwned") is None
    assert page.locator("main script").count() == 0
    page.goto(f"http://127.0.0.1:{admin}/")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
