"""
A disk that fills up: attachments are left out, then crashes like others, then nothing is taken; all that is told, and
what was acknowledged stays as it is.
"""

import json
import os
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.support.daemon import Daemon, config, free_port
from tests.support.disk import problems, stored_crashes
from tests.support.http import curl, post
from tests.support.mounts import can_mount, loop_ext4
from tests.support.reports import HEADERS, Report, crash_id_in, make_report
from tests.support.wait import until

pytestmark = [pytest.mark.fault, pytest.mark.skipif(can_mount() != "", reason=can_mount())]

MIB = 2**20


def report(serial: str) -> Report:
    """With a minidump and an attachment."""
    made = make_report(serial, 1000)
    return Report(made.annotations, {**made.dumps, "log": b"no minidump"})


def heartbeat(daemon: Daemon) -> tuple[int, dict[str, Any]]:
    status, body = curl(daemon.url("/__heartbeat__"))
    return status, json.loads(body)


def leaves_out(admin: int, what: str) -> bool:
    metrics = curl(f"http://127.0.0.1:{admin}/metrics")[1].decode()
    return f'collectord_disk_pressure{{left_out="{what}"}} 1.0' in metrics


def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    with loop_ext4(tmp_path / "disk", 64 * MIB) as disk:
        root, ballast = disk.path / "root", disk.path / "ballast"
        port, admin = free_port(), free_port()
        marks = f"low_free_bytes = {30 * MIB}"
        rows = 'patience_s = 0\ndialects = ["submit", "sentry"]'
        toml = config(port, root, submission=rows, storage=marks, admin=admin)
        toml = toml.replace("min_free_bytes = 0", f"min_free_bytes = {10 * MIB}")
        kept: dict[str, set[str]] = {}

        def send(serial: str) -> set[str]:
            crash_id = crash_id_in(post(port, report(serial).body(), HEADERS))
            kept[crash_id] = set(stored_crashes(root)[crash_id].dumps)
            return kept[crash_id]

        def leave_free(size: int) -> None:
            ballast.unlink(missing_ok=True)
            found = os.statvfs(disk.path)
            with ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, found.f_bavail * found.f_frsize - size)

        with Daemon(toml, port, tmp_path / "work") as daemon:
            assert send("whole") == {"upload_file_minidump", "log"}
            assert heartbeat(daemon)[1]["status"] == "ok"

            leave_free(25 * MIB)
            until(lambda: heartbeat(daemon)[1]["status"] == "disk pressure")
            assert "attachments are left out" in heartbeat(daemon)[1]["pressure"]
            assert send("light") == {"upload_file_minidump"}
            notes = [crash.raw_crash["metadata"]["collector_notes"] for crash in stored_crashes(root).values()]  # type: ignore[index]
            assert sorted(notes) == [[], ["log: 11 bytes, left out: the disk is nearly full"]]
            sent = ['{"type":"event"}', '{"release":"1.0"}', '{"type":"attachment","filename":"log"}', "no minidump"]
            answer = post(port, "\n".join(["{}", *sent, ""]).encode(), {}, path="/api/7/envelope/")
            event = str(UUID(json.loads(answer.body)["id"]))
            kept[event] = {"event"}
            assert set(stored_crashes(root)[event].dumps) == {"event"}
            assert leaves_out(admin, "attachments")
            assert not leaves_out(admin, "equal crashes")
            page = json.loads(curl(f"http://127.0.0.1:{admin}/overview.json")[1])
            assert [trouble["where"] for trouble in page["troubles"]] == ["Disk pressure"]

            leave_free(15 * MIB)
            until(lambda: "only the first" in heartbeat(daemon)[1].get("pressure", ""))
            assert send("rare") == {"upload_file_minidump"}
            bug = {"ProductName": "Fenix", "JavaStackTrace": "java.lang.Error: x\n\tat org.a.B.c(B.java:1)"}
            kept[crash_id_in(post(port, Report({**bug, "Serial": "1"}, {}).body(), HEADERS))] = set()
            answer = post(port, Report({**bug, "Serial": "2"}, {}).body(), HEADERS)
            assert (answer.status, answer.body) == (200, b"Discarded=rule_disk_pressure")
            assert leaves_out(admin, "equal crashes")

            leave_free(9 * MIB)
            until(lambda: heartbeat(daemon)[0] == 503)
            answer = post(port, report("lost").body(), HEADERS)
            assert (answer.status, answer.body) == (503, b"Discarded=nowhere_to_save")

            ballast.unlink()
            until(lambda: heartbeat(daemon)[1]["status"] == "ok")
            assert send("whole again") == {"upload_file_minidump", "log"}
            daemon.stop()
            log = daemon.log()
            assert log.count("DISK PRESSURE: ") == 2
            assert "new crashes are kept whole again" in log
        assert {crash_id: set(crash.dumps) for crash_id, crash in stored_crashes(root).items()} == kept
        assert problems(root) == []
