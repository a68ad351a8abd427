"""
Starts and stops: nothing that was acknowledged is lost by a stop, and twistd's own ways work.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.daemon import ROOT, Daemon, config, free_port
from tests.support.disk import part_files, problems, stored_crashes
from tests.support.http import curl, post
from tests.support.load import BIG, SMALL, SPILLED, load
from tests.support.reports import HEADERS, crash_id_in, harm, is_whole, make_report
from tests.support.upload import Upload
from tests.support.wait import until

pytestmark = pytest.mark.e2e


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("memory", [67108864, 0], ids=["in memory", "spilled"])
def test_a_stop_under_load_loses_nothing(tmp_path: Path, memory: int) -> None:
    port = free_port()
    toml = config(port, tmp_path / "root", submission=f"memory_bytes = {memory}")
    with Daemon(toml, port, tmp_path / "work") as daemon:
        with load(port, shapes=[SMALL, SPILLED, BIG]) as clients:
            clients.wait_for_more(30)
            began = time.monotonic()
            assert daemon.stop() == -signal.SIGTERM
            assert time.monotonic() - began < 8
        assert list(harm(clients.acknowledged, tmp_path / "root")) == []
        daemon.start()
        assert list(harm(clients.acknowledged, tmp_path / "root")) == []
        assert clients.refused == []
        assert "Traceback" not in daemon.log()


def test_a_stop_does_not_wait_for_ever_for_who_stalls(tmp_path: Path) -> None:
    port = free_port()
    toml = config(port, tmp_path / "root", submission="memory_bytes = 0", stop_s=1)
    with (
        Daemon(toml, port, tmp_path / "work") as daemon,
        Upload(port, make_report("stalled", 100_000).body()) as upload,
    ):
        upload.send_to(50_000)
        until(lambda: part_files(tmp_path / "root"))
        assert daemon.stop(8) == -signal.SIGTERM
        assert "connections cut off: 1" in daemon.log()
    assert problems(tmp_path / "root") == []
    assert stored_crashes(tmp_path / "root") == {}


def test_what_is_being_received_at_a_stop_is_kept(tmp_path: Path) -> None:
    port = free_port()
    report = make_report("late", 100_000)
    with (
        Daemon(config(port, tmp_path / "root", stop_s=20), port, tmp_path / "work") as daemon,
        Upload(port, report.body()) as upload,
        socket.create_connection(("127.0.0.1", port)),
    ):
        upload.send_to(50_000)
        os.kill(daemon.pid, signal.SIGTERM)
        until(lambda: not is_open(port))
        upload.send_to(len(report.body()))
        answer = upload.answer(10)
        assert answer.headers["connection"] == "close"
        began = time.monotonic()
        daemon.wait(10)
        assert time.monotonic() - began < 5  # whoever is connected and says nothing is not waited for
    assert is_whole(stored_crashes(tmp_path / "root")[crash_id_in(answer)])
    assert problems(tmp_path / "root") == []


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("signals", [[signal.SIGTERM] * 3, [signal.SIGINT, signal.SIGTERM]], ids=["TERM", "INT"])
def test_who_is_stopped_twice_stops_once(tmp_path: Path, signals: list[signal.Signals], workers: int) -> None:
    port = free_port()
    report = make_report("late", 100_000)
    toml = config(port, tmp_path / "root", submission=f"workers = {workers}", stop_s=20)
    with Daemon(toml, port, tmp_path / "work") as daemon, Upload(port, report.body()) as upload:
        upload.send_to(50_000)
        until(lambda: is_received(daemon, upload))
        for number in signals:
            os.kill(daemon.pid, number)
            time.sleep(0.3)
        answer = upload.finish()
        assert daemon.wait(20) == -signals[0]
        assert daemon.log().count("stopping already") == len(signals) - 1
        assert "Traceback" not in daemon.log()
    assert is_whole(stored_crashes(tmp_path / "root")[crash_id_in(answer)])


def is_received(daemon: Daemon, upload: Upload) -> bool:
    """By now who accepts connections has seen it."""
    time.sleep(1)
    return "taking crash reports" in daemon.log()


@pytest.mark.parametrize("signals", [(signal.SIGHUP,), (signal.SIGUSR2,)], ids=["reload", "rolling restart"])
def test_who_is_stopped_twice_while_something_else_is_done(tmp_path: Path, signals: tuple[signal.Signals]) -> None:
    port = free_port()
    toml = config(port, tmp_path / "root", submission="workers = 2")
    with Daemon(toml, port, tmp_path / "work") as daemon:
        for number in (*signals, signal.SIGTERM, signal.SIGTERM):
            os.kill(daemon.pid, number)
        assert daemon.wait(20) == -signal.SIGTERM
        assert "Traceback" not in daemon.log()


@pytest.mark.parametrize("delay", [0.0, 0.3, 0.6, 1.0, 1.5, 2.0])
def test_who_is_stopped_while_it_starts(tmp_path: Path, delay: float) -> None:
    settings, log = tmp_path / "collectord.toml", tmp_path / "log"
    settings.write_text(config(free_port(), tmp_path / "root", submission="workers = 2"))
    twistd = [str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile=", "collectord"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [*twistd, "--config", str(settings)]
    with log.open("wb") as out, subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=out, stderr=out) as ran:
        time.sleep(delay)
        ran.terminate()
        ran.terminate()
        assert ran.wait(30) == -signal.SIGTERM
    assert "Traceback" not in log.read_text()


def test_daemonized(tmp_path: Path) -> None:
    port, pidfile, logfile = free_port(), tmp_path / "twistd.pid", tmp_path / "twistd.log"
    settings = tmp_path / "collectord.toml"
    settings.write_text(config(port, tmp_path / "root"))
    twistd = [str(Path(sys.executable).with_name("twistd")), f"--pidfile={pidfile}", f"--logfile={logfile}"]
    ran = subprocess.run(
        [*twistd, "collectord", "--config", str(settings)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")
    pid = int(pidfile.read_text())
    try:
        until(lambda: "taking crash reports" in logfile.read_text())
        assert curl(f"http://127.0.0.1:{port}/__heartbeat__")[0] == 200
        report = make_report("daemonized", 500_000)
        crash_id = crash_id_in(post(port, report.body(), HEADERS))
        assert is_whole(stored_crashes(tmp_path / "root")[crash_id])
        assert problems(tmp_path / "root") == []
        until(lambda: f"{crash_id} kept" in logfile.read_text())
        assert logfile.stat().st_mode & 0o007 == 0
        os.kill(pid, signal.SIGUSR1)
        rotated = logfile.with_name("twistd.log.1")
        until(rotated.exists)
        later = crash_id_in(post(port, make_report("rotated", 10).body(), HEADERS))
        until(lambda: f"{later} kept" in logfile.read_text())
        assert f"{crash_id} kept" in rotated.read_text()
    finally:
        os.kill(pid, signal.SIGTERM)
    until(lambda: not pidfile.exists())
    until(lambda: not Path(f"/proc/{pid}").exists())
    assert "Server Shut Down" in logfile.read_text()
    assert "Traceback" not in logfile.read_text() + rotated.read_text()
    assert problems(tmp_path / "root") == []


def test_version_and_heartbeats(tmp_path: Path) -> None:
    port = free_port()
    with Daemon(config(port, tmp_path / "root"), port, tmp_path / "work") as daemon:
        assert curl(daemon.url("/__lbheartbeat__")) == (200, b"")
        status, heartbeat = curl(daemon.url("/__heartbeat__"))
        assert (status, str(tmp_path / "root").encode() in heartbeat) == (200, True)
        status, version = curl(daemon.url("/__version__"))
        assert (status, b'"source"' in version, b'"version"' in version) == (200, True, True)
        assert curl(daemon.url("/absent"))[0] == 404
