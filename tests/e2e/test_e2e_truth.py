"""
A daemon whose stores take nothing says so, everywhere and at once; what can still be read of them is told.
"""

import json
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.test_e2e_command import collectord
from tests.support.daemon import Daemon, config, free_port
from tests.support.http import curl, post
from tests.support.mounts import can_mount, tmpfs
from tests.support.reports import HEADERS, crash_id_in, make_report
from tests.support.wait import until

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(can_mount() != "", reason=can_mount())]

MIB = 2**20


@frozen
class Rig:
    """A daemon with two stores on small disks, that keeps what it takes."""

    daemon: Daemon
    admin: int
    disks: list[Path]

    def fill(self, disk: Path) -> None:
        with suppress(OSError), (disk / "ballast").open("wb") as ballast:
            while True:
                ballast.write(bytes(4096))
                ballast.flush()

    def lbheartbeat(self) -> int:
        return curl(self.daemon.url("/__lbheartbeat__"))[0]

    def heartbeat(self) -> tuple[int, Any]:
        status, body = curl(self.daemon.url("/__heartbeat__"))
        return status, json.loads(body)["status"]

    def of_admin(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}", timeout=5) as response:
            text: str = response.read().decode()
            return text

    def metric(self, name: str) -> dict[str, float]:
        """By store."""
        return {
            Path(sample.labels.get("store", "")).parent.name: sample.value
            for family in text_string_to_metric_families(self.of_admin("/metrics"))
            for sample in family.samples
            if sample.name == f"collectord_{name}"
        }


@pytest.fixture(params=[1, 2])
def rig(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Rig]:
    port, admin = free_port(), free_port()
    with tmpfs(tmp_path / "one", MIB) as one, tmpfs(tmp_path / "two", MIB) as two:
        moves = "[crashmover]\n[[crashmover.destination]]\ntype = 'filesystem'\nroot = '/proc/nowhere'\n"
        submission = f"workers = {request.param}\npatience_s = 5"
        toml = config(port, one / "root", two / "root", submission=submission, moves=True, admin=admin)
        with Daemon(f"{toml}\n{moves}", port, tmp_path / "daemon") as daemon:
            yield Rig(daemon, admin, [one, two])


def test_from_well_to_lost_and_back(rig: Rig) -> None:
    one, two = rig.disks
    crash_id_in(post(rig.daemon.port, make_report("kept", 1000).body(), HEADERS))
    until(lambda: rig.metric("backlog_crashes") == {"one": 1, "two": 0}, 20)
    assert (rig.lbheartbeat(), rig.metric("losing_crashes")) == (200, {"": 0})

    # One is full: that is told, and reports are welcome.
    rig.fill(one)
    until(lambda: rig.metric("store_well") == {"one": 0, "two": 1}, 20)
    assert rig.heartbeat() == (503, "error")
    assert rig.lbheartbeat() == 200
    crash_id_in(post(rig.daemon.port, make_report("kept, too", 1000).body(), HEADERS))
    assert rig.metric("store_free_bytes")["one"] == 0
    assert rig.metric("backlog_crashes")["one"] == 1
    assert rig.metric("quarantine_crashes") == {"one": 0, "two": 0}
    assert rig.metric("backlog_oldest_age_seconds")["one"] > 0

    # Both are: no crash need come for that to be known.
    rig.fill(two)
    until(lambda: rig.lbheartbeat() == 503, 3)
    until(lambda: rig.metric("losing_crashes")[""] > 0, 3)
    assert rig.heartbeat() == (503, "CRASHES ARE BEING LOST")
    until(lambda: "CRASHES ARE BEING LOST" in rig.of_admin("/"), 3)
    assert post(rig.daemon.port, make_report("lost", 1000).body(), HEADERS, timeout=40).status == 503
    until(lambda: json.loads(rig.of_admin("/overview.json"))["loss"]["refused"] == 1, 5)
    ran = collectord("status", "--url", f"http://127.0.0.1:{rig.admin}")
    assert ran.status == 1
    assert ran.stdout.startswith("CRASHES ARE BEING LOST\nNo store can keep a crash since ")
    assert "1 report was answered 503" in ran.stdout
    until(lambda: rig.metric("store_free_bytes") == {"one": 0, "two": 0}, 20)
    until(lambda: rig.metric("backlog_crashes") == {"one": 1, "two": 1}, 30)

    (two / "ballast").unlink()
    until(lambda: rig.lbheartbeat() == 200, 3)
    until(lambda: rig.metric("losing_crashes") == {"": 0}, 5)
    crash_id_in(post(rig.daemon.port, make_report("kept again", 1000).body(), HEADERS))
    until(lambda: "reports answered 503 meanwhile: 1" in rig.daemon.log(), 5)
    assert rig.daemon.log().count("CRASHES ARE BEING LOST: no store takes any") == 1
    assert "Traceback" not in rig.daemon.log()


def test_a_start_with_nothing_but_full_stores(tmp_path: Path) -> None:
    port = free_port()
    with tmpfs(tmp_path / "one", MIB) as one:
        Rig(Daemon("", 0, tmp_path), 0, []).fill(one)
        with Daemon(config(port, one / "root"), port, tmp_path / "daemon") as daemon:
            assert curl(daemon.url("/__lbheartbeat__")) == (503, b"no store takes crashes\n")
