"""
Several processes on one port: what one of them suffers, the others and the clients do not.
"""

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.support.daemon import ROOT, Daemon, config, free_port
from tests.support.disk import problems, stored_crashes
from tests.support.http import curl, post
from tests.support.load import BIG, SMALL, SPILLED, load
from tests.support.process import children
from tests.support.reports import HEADERS, crash_id_in, harm, is_whole, make_report
from tests.support.upload import Upload
from tests.support.wait import until

pytestmark = pytest.mark.e2e

WORKERS = 2


def daemon(tmp_path: Path, submission: str = "", stop_s: float = 5.0, more: str = "") -> Daemon:
    port, admin = free_port(), free_port()
    toml = config(port, tmp_path / "root", submission=f"workers = {WORKERS}\n{submission}", admin=admin, stop_s=stop_s)
    return Daemon(toml + more, port, tmp_path / "work", env={"ADMIN": str(admin)})


def are_others(pid: int, before: list[int]) -> bool:
    now = children(pid)
    return len(now) == WORKERS and now != before


def metric(daemon: Daemon, name: str) -> float:
    with urlopen(f"http://127.0.0.1:{daemon.env['ADMIN']}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def test_they_share_the_work_and_their_metrics_are_summed(tmp_path: Path) -> None:
    with daemon(tmp_path) as up:
        assert len(children(up.pid)) == WORKERS
        with load(up.port, shapes=[SMALL, SPILLED, BIG]) as clients:
            clients.wait_for_more(60)
        assert clients.refused == []
        assert list(harm(clients.acknowledged, tmp_path / "root")) == []
        until(lambda: metric(up, "collectord_received_total") == len(clients.acknowledged))
        assert metric(up, "collectord_workers") == WORKERS
        assert all(cpu_s(worker) > 0.05 for worker in children(up.pid))
        until(lambda: f"{next(iter(clients.acknowledged))} kept" in up.log())
        assert up.log().count("taking crash reports") == 1
    assert problems(tmp_path / "root") == []


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_worker_that_is_killed_costs_only_its_own_connections(tmp_path: Path) -> None:
    with daemon(tmp_path) as up, load(up.port, shapes=[SMALL, SPILLED]) as clients:
        clients.wait_for_more(20)
        for _ in range(3):
            before = children(up.pid)
            os.kill(before[0], signal.SIGKILL)
            until(partial(are_others, up.pid, before))
            clients.wait_for_more(20)
        until(lambda: metric(up, "collectord_worker_restarts_total") == 3)
        until(lambda: "died" in up.log())
    with daemon(tmp_path):
        pass  # sweeps what the dead were receiving
    assert list(harm(clients.acknowledged, tmp_path / "root")) == []


def test_a_rolling_restart_loses_no_request(tmp_path: Path) -> None:
    with daemon(tmp_path) as up, load(up.port, shapes=[SMALL, SPILLED, BIG]) as clients:
        clients.wait_for_more(20)
        before = set(children(up.pid))
        os.kill(up.pid, signal.SIGUSR2)
        until(lambda: len(children(up.pid)) == WORKERS and not before & set(children(up.pid)), 30)
        clients.wait_for_more(20)
        assert clients.refused == []
        assert clients.cut_off == 0
    assert list(harm(clients.acknowledged, tmp_path / "root")) == []


def test_a_rolling_restart_waits_for_an_upload(tmp_path: Path) -> None:
    report = make_report("slow", 100_000)
    with daemon(tmp_path, stop_s=20) as up, Upload(up.port, report.body()) as upload:
        upload.send_to(50_000)
        before = set(children(up.pid))
        os.kill(up.pid, signal.SIGUSR2)
        until(lambda: len(set(children(up.pid)) - before) >= 1)
        crash_id = crash_id_in(upload.finish())
        until(lambda: len(children(up.pid)) == WORKERS and not before & set(children(up.pid)), 30)
    assert is_whole(stored_crashes(tmp_path / "root")[crash_id])


def test_a_stop_under_load_loses_nothing(tmp_path: Path) -> None:
    with daemon(tmp_path) as up, load(up.port, shapes=[SMALL, SPILLED, BIG]) as clients:
        clients.wait_for_more(30)
        workers = children(up.pid)
        assert up.stop() == -signal.SIGTERM
        assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    assert list(harm(clients.acknowledged, tmp_path / "root")) == []
    assert "Traceback" not in up.log()


def test_orphans_end_and_lose_nothing(tmp_path: Path) -> None:
    with daemon(tmp_path) as up, load(up.port, shapes=[SMALL, SPILLED, BIG]) as clients:
        clients.wait_for_more(30)
        workers = children(up.pid)
        up.kill()
        until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers), 20)
    assert list(harm(clients.acknowledged, tmp_path / "root")) == []


def test_a_worker_that_cannot_start_is_tried_less_and_less_often(tmp_path: Path) -> None:
    module = tmp_path / "my_rules.py"
    good = "from collectord.throttle import Always, Result, Rule\nRULES = [Rule('all', '*', Always(), Result.ACCEPT)]\n"
    module.write_text(good)
    up = daemon(tmp_path, more='[throttle]\nrules = "my_rules:RULES"\n')
    up.env = {**up.env, "PYTHONPATH": f"{ROOT}:{tmp_path}", "PYTHONDONTWRITEBYTECODE": "1"}
    with up:
        until(lambda: "taking crash reports" in up.log())
        module.write_text("nonsense")
        os.kill(children(up.pid)[0], signal.SIGKILL)
        until(lambda: up.log().count("a worker can't start") >= 3, 60)
        crash_id_in(post(up.port, make_report("other", 1000).body(), HEADERS))  # the other one is well
        module.write_text(good)
        until(lambda: len(children(up.pid)) == WORKERS and "another starts in 0.4 s" in up.log(), 60)


def test_a_worker_lives_by_what_its_parent_has_read(tmp_path: Path) -> None:
    """Whatever has become of the files: the crashmover would not know another store."""
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\nname = "all"\nkey = "*"\nresult = "accept"\n')
    with daemon(tmp_path, more=f'[throttle]\nrules = "{rules}"\n') as up:
        until(lambda: "taking crash reports" in up.log())
        rules.write_text("nonsense")
        settings = up.workdir / "collectord.toml"
        settings.write_text(up.toml.replace(str(tmp_path / "root"), str(tmp_path / "elsewhere")))
        before = set(children(up.pid))
        os.kill(up.pid, signal.SIGUSR2)
        until(lambda: len(children(up.pid)) == WORKERS and not before & set(children(up.pid)), 30)
        rules.write_text('[[rule]]\nname = "every"\nkey = "*"\nresult = "accept"\n')
        os.kill(up.pid, signal.SIGHUP)
        until(lambda: "[storage] has changed: that takes a restart" in up.log())
        before = set(children(up.pid))
        os.kill(children(up.pid)[0], signal.SIGKILL)
        until(lambda: len(children(up.pid)) == WORKERS and set(children(up.pid)) != before)
        ids = [crash_id_in(post(up.port, make_report(f"r-{n}", 1000).body(), HEADERS)) for n in range(6)]
        assert set(ids) <= set(stored_crashes(tmp_path / "root"))
        until(lambda: "by every" in up.log())
    assert not (tmp_path / "elsewhere").exists()


def test_the_file_of_a_unix_socket_outlives_workers(tmp_path: Path) -> None:
    port, path = free_port(), tmp_path / "socket"
    toml = config(port, tmp_path / "root", submission=f"workers = {WORKERS}").replace(
        'interface=127.0.0.1"]', f'interface=127.0.0.1", "unix:{path}"]'
    )
    with Daemon(toml, port, tmp_path / "work") as up:
        before = set(children(up.pid))
        os.kill(up.pid, signal.SIGUSR2)
        until(lambda: len(children(up.pid)) == WORKERS and not before & set(children(up.pid)), 30)
        assert curl("http://x/__lbheartbeat__", "--unix-socket", str(path)) == (200, b"")
    assert not path.exists()
    assert "Traceback" not in up.log()


def test_who_dies_during_a_rolling_restart_is_missed(tmp_path: Path) -> None:
    report = make_report("slow", 100_000)
    with daemon(tmp_path, stop_s=6) as up:
        until(lambda: "taking crash reports" in up.log())
        before = set(children(up.pid))
        with ExitStack() as uploads:
            for _ in range(8):
                uploads.enter_context(Upload(up.port, report.body())).send_to(50_000)
            os.kill(up.pid, signal.SIGUSR2)
            until(lambda: metric(up, "collectord_workers") == WORKERS + 1)
            os.kill(next(iter(set(children(up.pid)) - before)), signal.SIGKILL)
        until(lambda: len(children(up.pid)) == WORKERS and not before & set(children(up.pid)), 40)
        crash_id_in(post(up.port, make_report("after", 1000).body(), HEADERS))
    assert "Traceback" not in up.log()


def test_a_parent_that_hangs_stops_no_collecting(tmp_path: Path) -> None:
    """Its log is a file, which it writes for its workers as well."""
    port, log = free_port(), tmp_path / "log"
    settings = tmp_path / "collectord.toml"
    settings.write_text(config(port, tmp_path / "root", submission="workers = 2"))
    twistd = [str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile=", f"--logfile={log}", "collectord"]
    parent = subprocess.Popen(
        [*twistd, "--config", str(settings)], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    try:
        until(lambda: log.exists() and "taking crash reports" in log.read_text())
        parent.send_signal(signal.SIGSTOP)
        with load(port, shapes=[SMALL]) as clients:
            clients.wait_for_more(1500, 60)
        assert (clients.refused, clients.cut_off) == ([], 0)
        parent.send_signal(signal.SIGCONT)
        later: list[str] = []

        def is_logged_again() -> bool:  # the lines of a while may be lost
            later.append(crash_id_in(post(port, make_report("again", 1000).body(), HEADERS)))
            output = log.read_text()
            return any(f"{crash_id} kept" in output for crash_id in later)

        until(is_logged_again)
    finally:
        parent.send_signal(signal.SIGCONT)
        parent.terminate()
        parent.wait(20)
    assert list(harm(clients.acknowledged, tmp_path / "root")) == []
