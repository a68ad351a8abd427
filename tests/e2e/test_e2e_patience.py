"""
No store takes anything for a while: clients wait, it is told at once, and their crashes are kept when one does.

And connections between requests, and what is said of the daemon's health: proxies must not come in the way of either.
"""

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import pytest
from attrs import frozen

from tests.support.daemon import Daemon, config, free_port
from tests.support.disk import stored_crashes
from tests.support.http import curl, post
from tests.support.reports import HEADERS, crash_id_in, is_whole, make_report
from tests.support.response import Response, parse_responses
from tests.support.upload import Upload
from tests.support.wait import until

pytestmark = pytest.mark.e2e

MIB = 2**20


@frozen
class Rig:
    """A daemon whose only store is below a place that is a file, at first."""

    daemon: Daemon
    place: Path

    @property
    def root(self) -> Path:
        return self.place / "root"

    def heal(self) -> None:
        self.place.unlink()
        self.place.mkdir()

    def post(self, name: str, *sizes: int) -> Response:
        return post(self.daemon.port, make_report(name, *sizes).body(), HEADERS, timeout=60)

    def heartbeat(self) -> str:
        return str(json.loads(curl(self.daemon.url("/__heartbeat__"))[1])["status"])


def rig_with(tmp_path: Path, submission: str) -> Iterator[Rig]:
    place, port = tmp_path / "place", free_port()
    place.touch()
    with Daemon(config(port, place / "root", submission=submission, stop_s=20.0), port, tmp_path / "daemon") as daemon:
        yield Rig(daemon, place)


@pytest.fixture
def rig(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Rig]:
    yield from rig_with(tmp_path, getattr(request, "param", ""))


@pytest.fixture
def clients() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(50) as pool:
        yield pool


def begun(rig: Rig, clients: ThreadPoolExecutor, *names: str) -> list[Future[Response]]:
    """Of reports that wait by now."""
    answers = [clients.submit(rig.post, name, 300_000) for name in names]
    time.sleep(1.5)
    assert not any(answer.done() for answer in answers)
    return answers


@pytest.mark.parametrize("rig", ["workers = 1", "memory_bytes = 0", "workers = 2"], indirect=True)
def test_a_store_that_works_again_after_twelve_seconds(rig: Rig, clients: ThreadPoolExecutor) -> None:
    began = time.monotonic()
    answers = begun(rig, clients, "one", "two", "three")
    assert curl(rig.daemon.url("/__lbheartbeat__")) == (503, b"no store takes crashes\n"), "it is told at once"
    assert rig.heartbeat() == "CRASHES ARE BEING LOST"
    time.sleep(max(0.0, began + 12 - time.monotonic()))
    assert not any(answer.done() for answer in answers)
    rig.heal()
    ids = [crash_id_in(answer.result(8)) for answer in answers]
    assert time.monotonic() - began < 20
    assert all(is_whole(stored_crashes(rig.root)[crash_id]) for crash_id in ids)
    until(lambda: rig.heartbeat() == "ok")
    assert "Traceback" not in rig.daemon.log()


@pytest.mark.parametrize("rig", ["workers = 1", "workers = 2"], indirect=True)
def test_a_stop_answers_those_that_wait_at_once(rig: Rig, clients: ThreadPoolExecutor) -> None:
    answers = begun(rig, clients, "one", "two", "three")
    began = time.monotonic()
    os.kill(rig.daemon.pid, signal.SIGTERM)
    for answer in answers:
        response = answer.result(8)
        assert (response.status, response.body) == (503, b"Discarded=nowhere_to_save")
        assert response.headers["connection"] == "close"
    assert rig.daemon.wait(8) == -signal.SIGTERM
    assert time.monotonic() - began < 8


@pytest.mark.parametrize("rig", ["patience_s = 30", "patience_s = 30\nworkers = 2"], indirect=True)
def test_a_reload_shortens_the_patience(rig: Rig, clients: ThreadPoolExecutor) -> None:
    answers = begun(rig, clients, "one", "two")
    path = rig.daemon.toml_path
    path.write_text(path.read_text().replace("patience_s = 30", "patience_s = 2"))
    os.kill(rig.daemon.pid, signal.SIGHUP)
    assert [answer.result(8).status for answer in answers] == [503, 503]


@pytest.mark.parametrize("rig", ["patience_s = 4"], indirect=True)
def test_the_time_counts_from_the_headers(rig: Rig) -> None:
    body = make_report("slow", 100_000).body()
    began = time.monotonic()
    with Upload(rig.daemon.port, body) as upload:
        upload.send_to(1000)
        time.sleep(2.5)
        answer = upload.finish()
    assert (answer.status, answer.body) == (503, b"Discarded=nowhere_to_save")
    assert 3.5 < time.monotonic() - began < 6


@pytest.mark.parametrize("rig", [f"memory_bytes = {8 * MIB}"], indirect=True)
def test_what_waits_is_bounded_and_big_ones_wait_in_their_clients(rig: Rig, clients: ThreadPoolExecutor) -> None:
    """24 of 2 MiB: some wait in 16 MiB of memory, the others are paused, and all are kept."""
    answers = [clients.submit(rig.post, f"big-{n}", 2 * MIB) for n in range(24)]
    time.sleep(5)
    refused = [answer for answer in answers if answer.done()]
    rig.heal()
    kept = [crash_id_in(answer.result(30)) for answer in answers if answer not in refused]
    assert {answer.result().status for answer in refused} <= {503}
    assert len(kept) >= 12
    assert all(is_whole(stored_crashes(rig.root)[crash_id]) for crash_id in kept)
    assert "Traceback" not in rig.daemon.log()


def test_small_ones_are_bounded_too(tmp_path: Path, clients: ThreadPoolExecutor) -> None:
    """Of 10 KB each, with the least room."""
    for rig in rig_with(tmp_path, "memory_bytes = 0"):
        answers = [clients.submit(rig.post, f"small-{n}", 500) for n in range(50)]
        time.sleep(3)
        assert not any(answer.done() for answer in answers), "16 MiB are enough for these"
        rig.heal()
        assert len({crash_id_in(answer.result(20)) for answer in answers}) == 50


# Connections between requests.


def test_a_connection_is_kept_between_requests(tmp_path: Path) -> None:
    body = make_report("again", 1000).body()
    head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    request = f"POST /submit HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{head}\r\n".encode() + body
    port = free_port()
    toml = config(port, tmp_path / "root", submission="idle_timeout_s = 1\nkeep_alive_s = 4")
    with Daemon(toml, port, tmp_path / "daemon"), socket.create_connection(("127.0.0.1", port), 20) as proxy:
        for pause in (2.5, 2.5, 0.0):
            proxy.sendall(request)
            received = b""
            while not received.endswith(b"\n"):
                received += proxy.recv(65536)
            crash_id_in(parse_responses(received, ended=False)[0])
            time.sleep(pause)
        began = time.monotonic()
        assert proxy.recv(1) == b""
        assert 3.5 < time.monotonic() - began < 7


# What is said of its health.


@pytest.mark.parametrize("path", ["/__heartbeat__", "/__lbheartbeat__", "/__version__"])
def test_no_proxy_keeps_what_is_said_of_the_health(rig: Rig, path: str) -> None:
    statuses = {}
    for method in ("GET", "HEAD", "OPTIONS"):
        connection = HTTPConnection("127.0.0.1", rig.daemon.port, timeout=20)
        connection.request(method, path)
        response = connection.getresponse()
        assert response.headers["cache-control"] == "no-store"
        statuses[method] = response.status
        connection.close()
    healthy = 200 if path == "/__version__" else 503
    assert statuses == {"GET": healthy, "HEAD": healthy, "OPTIONS": 200}
