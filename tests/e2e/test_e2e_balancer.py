"""
Daemons behind a load balancer that tries nothing twice: no report is refused while any host can take it.
"""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, config, free_port
from tests.support.disk import stored_crashes
from tests.support.haproxy import HAProxy, has_haproxy
from tests.support.http import curl, post
from tests.support.mounts import can_mount, tmpfs
from tests.support.reports import HEADERS, make_report
from tests.support.response import Response
from tests.support.wait import until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not has_haproxy(), reason="no haproxy"),
]
needs_mounts = pytest.mark.skipif(can_mount() != "", reason=can_mount())

MIB = 2**20


def daemon(path: Path, *roots: Path, submission: str = "") -> Daemon:
    port = free_port()
    return Daemon(config(port, *roots, submission=submission, stop_s=20), port, path)


def fill(disk: Path) -> None:
    with suppress(OSError), (disk / "ballast").open("wb") as ballast:
        while True:
            ballast.write(bytes(4096))
            ballast.flush()


@contextmanager
def posting(port: int, number: int) -> Iterator[list[Response]]:
    """So many reports, by eight clients: 16 a second while the body of this runs, and then the rest at once."""
    answers: list[Response] = []
    ended = threading.Event()

    def client(first: int) -> None:
        for n in range(first, number, 8):
            answers.append(post(port, make_report(f"report-{n}", 5000).body(), HEADERS, timeout=60))
            ended.wait(0.5)

    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(client, first) for first in range(8)]
        yield answers
        ended.set()
        for each in clients:
            each.result()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_rolling_restart_loses_nothing(workers: int, tmp_path: Path) -> None:
    roots = [tmp_path / "one", tmp_path / "two"]
    drains = f"workers = {workers}\ndrain_s = 1.5"
    daemons = [daemon(tmp_path / f"daemon-{root.name}", root, submission=drains) for root in roots]
    with daemons[0], daemons[1], HAProxy(tmp_path / "haproxy.log", [d.port for d in daemons]) as balancer:
        until(lambda: len(balancer.up()) == 2)
        with posting(balancer.port, 480) as answers:
            for each in daemons:
                before = len(answers)
                os.kill(each.pid, signal.SIGTERM)
                until(lambda each=each: each.port not in balancer.up(), 10)  # type: ignore[misc]
                assert each.wait(60) == -signal.SIGTERM
                each.start()
                until(lambda: len(balancer.up()) == 2, 30)
                assert len(answers) > before
        assert len(answers) == 480
        refused = [(answer.status, answer.body) for answer in answers if answer.status != 200]
        assert refused == []
    kept = sum(len(stored_crashes(root)) for root in roots)
    assert kept == 480
    assert all("draining: load balancers are told" in each.log() for each in daemons)


def test_a_file_drains_without_a_stop(tmp_path: Path) -> None:
    file = tmp_path / "drain"
    with daemon(tmp_path / "daemon", tmp_path / "root", submission=f'workers = 2\ndrain_file = "{file}"') as each:

        def statuses() -> set[int]:
            return {curl(each.url("/__lbheartbeat__"))[0] for _ in range(10)}  # of both workers

        assert statuses() == {200}
        file.touch()
        until(lambda: statuses() == {503}, 10)
        answer = post(each.port, make_report("nevertheless", 1000).body(), HEADERS)
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        file.unlink()
        until(lambda: statuses() == {200}, 10)
        answer = post(each.port, make_report("as ever", 1000).body(), HEADERS)
        assert "connection" not in answer.headers


@needs_mounts
def test_a_host_whose_only_store_is_full_gets_no_reports(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "small", MIB) as small:
        one, two = daemon(tmp_path / "one", small / "root"), daemon(tmp_path / "two", tmp_path / "big")
        with one, two, HAProxy(tmp_path / "haproxy.log", [one.port, two.port]) as balancer:
            until(lambda: len(balancer.up()) == 2)
            fill(small)
            until(lambda: balancer.up() == [two.port], 5)
            with posting(balancer.port, 100) as answers:
                pass
            assert [answer.status for answer in answers] == [200] * 100
            (small / "ballast").unlink()
            until(lambda: len(balancer.up()) == 2, 10)


@needs_mounts
def test_hosts_whose_primaries_are_full_and_fallbacks_are_well_get_reports(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "small-1", MIB) as first, tmpfs(tmp_path / "small-2", MIB) as second:
        daemons = [
            daemon(tmp_path / f"daemon-{disk.name}", disk / "root", tmp_path / f"big-{disk.name}")
            for disk in (first, second)
        ]
        with daemons[0], daemons[1], HAProxy(tmp_path / "haproxy.log", [d.port for d in daemons]) as balancer:
            for disk in (first, second):
                fill(disk)
            until(lambda: all(curl(each.url("/__heartbeat__"))[0] == 503 for each in daemons), 10)
            with posting(balancer.port, 50) as answers:
                pass
            assert [answer.status for answer in answers] == [200] * 50
            assert len(balancer.up()) == 2
