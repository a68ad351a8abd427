"""
systemd's own tools on the units, and the daemon with what systemd hands it: a socket to notify, a socket to listen on.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from attrs import frozen

from tests.support.daemon import ROOT, Daemon, config, free_port
from tests.support.disk import stored_crashes
from tests.support.http import curl, post
from tests.support.load import load
from tests.support.reports import HEADERS, crash_id_in, harm, is_whole, make_report
from tests.support.upload import Upload
from tests.support.wait import until

pytestmark = pytest.mark.e2e

SYSTEMD = ROOT / "systemd"
EXPOSURE = 15
"""At most, in tenths, by C{systemd-analyze security}."""


def needs(tool: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"no {tool}")


def verified(units: Path) -> str:
    """What systemd has to say against the units in a directory; it ends with 0 even where it does not know a line."""
    for file in [*units.rglob("*.service"), *units.rglob("*.conf")]:  # it wants to see the program
        file.write_text(file.read_text().replace("/opt/collectord/bin/twistd", "/bin/true"))
    command = ["systemd-analyze", "verify", "--man=no"]
    command += [str(units / unit) for unit in ("collectord.service", "collectord.socket")]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


@pytest.fixture
def units(tmp_path: Path) -> Path:
    for unit in ("collectord.service", "collectord.socket"):
        shutil.copy(SYSTEMD / unit, tmp_path)
    return tmp_path


@needs("systemd-analyze")
@pytest.mark.parametrize("drop_in", [None, *sorted(path.name for path in SYSTEMD.glob("drop-ins/*.conf"))])
def test_systemd_understands_every_line(units: Path, drop_in: str | None) -> None:
    if drop_in is not None:
        (units / "collectord.service.d").mkdir()
        text = (SYSTEMD / "drop-ins" / drop_in).read_text()
        text = text.replace("\n#Load", "\nLoad").replace("\n#E", "\nE")  # what is offered as an example, too
        (units / "collectord.service.d" / drop_in).write_text(text)
    assert verified(units) == ""


@needs("systemd-analyze")
def test_a_line_that_systemd_does_not_know_would_be_seen(units: Path) -> None:
    with (units / "collectord.service").open("a") as file:
        file.write("[Service]\nProtectEverything=yes\n")
    assert "ProtectEverything" in verified(units)


@needs("systemd-analyze")
def test_the_daemon_is_well_locked_in() -> None:
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager"]
    ran = subprocess.run([*command, SYSTEMD / "collectord.service"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout


@needs("systemd-sysusers")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_user_and_its_directories(tmp_path: Path) -> None:
    (tmp_path / "etc/collectord").mkdir(parents=True)
    settings = tmp_path / "etc/collectord/collectord.toml"
    settings.write_text("")
    root = f"--root={tmp_path}"
    for command in (["systemd-sysusers", root], ["systemd-tmpfiles", "--create", root]):
        kind = command[0].removeprefix("systemd-")
        ran = subprocess.run(
            [*command, SYSTEMD / f"collectord.{kind}.conf"], capture_output=True, text=True, check=True
        )
        assert "collectord.tmpfiles" not in ran.stderr
    [user] = [line.split(":") for line in (tmp_path / "etc/passwd").read_text().splitlines() if "collectord" in line]
    assert user[5:] == ["/var/lib/collectord", "/usr/sbin/nologin"]
    found = {
        path.name: (path.stat().st_uid, path.stat().st_gid, oct(path.stat().st_mode & 0o777))
        for path in [settings, settings.parent, settings.with_name("secrets")]
    }
    group = int(user[3])
    assert found == {
        "collectord.toml": (0, group, "0o640"),
        "collectord": (0, group, "0o750"),
        "secrets": (0, 0, "0o700"),
    }


@frozen
class Notices:
    """systemd's end of the notify socket."""

    socket: socket.socket

    def until(self, wanted: str, timeout: float = 30) -> list[str]:
        """What is heard before a message with this first line, by first lines; a C{TimeoutError} where it is not."""
        before: list[str] = []
        deadline = time.monotonic() + timeout
        while True:
            self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
            first = self.socket.recv(4096).decode().split("\n")[0]
            if first == wanted:
                return before
            before.append(first)


@pytest.fixture
def notices() -> Iterator[Notices]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        ours.bind(f"\0collectord-{uuid4()}")
        yield Notices(ours)


def notified(notices: Notices, port: int, workdir: Path, toml: str, **environment: str) -> Daemon:
    """A daemon under systemd, as far as it knows."""
    address = notices.socket.getsockname().decode().replace("\0", "@")
    return Daemon(toml, port, workdir, env={"NOTIFY_SOCKET": address, **environment})


def test_it_is_ready_once_it_takes_reports(tmp_path: Path, notices: Notices) -> None:
    port = free_port()
    with notified(notices, port, tmp_path / "work", config(port, tmp_path / "root")) as daemon:
        assert notices.until("READY=1") == []
        until(lambda: "taking crash reports" in daemon.log())  # it is written on a thread


@needs("strace")
def test_it_is_not_ready_while_it_still_tries_its_stores(tmp_path: Path, notices: Notices) -> None:
    port = free_port()
    daemon = notified(notices, port, tmp_path / "work", config(port, tmp_path / "root"))
    daemon.prefix = ["strace", "-D", "-f", "-qq", "-o", os.devnull, "-e", "inject=fsync:delay_enter=1000000"]
    with ThreadPoolExecutor() as pool:
        healthy = pool.submit(daemon.start)
        try:
            until(lambda: (tmp_path / "root/staging").exists())
            with pytest.raises(TimeoutError):
                notices.until("READY=1", 1)
            healthy.result()
            notices.until("READY=1", 1)
        finally:
            healthy.exception()
            daemon.kill()


def test_it_tells_that_it_stops_before_it_has(tmp_path: Path, notices: Notices) -> None:
    port = free_port()
    toml = config(port, tmp_path / "root", stop_s=20)
    report = make_report("late", 100_000)
    with notified(notices, port, tmp_path / "work", toml) as daemon, Upload(port, report.body()) as upload:
        notices.until("READY=1")
        upload.send_to(50_000)
        time.sleep(0.2)  # it has begun
        os.kill(daemon.pid, signal.SIGTERM)
        assert notices.until("STOPPING=1") == []
        crash_id = crash_id_in(upload.finish())
        assert daemon.wait(10) == -signal.SIGTERM
    assert is_whole(stored_crashes(tmp_path / "root")[crash_id])


def test_it_pings_the_watchdog_from_its_reactor(tmp_path: Path, notices: Notices) -> None:
    port = free_port()
    toml = config(port, tmp_path / "root")
    with notified(notices, port, tmp_path / "work", toml, WATCHDOG_USEC="400000") as daemon:
        notices.until("READY=1")
        began = time.monotonic()
        for _ in range(10):
            notices.until("WATCHDOG=1", 0.4)
        assert time.monotonic() - began > 1
        os.kill(daemon.pid, signal.SIGSTOP)
        time.sleep(0.1)
        with pytest.raises(TimeoutError):  # noqa: PT012  (the first may have been on its way)
            notices.until("WATCHDOG=1", 0.1)
            notices.until("WATCHDOG=1", 0.6)
        os.kill(daemon.pid, signal.SIGCONT)
        notices.until("WATCHDOG=1", 2)


def test_it_tells_that_it_reads_its_settings_again(tmp_path: Path, notices: Notices) -> None:
    port = free_port()
    with notified(notices, port, tmp_path / "work", config(port, tmp_path / "root")) as daemon:
        notices.until("READY=1")
        os.kill(daemon.pid, signal.SIGHUP)
        assert notices.until("RELOADING=1") == []
        assert [message for message in notices.until("READY=1") if not message.startswith("STATUS=")] == []
        assert crash_id_in(post(port, make_report("reloaded", 1000).body(), HEADERS))


def test_a_socket_without_a_systemd_behind_it_is_no_trouble(tmp_path: Path) -> None:
    port = free_port()
    toml = config(port, tmp_path / "root")
    environment = {"NOTIFY_SOCKET": str(tmp_path / "nobody"), "WATCHDOG_USEC": "400000"}
    with Daemon(toml, port, tmp_path / "work", env=environment) as daemon:
        assert crash_id_in(post(port, make_report("alone", 1000).body(), HEADERS))
        assert daemon.stop() == -signal.SIGTERM
        assert "Traceback" not in daemon.log()


def socket_config(port: int, root: Path) -> str:
    """Of a daemon that does not listen itself."""
    return config(port, root).replace(f"tcp:{port}:interface=127.0.0.1", "systemd:domain=INET:name=http")


@needs("systemd-socket-activate")
@needs("curl")
def test_the_first_client_starts_the_daemon(tmp_path: Path) -> None:
    port = free_port()
    report = make_report("first", 1000)
    body = tmp_path / "body"
    body.write_bytes(report.body())
    activate = ["systemd-socket-activate", "--fdname=http", f"--listen=127.0.0.1:{port}"]
    activate += [f"--setenv={name}" for name in ("PYTHONPATH", "PYTHONUNBUFFERED", "LC_ALL")]
    with Daemon(socket_config(port, tmp_path / "root"), port, tmp_path / "work", prefix=activate) as daemon:
        arguments = ["-H", f"Content-Type: {HEADERS['Content-Type']}", "--data-binary", f"@{body}"]
        crash_id = crash_id_in(curl(*arguments, daemon.url("/submit")))
        assert is_whole(stored_crashes(tmp_path / "root")[crash_id])
        assert daemon.stop() == -signal.SIGTERM
        assert "Traceback" not in daemon.log()


_HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "http", "LISTEN_PID": str(os.getpid())}
os.execv(sys.argv[2], sys.argv[2:])
"""


@contextmanager
def activated(listener: socket.socket, settings: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon that is given a socket as systemd does it: as file 3."""
    twistd = [
        str(Path(sys.executable).with_name("twistd")),
        "-n",
        "--pidfile=",
        "collectord",
        "--config",
        str(settings),
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COLLECTORD_")}
    with (
        log.open("ab") as out,
        subprocess.Popen(
            [sys.executable, "-c", _HAND_OVER, str(listener.fileno()), *twistd],
            cwd=settings.parent,
            env=environment | {"PYTHONPATH": str(ROOT)},
            pass_fds=[listener.fileno()],
            stdout=out,
            stderr=out,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL], ids=lambda ending: ending.name)
def test_nobody_is_refused_while_the_daemon_is_started_again(tmp_path: Path, ending: signal.Signals) -> None:
    root, settings, log = tmp_path / "root", tmp_path / "settings.toml", tmp_path / "log"
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        port = listener.getsockname()[1]
        settings.write_text(socket_config(port, root))
        with ExitStack() as daemons:  # they outlive the clients
            daemon = daemons.enter_context(activated(listener, settings, log))
            with load(port) as clients:
                clients.wait_for_more(20)
                daemon.send_signal(ending)
                daemon.wait(20)
                time.sleep(0.3)  # whoever was cut off has seen it
                before, cut_off = len(clients.acknowledged), clients.cut_off
                time.sleep(0.5)
                waited = (len(clients.acknowledged), clients.cut_off) == (before, cut_off)
                daemons.enter_context(activated(listener, settings, log))
                clients.wait_for_more(20)
    assert waited
    assert clients.refused == []
    assert clients.cut_off == cut_off
    assert cut_off == 0 if ending == signal.SIGTERM else cut_off <= 6  # those that a kill has met in the middle
    assert list(harm(clients.acknowledged, root)) == []
    assert "Traceback" not in log.read_text()
