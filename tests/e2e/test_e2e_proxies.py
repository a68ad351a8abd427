"""
Real proxies in front of daemons, as C{docs/proxies.rst} sets them up: reports come through whole, and a restart loses
none.
"""

import gzip
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, config, free_port
from tests.support.disk import stored_crashes
from tests.support.haproxy import HAProxyOnTCP, has_haproxy
from tests.support.http import curl, exchange, post, read_responses
from tests.support.load import SMALL, SPILLED, load
from tests.support.proxies import KINDS, Proxy, has_proxy
from tests.support.reports import HEADERS, Report, crash_id_in, harm, is_whole, make_report
from tests.support.response import Response, parse_responses
from tests.support.upload import Upload
from tests.support.wait import until

pytestmark = pytest.mark.e2e

CLIENT = "127.0.0.9"
HERE = [kind for kind in KINDS if has_proxy(kind)]
WITH_TWO_HOSTS = ("nginx", "HAProxy", "Caddy")
_KEEPS_ONE = ("Apache", "Caddy")
"""Apache leaves open what is too old, but does not use it again; Caddy's checks use one connection every second."""
PAUSE_S = 20
"""Longer than the 5 s of Varnish and the 15 s of Envoy, shorter than the 30 s of the daemon itself."""


def needing(*kinds: str) -> list[object]:
    return [pytest.param(k, marks=pytest.mark.skipif(not has_proxy(k), reason=f"no {k}")) for k in kinds]


def proxy(kind: str, tmp_path: Path, *daemons: Daemon) -> Proxy:
    directory = tmp_path / f"proxy-{kind}"
    directory.mkdir()
    return Proxy(directory / "log", kind, [daemon.port for daemon in daemons])


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    port = free_port()
    submission = 'trusted_proxies = ["127.0.0.1"]\nrecord_address = true'
    with Daemon(config(port, tmp_path / "root", submission=submission), port, tmp_path / "work") as daemon:
        yield daemon


def connections_to(port: int) -> int:
    """How many are established."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(f":{port:04X}") and row[3] == "01" for row in rows)


def check(daemon: Daemon, answer: Response, report: Report) -> None:
    crash = stored_crashes(daemon.workdir.parent / "root")[crash_id_in(answer)]
    assert is_whole(crash)
    assert crash.dumps == report.dumps


@pytest.mark.parametrize("kind", needing(*KINDS))
def test_what_clients_send_comes_through(kind: str, daemon: Daemon, tmp_path: Path) -> None:
    small, big = make_report("in-chunks", 400_000, 1000), make_report("big", 26_000_000)
    with proxy(kind, tmp_path, daemon) as front:
        zipped = {**HEADERS, "Content-Encoding": "gzip", "Host": "crashes.example.com"}
        check(daemon, post(front.port, gzip.compress(small.body()), zipped, chunked=True), small)
        check(daemon, post(front.port, big.body(), HEADERS, timeout=60), big)
        for other in ("/", "/__heartbeat__", "/submit.php"):
            assert post(front.port, small.body(), HEADERS, path=other).status == 404


def post_from(host: str, port: int, report: Report, *, half_close: bool = False) -> Response:
    """As a client that has this address of the loopback, and claims another one."""
    body = report.body()
    fields = {
        **HEADERS,
        "Host": "crashes.example.com",
        "X-Forwarded-For": "192.0.2.1",
        "Content-Length": str(len(body)),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    with socket.create_connection(("127.0.0.1", port), 30, source_address=(host, 0)) as connection:
        connection.sendall(f"POST /submit HTTP/1.1\r\n{head}\r\n".encode() + body)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        return parse_responses(read_responses(connection, time.monotonic() + 30, 1))[0]


def address_of(daemon: Daemon, answer: Response) -> object:
    """What is recorded with the crash."""
    metadata = stored_crashes(daemon.workdir.parent / "root")[crash_id_in(answer)].raw_crash["metadata"]
    assert isinstance(metadata, dict)
    return metadata.get("client_address")


@pytest.mark.parametrize("kind", needing(*KINDS))
def test_the_address_of_a_client(kind: str, daemon: Daemon, tmp_path: Path) -> None:
    with proxy(kind, tmp_path, daemon) as front:
        answer = post_from(CLIENT, front.port, make_report("whose", 1000))
    assert address_of(daemon, answer) == CLIENT


@pytest.mark.skipif(not has_haproxy(), reason="no HAProxy")
@pytest.mark.parametrize("option", ["send-proxy", "send-proxy-v2"])
def test_the_proxy_protocol(option: str, tmp_path: Path) -> None:
    port, proxied, root = free_port(), free_port(), tmp_path / "root"
    listen = f'listen = ["tcp:{port}:interface=127.0.0.1", "haproxy:tcp:{proxied}:interface=127.0.0.1"]'
    toml = re.sub(r"listen = .*", listen, config(port, root, submission="record_address = true"), count=1)
    toml = toml.replace("record_address", 'trusted_proxies = ["192.0.2.7"]\nrecord_address', 1)
    with (
        Daemon(toml, port, tmp_path / "work") as daemon,
        HAProxyOnTCP(tmp_path / "log", proxied, option) as front,
    ):
        for half_close in (False, True):
            report = make_report(f"whose-{half_close}", 300_000)
            answer = post_from(CLIENT, front.port, report, half_close=half_close)
            check(daemon, answer, report)
            assert address_of(daemon, answer) == CLIENT
        by_socket = make_report("by-a-socket", 1000)
        file = tmp_path / "body"
        file.write_bytes(by_socket.body())
        sent = ["-H", f"Content-Type: {HEADERS['Content-Type']}", "--data-binary", f"@{file}", "http://x/submit"]
        crash_id = crash_id_in(curl("--unix-socket", str(front.socket), *sent))
        assert is_whole(stored_crashes(root)[crash_id])
        assert front.is_up()  # its checks are answered
        assert "does not begin with a header" not in daemon.log()
        assert exchange(proxied, b"GET /__lbheartbeat__ HTTP/1.1\r\nHost: x\r\n\r\n") == b""
        until(lambda: daemon.log().count("a connection is closed: it does not begin with a header") == 1)


@pytest.mark.skipif(not HERE, reason="no proxy")
def test_slow_clients_are_waited_for_and_idle_connections_are_closed(daemon: Daemon, tmp_path: Path) -> None:
    def send_slowly(kind: str, port: int) -> None:
        report = make_report(f"slow-{kind}", 100_000)
        with Upload(port, report.body()) as upload:
            for at in (10, 50_000):
                upload.send_to(at)
                time.sleep(PAUSE_S)
            check(daemon, upload.finish(), report)

    with ExitStack() as stack:
        fronts = [stack.enter_context(proxy(kind, tmp_path, daemon)) for kind in HERE]
        with ThreadPoolExecutor(len(HERE)) as pool:
            for done in [pool.submit(send_slowly, front.kind, front.port) for front in fronts]:
                done.result()
        for front in fronts:
            if front.kind in _KEEPS_ONE:
                front.kill()
        until(lambda: connections_to(daemon.port) == 0, 30)


@pytest.mark.parametrize("kind", needing(*WITH_TWO_HOSTS))
def test_a_rolling_restart_loses_nothing(kind: str, tmp_path: Path) -> None:
    roots = [tmp_path / "one", tmp_path / "two"]
    daemons = []
    for root in roots:
        port = free_port()
        toml = config(port, root, submission="drain_s = 4.0", stop_s=20)
        daemons.append(Daemon(toml, port, tmp_path / f"daemon-{root.name}"))
    with (
        daemons[0],
        daemons[1],
        proxy(kind, tmp_path, *daemons) as front,
        load(front.port, shapes=[SMALL, SPILLED], rest=0.1) as clients,
    ):
        for each in daemons:
            clients.wait_for_more(20)
            os.kill(each.pid, signal.SIGTERM)
            assert each.wait(60) == -signal.SIGTERM
            clients.wait_for_more(20)
            each.start()
            time.sleep(3)  # they are asked once a second how they are
    assert (clients.refused, clients.cut_off) == ([], 0)
    assert list(harm(clients.acknowledged, *roots)) == []
    assert sum(len(stored_crashes(root)) for root in roots) == len(clients.acknowledged)


@pytest.mark.parametrize("kind", needing(*WITH_TWO_HOSTS))
def test_kills_under_load_lose_nothing_that_was_acknowledged(kind: str, tmp_path: Path) -> None:
    root, port = tmp_path / "root", free_port()
    with (
        Daemon(config(port, root), port, tmp_path / "daemon") as daemon,
        proxy(kind, tmp_path, daemon) as front,
        load(front.port, shapes=[SMALL, SPILLED]) as clients,
    ):
        for _ in range(3):
            clients.wait_for_more(50)
            daemon.kill()
            daemon.start()
        clients.wait_for_more(10)
    assert list(harm(clients.acknowledged, root)) == []
