"""
The clients of the field: the real Crashpad handler, and others by the shape of what they send.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.crashpad import crash_under_handler
from tests.support.crashpad_database import report_ids
from tests.support.crashpad_handler import find_handler
from tests.support.daemon import Daemon, config, free_port
from tests.support.disk import StoredCrash, problems, stored_crashes
from tests.support.http import Part, multipart, post
from tests.support.reports import crash_id_in

pytestmark = pytest.mark.e2e

TOKEN = "let me"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    workdir, port = tmp_path_factory.mktemp("clients"), free_port()
    submission = f'submitter_token = "{TOKEN}"'
    with Daemon(config(port, workdir / "root", submission=submission), port, workdir) as daemon:
        yield daemon
    assert problems(workdir / "root") == []
    assert "Traceback" not in daemon.log()


def kept(daemon: Daemon, crash_id: str) -> StoredCrash:
    return stored_crashes(daemon.workdir / "root")[crash_id]


@pytest.mark.skipif(
    find_handler() is None or shutil.which("gcc") is None,
    reason="no Crashpad handler (python -m tests.support.crashpad fetches it), or no gcc",
)
@pytest.mark.parametrize("gzip", [True, False], ids=["gzip", "plain"])
def test_crashpad(daemon: Daemon, tmp_path: Path, gzip: bool) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("attached")
    database = crash_under_handler(
        daemon.url("/submit"),
        tmp_path,
        gzip=gzip,
        annotations={"prod": "Chrome_Linux", "ver": "1.2.3", "lsb-release": "Debian"},
        attachments=[notes],
    )
    [report_id] = report_ids(database)
    crash = kept(daemon, crash_id_in((200, report_id.encode())))
    assert crash.dumps["upload_file_minidump"][:4] == b"MDMP"
    assert crash.dumps.keys() - {"upload_file_minidump"} == {"notestxt"}
    assert crash.dumps["notestxt"] == b"attached"
    annotations = {
        "prod": "Chrome_Linux",
        "ver": "1.2.3",
        "ProductName": "Chrome_Linux",
        "Version": "1.2.3",
        "lsb-release": "Debian",
    }
    assert annotations.items() <= crash.raw_crash.items()
    metadata = crash.raw_crash["metadata"]
    assert isinstance(metadata, dict)
    assert metadata["payload_compressed"] == ("1" if gzip else "0")
    assert "Crashpad" in str(metadata["user_agent"])


def test_firefox(daemon: Daemon) -> None:
    extra = {"ProductName": "Firefox", "Version": "140.0", "StartupTime": 1719000000, "Addons": ["a", "b"]}
    body = multipart(
        [
            Part("extra", json.dumps(extra).encode(), "extra.json", "application/json"),
            Part("upload_file_minidump", b"MDMP1", "x.dmp", "application/vnd.tcpdump.pcap"),
            Part("memory_report", b"\x1f\x8b", "memory.json.gz", "application/gzip"),
        ],
        "----WebKit",
    )
    headers = {"Content-Type": "multipart/form-data; boundary=----WebKit", "User-Agent": "crashreporter/1.0.0"}
    crash = kept(daemon, crash_id_in(post(daemon.port, body, headers)))
    assert crash.dumps == {"upload_file_minidump": b"MDMP1", "memory_report": b"\x1f\x8b"}
    annotations = extra | {"StartupTime": "1719000000", "Addons": '["a", "b"]'}
    assert annotations.items() <= crash.raw_crash.items()
    metadata = crash.raw_crash["metadata"]
    assert isinstance(metadata, dict)
    assert (metadata["payload"], metadata["collector_notes"]) == ("json", [])


def test_breakpad(daemon: Daemon) -> None:
    body = multipart(
        [
            Part("prod", b"Client"),
            Part("ver", b"7"),
            Part("comments", b""),
            Part("stack", b"one\r\ntwo\r\n"),
            Part("upload_file_minidump", b"MDMP2", "/tmp/x.dmp", "application/octet-stream"),
        ],
        "---------------------------0123456789ABCDEF",
    )
    headers = {"Content-Type": "multipart/form-data; boundary=---------------------------0123456789ABCDEF"}
    crash = kept(daemon, crash_id_in(post(daemon.port, body, headers)))
    annotations = {
        "prod": "Client",
        "ver": "7",
        "ProductName": "Client",
        "Version": "7",
        "comments": "",
        "stack": "one\r\ntwo\r\n",
    }
    assert annotations.items() <= crash.raw_crash.items()
    assert crash.dumps == {"upload_file_minidump": b"MDMP2"}


def test_stage_submitter(daemon: Daemon) -> None:
    chosen = "8f63752c-57c6-4e5d-b2cf-cabde2160622"
    body = multipart([Part("uuid", chosen.encode()), Part("ProductName", b"Fenix"), Part("log", b"x", "log")], "b")
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    own = kept(daemon, crash_id_in(post(daemon.port, body, headers)))
    assert own.raw_crash["client_uuid"] == chosen
    refused = post(daemon.port, body, headers | {"Authorization": "Bearer let him"})
    assert (refused.status, refused.body) == (401, b"Discarded=unauthorized_uuid")
    assert chosen not in stored_crashes(daemon.workdir / "root")
    assert crash_id_in(post(daemon.port, body, headers | {"Authorization": f"Bearer {TOKEN}"})) == chosen
    crash = kept(daemon, chosen)
    assert (crash.raw_crash["uuid"], crash.dumps) == (chosen, {"log": b"x"})
    again = body.replace(b"Fenix", b"Focus")
    assert crash_id_in(post(daemon.port, again, headers | {"Authorization": f"Bearer {TOKEN}"})) == chosen
    assert kept(daemon, chosen) == crash
