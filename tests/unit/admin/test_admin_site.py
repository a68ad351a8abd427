import json
from importlib.resources import files

import pytest
from attrs import asdict
from twisted.internet.defer import Deferred

from tests.support.adminindex import FINGERPRINT
from tests.support.adminserver import CRASH_ID, HOSTILE
from tests.support.cases import for_each
from tests.unit.admin.adminwire import Admin
from tests.unit.intake.parts import LogRecorder

CRASH_PATHS = [f"/crashes/{CRASH_ID}", f"/crashes/{CRASH_ID}.json"]
PATHS = [
    "/",
    "/?span=10m&top=rising",
    "/search?q=a",
    "/search.json?q=a",
    f"/fingerprints/{FINGERPRINT}",
    "/overview.json",
    "/metrics",
    "/__lbheartbeat__",
    "/static/live.js",
    *CRASH_PATHS,
]


@pytest.fixture
def admin() -> Admin:
    return Admin()


def test_the_overview_as_json(admin: Admin) -> None:
    response = admin.ask("/overview.json")
    assert (response.status, response.headers["content-type"]) == (200, "application/json")
    assert json.loads(response.body) == json.loads(json.dumps(asdict(admin.source.named.overview())))


def test_a_crash_as_json(admin: Admin) -> None:
    admin.source.scenario = "hostile"
    response = admin.ask(f"/crashes/{CRASH_ID}.json")
    assert (response.status, response.headers["content-type"]) == (200, "application/json")
    found = json.loads(response.body)
    assert found["annotations"] == HOSTILE
    assert [dump["name"] for dump in found["dumps"]] == ["upload_file_minidump", "memory_report"]


def test_the_page_of_a_crash_is_made_on_a_thread(admin: Admin) -> None:
    """Two megabytes of what can't be seen take seconds."""
    assert admin.ask(f"/crashes/{CRASH_ID}").status == 200
    assert len(admin.in_thread) == 1


def test_the_metrics(admin: Admin) -> None:
    response = admin.ask("/metrics")
    assert (response.status, response.body) == (200, b"a_total 1.0\n")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_the_lbheartbeat(admin: Admin) -> None:
    response = admin.ask("/__lbheartbeat__")
    assert (response.status, response.body) == (200, b"")


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("live.js", "text/javascript; charset=utf-8"),
        ("page.css", "text/css; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
    ],
)
def test_static_files(admin: Admin, name: str, content_type: str) -> None:
    response = admin.ask(f"/static/{name}")
    assert (response.status, response.headers["content-type"]) == (200, content_type)
    assert response.body == (files("collectord.admin") / "static" / name).read_bytes()


@pytest.mark.parametrize("path", CRASH_PATHS)
@pytest.mark.parametrize("name", [f"bp-{CRASH_ID}", CRASH_ID.upper(), f"x{CRASH_ID}"])
def test_a_crash_by_the_name_that_its_client_knows(admin: Admin, path: str, name: str) -> None:
    assert admin.ask(path.replace(CRASH_ID, name)).status == 200
    assert admin.source.asked == [CRASH_ID]


@for_each(
    "name", ["x", "..", "%2e%2e%2fetc", CRASH_ID[1:], CRASH_ID + "x", CRASH_ID[:-4] + "1399", "%3Cscript%3E", "a%00b"]
)
@for_each("suffix", ["", ".json"])
def test_what_is_no_crash_id_is_not_looked_for(admin: Admin, name: str, suffix: str) -> None:
    response = admin.ask(f"/crashes/{name}{suffix}")
    assert (response.status, response.body) == (404, b"Not found\n")
    assert admin.source.asked == []


@pytest.mark.parametrize("path", CRASH_PATHS)
def test_a_crash_that_is_not_there(admin: Admin, path: str) -> None:
    admin.source.scenario = "empty"
    response = admin.ask(path)
    assert (response.status, response.body) == (404, b"Not found\n")
    assert admin.source.asked == [CRASH_ID]


@pytest.mark.parametrize("path", CRASH_PATHS)
def test_a_client_that_hangs_up_while_its_crash_is_looked_for(admin: Admin, path: str) -> None:
    cancelled: list[object] = []
    admin.source.waiting = Deferred(cancelled.append)
    browser = admin.connect()
    browser.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    browser.hang_up()
    assert cancelled == [admin.source.waiting]
    assert browser.received == b""


@for_each(
    "path",
    [
        "/x",
        "/overview.json/",
        "/crashes",
        "/crashes/",
        "/static",
        "/static/",
        "/static/__init__.py",
        "/static/../site.py",
        "/static/%2e%2e/site.py",
        "/static/..%2fsite.py",
        "/templates/overview.html",
        "/favicon.ico",
        "/submit",
    ],
)
def test_unknown_paths(admin: Admin, path: str) -> None:
    response = admin.ask(path)
    assert (response.status, response.body) == (404, b"Not found\n")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("path", ["/", "/overview.json", "/metrics", *CRASH_PATHS])
def test_a_defect(admin: Admin, path: str, log: LogRecorder) -> None:
    admin.source.error = ZeroDivisionError("secret")
    response = admin.ask(path)
    assert (response.status, response.body) == (500, b"Internal error\n")
    (failure,) = log.failures
    assert failure["log_failure"].check(ZeroDivisionError)
    log.events.clear()


@for_each("path", [*PATHS, "/events", "/x"])
def test_head(admin: Admin, path: str) -> None:
    head = admin.ask(path, method="HEAD")
    assert head.body == b""
    if path != "/events":
        whole = admin.ask(path)
        assert head.status == whole.status
        assert head.headers["content-type"] == whole.headers["content-type"]
    assert admin.clock.getDelayedCalls() == []


def test_what_a_client_sends_is_not_kept(admin: Admin) -> None:
    browser = admin.connect()
    browser.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n")
    for _ in range(9):
        browser.send(b"x" * 100_000)
    (request,) = browser.channel.requests
    assert request.content.getvalue() == b""
    browser.send(b"x" * 100_000)
    assert browser.received.startswith(b"HTTP/1.1 405 ")


def test_connections_that_send_nothing_are_closed(admin: Admin) -> None:
    browser = admin.connect()
    browser.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    admin.wait(59)
    assert not browser.wire.disconnecting
    admin.wait(2)
    assert browser.wire.disconnecting
