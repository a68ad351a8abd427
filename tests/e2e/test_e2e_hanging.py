"""
Workers that hang: they are told of, killed and replaced, and make no stop longer. What was acknowledged is kept.
"""

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen
from uuid import uuid4

import pytest

from tests.support.daemon import ROOT, Daemon, config, free_port
from tests.support.disk import problems
from tests.support.http import Part, multipart, post
from tests.support.load import SMALL, load
from tests.support.reports import HEADERS, crash_id_in, harm, make_report
from tests.support.upload import Upload
from tests.support.wait import until

pytestmark = pytest.mark.e2e

LONG = 60


def daemon(tmp_path: Path, submission: str = "", *, workers: int = 2, stop_s: float = 2.0, more: str = "") -> Daemon:
    port, admin = free_port(), free_port()
    toml = config(port, tmp_path / "root", submission=f"workers = {workers}\n{submission}", admin=admin, stop_s=stop_s)
    environment = {"ADMIN": str(admin), "PYTHONPATH": f"{ROOT}:{tmp_path}", "PYTHONDONTWRITEBYTECODE": "1"}
    return Daemon(toml + more, port, tmp_path / "work", env=environment)


def children(up: Daemon) -> list[int]:
    return [int(child) for child in Path(f"/proc/{up.pid}/task/{up.pid}/children").read_text().split()]


def ask(port: int | str, path: str) -> tuple[int, bytes]:
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read()
    except HTTPError as e:
        return e.code, e.read()


def metric(up: Daemon, name: str) -> float:
    lines = ask(up.env["ADMIN"], "/metrics")[1].decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"collectord_{name} "))


def heartbeat(up: Daemon) -> tuple[int, int]:
    """Its status, and the workers that hang by it; some who ask meet one of them, and get nothing."""
    while True:
        with suppress(OSError, ValueError):
            status, body = ask(up.port, "/__heartbeat__")
            return status, json.loads(body).get("hung_workers", 0)


def is_whole_again(up: Daemon, workers: int = 2) -> bool:
    return (metric(up, "workers"), metric(up, "workers_hung")) == (workers, 0)


def test_a_stopped_worker_is_told_of_and_replaced_and_costs_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    with daemon(tmp_path, "worker_timeout_s = 12.0\nmemory_bytes = 0") as up:
        until(lambda: is_whole_again(up), LONG)
        with ExitStack() as uploads, load(up.port, shapes=[SMALL]) as clients:
            clients.wait_for_more(20)
            for _ in range(6):
                uploads.enter_context(Upload(up.port, make_report("spilled", 300_000).body())).send_to(200_000)
            hung, other = children(up)
            os.kill(hung, signal.SIGSTOP)
            until(lambda: metric(up, "workers_hung") == 1, LONG)
            assert metric(up, "workers") == 1
            until(lambda: f"(pid {hung}) hangs" in up.log())
            overview = json.loads(ask(up.env["ADMIN"], "/overview.json")[1])
            (trouble,) = overview["troubles"]
            assert trouble["where"] in (f"Worker 1 (pid {hung})", f"Worker 2 (pid {hung})")
            until(lambda: heartbeat(up) == (503, 1), LONG)
            until(lambda: f"(pid {hung}) died (killed by SIGKILL)" in up.log(), LONG)
            until(lambda: is_whole_again(up), LONG)
            until(lambda: heartbeat(up) == (200, 0), LONG)
            assert hung not in children(up)
            assert other in children(up)
            clients.wait_for_more(20)
    assert list(harm(clients.acknowledged, tmp_path / "root")) == []
    assert problems(tmp_path / "root") == []


ENDLESS = """
from collectord.throttle import Always, Result, Rule

def endless(annotations):
    while "Endless" in annotations:
        pass
    return True

RULES = [Rule("endless", "*", endless, Result.ACCEPT)]
"""


def test_a_rule_that_does_not_end(tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text(ENDLESS)
    with daemon(tmp_path, "worker_timeout_s = 6.0", more='[throttle]\nrules = "endless:RULES"\n') as up:
        until(lambda: is_whole_again(up), LONG)
        before = set(children(up))
        body = multipart([Part("Endless", b"1")], "b")
        with socket.create_connection(("127.0.0.1", up.port)) as client:
            head = f"POST /submit HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n"
            client.sendall(head.encode() + b"Content-Type: multipart/form-data; boundary=b\r\n\r\n" + body)
            until(lambda: "hangs: nothing was heard of it" in up.log(), LONG)
            until(lambda: len(set(children(up)) & before) == 1 and is_whole_again(up), LONG)
            assert client.recv(100) == b""
        for number in range(4):
            crash_id_in(post(up.port, make_report(f"after-{number}", 1000).body(), HEADERS))


def test_a_stop_of_stopped_workers_is_no_longer_than_others(tmp_path: Path) -> None:
    with daemon(tmp_path, workers=3, stop_s=2) as up:
        until(lambda: is_whole_again(up, 3), LONG)
        workers = children(up)
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)
        began = time.monotonic()
        assert up.stop(30) == -signal.SIGTERM
        assert time.monotonic() - began < 12
        assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    assert "Traceback" not in up.log()


def test_a_parent_that_was_stopped_kills_nobody(tmp_path: Path) -> None:
    with daemon(tmp_path, "worker_timeout_s = 2.0") as up:
        until(lambda: is_whole_again(up), LONG)
        before = children(up)
        for pid in (up.pid, *before):  # the whole machine
            os.kill(pid, signal.SIGSTOP)
        time.sleep(5)
        for pid in (up.pid, *before):
            os.kill(pid, signal.SIGCONT)
        time.sleep(2)
        assert children(up) == before
        assert "hangs" not in up.log()


def test_a_worker_that_hangs_is_replaced_in_a_rolling_restart_too(tmp_path: Path) -> None:
    with daemon(tmp_path, "worker_timeout_s = 3.0") as up:
        until(lambda: is_whole_again(up), LONG)
        before = set(children(up))
        os.kill(next(iter(before)), signal.SIGSTOP)
        os.kill(up.pid, signal.SIGUSR2)
        until(lambda: len(children(up)) == 2 and not before & set(children(up)) and is_whole_again(up), LONG)
        crash_id_in(post(up.port, make_report("after", 1000).body(), HEADERS))
    assert "Traceback" not in up.log()


def test_a_worker_that_hangs_during_a_reload_lives_by_the_new_settings_afterwards(tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rule = '[[rule]]\nname = "{}"\nkey = "*"\nresult = "accept"\n'
    rules.write_text(rule.format("before"))
    with daemon(tmp_path, more=f'[throttle]\nrules = "{rules}"\n') as up:
        until(lambda: is_whole_again(up), LONG)
        hung, other = children(up)
        os.kill(hung, signal.SIGSTOP)
        rules.write_text(rule.format("afterwards"))
        os.kill(up.pid, signal.SIGHUP)
        until(lambda: "the settings were read again" in up.log())
        os.kill(hung, signal.SIGCONT)
        os.kill(other, signal.SIGSTOP)  # now the other one answers

        def is_judged_by_the_new_rules() -> bool:
            with Upload(up.port, make_report("new", 1000).body()) as upload:
                crash_id_in(upload.finish())
            return "kept: ACCEPT by afterwards" in up.log()

        until(is_judged_by_the_new_rules)
        os.kill(other, signal.SIGCONT)


@pytest.fixture
def notices() -> Iterator[socket.socket]:
    """systemd's end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        ours.bind(f"\0collectord-{uuid4()}")
        yield ours


def pings(notices: socket.socket, seconds: float) -> int:
    """Those of so many seconds."""
    notices.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            notices.recv(4096)
    found, until_then = 0, time.monotonic() + seconds
    while (left := until_then - time.monotonic()) > 0:
        notices.settimeout(left)
        with suppress(TimeoutError):
            found += notices.recv(4096) == b"WATCHDOG=1"
    return found


def test_the_watchdog_is_fed_while_workers_answer_or_can_be_replaced(tmp_path: Path, notices: socket.socket) -> None:
    module = tmp_path / "some_rules.py"
    good = ENDLESS
    module.write_text(good)
    up = daemon(tmp_path, "worker_timeout_s = 3.0", more='[throttle]\nrules = "some_rules:RULES"\n')
    address = notices.getsockname().decode().replace("\0", "@")
    up.env = {**up.env, "NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"}
    with up:
        until(lambda: is_whole_again(up), LONG)
        os.kill(children(up)[0], signal.SIGSTOP)
        assert pings(notices, 4) >= 5
        until(lambda: "killed by SIGKILL" in up.log() and is_whole_again(up), LONG)
        assert pings(notices, 2) >= 2
        module.write_text("nonsense")  # none can start any more
        for worker in children(up):
            os.kill(worker, signal.SIGSTOP)
        until(lambda: "no worker takes submissions" in up.log(), LONG)
        assert pings(notices, 2) == 0
        module.write_text(good)
        until(lambda: is_whole_again(up), LONG)
        assert pings(notices, 2) >= 2
