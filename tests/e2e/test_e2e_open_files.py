"""
A low limit of open files leaves room for some connections, and every report is kept, however many dumps it has.
"""

import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, config, free_port
from tests.support.disk import stored_crashes
from tests.support.http import Part, curl, multipart, post
from tests.support.reports import HEADERS, crash_id_in, make_report

pytestmark = pytest.mark.e2e

FORM = {"Content-Type": "multipart/form-data; boundary=b"}


@pytest.mark.parametrize("sync", ["files", "filesystem"])
@pytest.mark.parametrize(("limit", "workers"), [(256, 1), (256, 2), (1024, 1)])
def test_a_report_of_many_dumps_and_many_connections(tmp_path: Path, limit: int, workers: int, sync: str) -> None:
    dumps = {f"d{number}": b"MDMP" * number for number in range(990)}
    parts = [Part(name, content, "x.dmp", "application/octet-stream") for name, content in dumps.items()]
    many = multipart([Part("ProductName", b"x"), *parts], "b")
    port = free_port()
    toml = config(
        port, tmp_path / "root", tmp_path / "second", submission=f"workers = {workers}", storage=f'sync = "{sync}"'
    )
    with (
        Daemon(toml, port, tmp_path / "work", prefix=["prlimit", f"--nofile={limit}", "--"]) as daemon,
        ExitStack() as idle,
        ThreadPoolExecutor(12) as clients,
    ):
        connections = []
        for _ in range(limit * workers):  # more than are let in
            with suppress(OSError):
                connections.append(idle.enter_context(socket.create_connection(("127.0.0.1", port), 2)))
        for connection in connections[: len(connections) // 2 + limit // 2]:
            connection.close()
        big = [clients.submit(post, port, many, FORM, timeout=60) for _ in range(2)]
        small = [clients.submit(post, port, make_report(f"s{n}", 100).body(), HEADERS, timeout=60) for n in range(40)]
        ids = [crash_id_in(answer.result()) for answer in big]
        for answer in small:
            crash_id_in(answer.result())
        assert "Too many open files" not in daemon.log()
        assert "failed" not in daemon.log()
    kept = stored_crashes(tmp_path / "root")
    assert [kept[crash_id].dumps == dumps for crash_id in ids] == [True, True]


def test_connections_of_the_admin_port_take_no_file_that_a_crash_needs(tmp_path: Path) -> None:
    port, admin = free_port(), free_port()
    toml = config(port, tmp_path / "root", admin=admin)
    prefix = ["prlimit", "--nofile=256", "--"]
    with Daemon(toml, port, tmp_path / "work", prefix=prefix) as daemon, ExitStack() as idle:
        for _ in range(400):
            with suppress(OSError):
                idle.enter_context(socket.create_connection(("127.0.0.1", admin), 2))
        for number in range(5):
            crash_id_in(post(port, make_report(f"s{number}", 100).body(), HEADERS))
        assert "Too many open files" not in daemon.log()
        assert curl(f"http://127.0.0.1:{admin}/metrics")[0] == 200
