import json

import pytest

from collectord.admin.feed import MAX_STREAMS, STALLED_S
from tests.unit.admin.adminwire import Admin, Browser
from tests.unit.intake.parts import LogRecorder


@pytest.fixture
def admin() -> Admin:
    return Admin()


def histories(browser: Browser) -> list[int]:
    """How long the history is in each overview that came since the last look."""
    return [len(value["history"]) for name, value in browser.news if name == "overview"]


def test_the_events_of_one_second(admin: Admin) -> None:
    browser = admin.follow()
    head = browser.received.partition(b"\r\n\r\n")[0].lower()
    assert head.startswith(b"http/1.1 200 ")
    assert b"content-type: text/event-stream" in head
    assert b"content-length" not in head
    ((name, whole),) = browser.news
    assert name == "overview"
    assert whole == json.loads(admin.ask("/overview.json").body)
    admin.source.now += 1
    admin.source.scenario = "troubled"
    admin.wait(1)
    ((_, latest),) = browser.news
    overview = json.loads(admin.ask("/overview.json").body)
    assert latest == overview | {"history": overview["history"][-1:]}
    assert len(latest["troubles"]) == 4


def test_one_event_each_second(admin: Admin) -> None:
    browser = admin.follow()
    assert histories(browser) == [600]
    admin.wait(5)
    assert histories(browser) == [1] * 5


def test_an_empty_history(admin: Admin) -> None:
    admin.source.scenario = "empty"
    browser = admin.follow()
    admin.wait(1)
    assert histories(browser) == [0, 0]


def test_all_clients_share_the_events_of_a_second(admin: Admin) -> None:
    browsers = [admin.follow() for _ in range(10)]
    assert admin.source.overviews == 1
    admin.wait(3)
    assert admin.source.overviews == 4
    assert [histories(browser) for browser in browsers] == [[600, 1, 1, 1]] * 10


def test_a_later_client_gets_the_whole_history(admin: Admin) -> None:
    first = admin.follow()
    admin.wait(1)
    second = admin.follow()
    admin.wait(1)
    assert (histories(first), histories(second)) == ([600, 1, 1], [600, 1])


def test_without_clients_nothing_is_made(admin: Admin) -> None:
    first, second = admin.follow(), admin.follow()
    first.hang_up()
    admin.wait(2)
    assert admin.source.overviews == 3
    assert histories(second) == [600, 1, 1]
    second.hang_up()
    assert admin.clock.getDelayedCalls() == []
    third = admin.follow()
    admin.wait(1)
    assert histories(third) == [600, 1]


@pytest.mark.slow
def test_a_slow_client_is_sent_nothing_until_it_has_caught_up(admin: Admin) -> None:
    slow, other = admin.follow(), admin.follow()
    slow.take_nothing()
    before = len(slow.received)
    admin.wait(int(STALLED_S))
    assert len(slow.received) == before
    assert not slow.aborted
    assert histories(slow) == [600]
    slow.take_all()
    assert slow.received == b""
    admin.wait(2)
    assert histories(slow) == [600, 1]
    assert len(histories(other)) == 33


def test_a_client_that_was_full_only_for_a_moment_missed_nothing(admin: Admin) -> None:
    browser = admin.follow()
    browser.take_nothing()
    browser.take_all()
    admin.wait(1)
    assert histories(browser) == [600, 1]


@pytest.mark.slow
def test_a_client_that_reads_nothing_is_disconnected(admin: Admin) -> None:
    slow, other = admin.follow(), admin.follow()
    slow.take_nothing()
    admin.wait(int(STALLED_S) + 1)
    assert slow.aborted
    assert not other.aborted
    slow.hang_up()
    other.hang_up()
    assert admin.clock.getDelayedCalls() == []


def test_too_many_clients(admin: Admin) -> None:
    browsers = [admin.follow() for _ in range(MAX_STREAMS)]
    response = admin.ask("/events")
    assert (response.status, response.headers["retry-after"]) == (503, "10")
    assert response.headers["content-type"].startswith("text/plain")
    browsers[0].hang_up()
    assert histories(admin.follow()) == [600]


def test_a_state_that_cannot_be_found_out(admin: Admin, log: LogRecorder) -> None:
    browser = admin.follow()
    assert histories(browser) == [600]
    admin.source.error = ZeroDivisionError("secret")
    admin.wait(2)
    assert [name for name, _ in browser.news] == ["comment", "comment"]
    assert len(log.failures) == 2
    log.events.clear()
    late = admin.follow()
    assert [name for name, _ in late.news] == ["comment"]
    admin.source.error = None
    admin.wait(1)
    assert (histories(browser), histories(late)) == ([1], [600])


def test_a_state_that_cannot_be_written(admin: Admin, log: LogRecorder, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = admin.follow()
    monkeypatch.setattr("collectord.admin.feed.as_json", lambda value: 1 / 0)
    admin.wait(2)
    assert len(log.failures) == 2
    log.events.clear()
    monkeypatch.undo()
    histories(browser)
    admin.wait(1)
    assert histories(browser) == [1]


def test_the_end_of_the_daemon(admin: Admin) -> None:
    browsers = [admin.follow(), admin.follow()]
    admin.site.close()
    assert all(browser.received.endswith(b"0\r\n\r\n") for browser in browsers)
    assert admin.ask("/events").status == 503
    assert admin.ask("/metrics").status == 200
    for browser in browsers:
        browser.hang_up()
    assert admin.clock.getDelayedCalls() == []


def test_http_1_0(admin: Admin) -> None:
    browser = admin.connect()
    browser.send(b"GET /events HTTP/1.0\r\nHost: localhost\r\n\r\n")
    admin.wait(1)
    events = browser.received.partition(b"\r\n\r\n")[2]
    assert events.count(b"event: overview\n") == 2
    assert events.startswith(b"event: overview\ndata: {")
