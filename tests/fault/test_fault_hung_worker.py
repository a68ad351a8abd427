"""
A worker that hangs while its threads wait for a disk that hangs: it is replaced, and no stop waits for it.
"""

import os
import signal
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.support.daemon import Daemon, config, free_port
from tests.support.fusefs import can_mount_fuse, mounted
from tests.support.http import post
from tests.support.process import children
from tests.support.reports import HEADERS, crash_id_in, harm, make_report
from tests.support.wait import until

pytestmark = [
    pytest.mark.fault,
    pytest.mark.skipif(can_mount_fuse() != "", reason=can_mount_fuse()),
]


def metric(admin: int, name: str) -> float:
    with urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"collectord_{name} "))


def test_it_is_replaced_and_no_stop_waits_for_it(tmp_path: Path) -> None:
    behind, second = tmp_path / "behind", tmp_path / "second"
    behind.mkdir()
    (tmp_path / "mount").mkdir()
    port, admin = free_port(), free_port()
    acknowledged: dict[str, str] = {}

    def submit(count: int) -> None:
        for _ in range(count):
            report = make_report(f"r-{len(acknowledged)}", 1000)
            acknowledged[crash_id_in(post(port, report.body(), HEADERS, timeout=60))] = report.annotations["Serial"]

    with mounted(behind, tmp_path / "mount") as mount:
        toml = config(
            port,
            mount.path / "in",
            second,
            admin=admin,
            submission="workers = 2\nworker_timeout_s = 3.0",
            storage="timeout_s = 1.0",
        )
        with Daemon(toml, port, tmp_path / "work") as up:
            until(lambda: metric(admin, "workers") == 2, 60)
            submit(4)
            mount.fault("hang all")
            submit(4)
            hung = children(up.pid)[0]  # it has tried the store, as both do each second
            os.kill(hung, signal.SIGSTOP)
            until(lambda: f"(pid {hung}) died" in up.log(), 60)
            until(lambda: metric(admin, "workers") == 2, 60)
            submit(4)
            for pid in children(up.pid):
                os.kill(pid, signal.SIGSTOP)
            began = time.monotonic()
            os.kill(up.pid, signal.SIGTERM)
            assert up.wait(30) == -signal.SIGTERM
            assert time.monotonic() - began < 15
            mount.heal()
            until(lambda: not Path(f"/proc/{hung}").exists(), 30)
        assert "Traceback" not in up.log()
    assert list(harm(acknowledged, behind / "in", second)) == []
