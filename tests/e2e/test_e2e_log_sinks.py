"""
Where the log goes: nobody reads it, its disk is full, it is closed, it can't be rotated. Crashes are kept all the same.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest
from attrs import define, field

from tests.support.daemon import ROOT, config, free_port
from tests.support.disk import stored_crashes
from tests.support.http import Part, multipart, post
from tests.support.reports import HEADERS, crash_id_in, make_report
from tests.support.wait import until

pytestmark = pytest.mark.e2e

LINES = 400
"""That a report makes its throttle rule print."""

NOISY = f"""
from collectord.throttle import Always, Result, Rule

def noisy(annotations):
    if "Noise" in annotations:
        for number in range({LINES}):
            print(f"noise {{number:060}}")
    return "Noise" not in annotations

RULES = [Rule("quiet", "*", noisy, Result.ACCEPT), Rule("noise", "*", Always(), Result.REJECT)]
"""


@define
class Logging:
    """A daemon whose output is a test's."""

    process: subprocess.Popen[bytes]
    port: int
    admin: int
    kept: list[str] = field(factory=list)

    def make_noise(self, reports: int = 1) -> None:
        """L{LINES} lines for each."""
        body = multipart([Part("Noise", b"yes")], "b")
        for _ in range(reports):
            answer = post(self.port, body, {"Content-Type": "multipart/form-data; boundary=b"})
            assert answer.body == b"Discarded=rule_noise", answer

    def make_too_much_noise(self) -> None:
        """Until lines are lost."""
        while not self.lost():
            self.make_noise(5)

    def keep(self) -> str:
        self.kept.append(crash_id_in(post(self.port, make_report(f"r-{len(self.kept)}", 1000).body(), HEADERS)))
        return self.kept[-1]

    def is_well(self) -> bool:
        with urlopen(f"http://127.0.0.1:{self.port}/__lbheartbeat__", timeout=5) as answer:
            return int(answer.status) == 200

    def lost(self) -> float:
        with urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith("collectord_log_lines_lost_total ")))

    def stop(self) -> float:
        """Seconds that it took."""
        began = time.monotonic()
        self.process.terminate()
        assert self.process.wait(15) == -signal.SIGTERM
        return time.monotonic() - began


@contextmanager
def logging(
    tmp_path: Path, out: int, *arguments: str, workers: int = 1, error: int | None = None, more: str = ""
) -> Iterator[Logging]:
    port, admin = free_port(), free_port()
    settings = tmp_path / "collectord.toml"
    (tmp_path / "noisy.py").write_text(NOISY)
    text = config(port, tmp_path / "root", submission=f"workers = {workers}", admin=admin)
    settings.write_text(f'{text}[throttle]\nrules = "noisy:RULES"\n{more}')
    twistd = [str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile=", *arguments, "collectord"]
    with subprocess.Popen(
        [*twistd, "--config", str(settings)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}"},
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=out if error is None else error,
    ) as process:
        daemon = Logging(process, port, admin)
        try:
            until(lambda: answers(daemon), 30)
            yield daemon
        finally:
            process.kill()
    assert set(daemon.kept) <= set(stored_crashes(tmp_path / "root"))


def answers(daemon: Logging) -> bool:
    assert daemon.process.poll() is None
    try:
        return daemon.is_well()
    except OSError:
        return False


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    out, into = os.pipe()
    try:
        yield out, into
    finally:
        os.close(out)
        os.close(into)


def read_all(out: int, into: list[bytes], pause: float = 0.0, size: int = 65536) -> None:
    while data := os.read(out, size):
        into.append(data)
        time.sleep(pause)


@contextmanager
def reading(out: int, pause: float = 0.0, size: int = 65536) -> Iterator[list[bytes]]:
    """What comes out of a pipe, until all who write to it are gone."""
    read: list[bytes] = []
    reader = threading.Thread(target=read_all, args=(out, read, pause, size), daemon=True)
    reader.start()
    yield read


def lines(read: Sequence[bytes]) -> list[str]:
    return b"".join(read).decode().splitlines()


@pytest.mark.parametrize(("workers", "form"), [(1, "text"), (2, "json")])
def test_nobody_reads_it_and_then_somebody_does(tmp_path: Path, workers: int, form: str) -> None:
    more = f'[logging]\nformat = "{form}"\n'
    with pipe() as (out, into), logging(tmp_path, into, workers=workers, more=more) as daemon:
        daemon.make_too_much_noise()
        assert daemon.is_well()
        first = daemon.keep()
        with reading(out) as read:
            until(lambda: any("log lines were lost: the log did not take them in time" in line for line in lines(read)))
            again = daemon.keep()
            until(lambda: any(f"{again} kept" in line for line in lines(read)))
            assert daemon.stop() < 5
            until(lambda: any("Server Shut Down" in line for line in lines(read)))
        message = [line for line in lines(read) if "log lines were lost" in line]
        assert not any(f"{first} kept" in line for line in lines(read))
        assert sum("noise 0" in line for line in lines(read)) > 10 * LINES
        assert len(message) <= workers
        assert all(line.startswith("{" if form == "json" else "20") for line in lines(read))


@pytest.mark.parametrize("workers", [1, 2])
def test_nobody_reads_it_at_a_stop(tmp_path: Path, workers: int) -> None:
    with pipe() as (_, into), logging(tmp_path, into, workers=workers) as daemon:
        daemon.make_noise(10)
        daemon.keep()
        assert daemon.stop() < 6


def test_who_reads_slowly_gets_whole_lines_in_order(tmp_path: Path) -> None:
    with pipe() as (out, into), logging(tmp_path, into, workers=2) as daemon, reading(out, 0.01, 3000) as read:
        kept = [daemon.keep() for _ in range(20)]
        daemon.make_noise(5)
        until(lambda: sum("noise 0" in line for line in lines(read)) == 5 * LINES, 60)
        assert daemon.lost() == 0
        assert all(line.startswith("20") for line in lines(read)[:-1])
        assert {line.partition(" kept: ")[0].split()[-1] for line in lines(read) if " kept: " in line} == set(kept)
        daemon.stop()


def test_a_pipe_that_is_closed(tmp_path: Path) -> None:
    out, into = os.pipe()
    os.close(out)
    with logging(tmp_path, into, workers=2) as daemon:
        os.close(into)
        daemon.keep()
        until(daemon.lost)
        daemon.stop()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk(tmp_path: Path, workers: int) -> None:
    with open("/dev/full", "wb") as full, logging(tmp_path, full.fileno(), workers=workers) as daemon:
        daemon.make_noise()
        daemon.keep()
        until(lambda: daemon.lost() > LINES)
        assert daemon.stop() < 6


def test_a_full_disk_of_a_log_file_and_then_there_is_space(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.symlink_to("/dev/full")
    with logging(tmp_path, subprocess.DEVNULL, f"--logfile={log}", workers=2) as daemon:
        first = daemon.keep()
        until(lambda: daemon.keep() and daemon.lost() > 50)  # the line of the first one was lost long before
        log.unlink()
        until(lambda: daemon.keep() and log.exists() and any(one in log.read_text() for one in daemon.kept[1:]))
        assert "log lines were lost: No space left on device" in log.read_text()
        assert first not in log.read_text()
        daemon.stop()


def test_a_fifo_as_log_file_that_nobody_reads(tmp_path: Path) -> None:
    log = tmp_path / "log"
    os.mkfifo(log)
    with logging(tmp_path, subprocess.DEVNULL, f"--logfile={log}", workers=2) as daemon:
        daemon.make_too_much_noise()
        daemon.process.send_signal(signal.SIGUSR1)
        daemon.keep()
        with reading(os.open(log, os.O_RDONLY)) as read:
            until(lambda: any("log lines were lost" in line for line in lines(read)))
            again = daemon.keep()
            until(lambda: any(f"{again} kept" in line for line in lines(read)))
        assert daemon.stop() < 5


def test_closed_outputs_are_nobody_elses(tmp_path: Path) -> None:
    """The numbers of a closed standard output are given to the next files that are opened."""
    port = free_port()
    settings = tmp_path / "collectord.toml"
    settings.write_text(config(port, tmp_path / "root", submission="workers = 2"))
    twistd = f"{Path(sys.executable).with_name('twistd')} -n --pidfile= collectord --config {settings}"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(["sh", "-c", f"exec {twistd} >&- 2>&-"], cwd=tmp_path, env=environment) as process:
        daemon = Logging(process, port, 0)
        until(lambda: answers(daemon), 30)
        for _ in range(4):
            daemon.keep()
        assert daemon.stop() < 6
    assert set(daemon.kept) <= set(stored_crashes(tmp_path / "root"))
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b" kept: " not in path.read_bytes(), path


def test_a_log_that_cannot_be_opened(tmp_path: Path) -> None:
    twistd = [str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile=", f"--logfile={tmp_path}/no/log"]
    ran = subprocess.run(
        [*twistd, "collectord"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert ran.returncode == 1
    assert ran.stderr.decode() == f"collectord: --logfile={tmp_path}/no/log: No such file or directory\n"


def test_a_log_that_can_be_rotated_and_is_moved_away(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with logging(tmp_path, subprocess.DEVNULL, f"--logfile={log}", workers=2) as daemon:
        before = daemon.keep()
        until(lambda: before in log.read_text())
        log.rename(tmp_path / "moved")
        daemon.process.send_signal(signal.SIGUSR1)
        until(log.exists)
        after = daemon.keep()
        until(lambda: after in log.read_text())
        daemon.process.send_signal(signal.SIGUSR1)
        until((tmp_path / "log.1").exists)
        assert after in (tmp_path / "log.1").read_text()
        daemon.stop()
        assert "Server Shut Down" in log.read_text()


def test_what_libraries_say_is_in_the_log_of_workers_too(tmp_path: Path) -> None:
    rules = tmp_path / "speaking_rules.py"
    rules.write_text(
        "import logging, sys, warnings\n"
        "from collectord.throttle import Always, Result, Rule\n"
        "def heard(annotations):\n"
        "    logging.getLogger('lib').warning('by logging'); print('by print'); warnings.warn('by warnings')\n"
        "    sys.stderr.write('by stderr\\n')\n"
        "    return True\n"
        "RULES = [Rule('a', '*', heard, Result.ACCEPT)]\n"
    )
    log = tmp_path / "out"
    port = free_port()
    settings = tmp_path / "collectord.toml"
    text = config(port, tmp_path / "root", submission="workers = 2")
    settings.write_text(text + '[throttle]\nrules = "speaking_rules:RULES"\n[logging]\nformat = "json"\n')
    twistd = [
        str(Path(sys.executable).with_name("twistd")),
        "-n",
        "--pidfile=",
        "collectord",
        "--config",
        str(settings),
    ]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}"}
    with (
        log.open("wb") as out,
        subprocess.Popen(twistd, cwd=tmp_path, env=environment, stdout=out, stderr=out) as process,
    ):
        daemon = Logging(process, port, 0)
        until(lambda: answers(daemon), 30)
        daemon.keep()
        until(lambda: all(f"by {what}" in log.read_text() for what in ("logging", "print", "warnings", "stderr")))
        daemon.stop()
    assert all(line.startswith("{") for line in log.read_text().splitlines())
