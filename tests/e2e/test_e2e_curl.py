"""
curl posts reports of every kind of framing; what lies on disk is what was sent.
"""

import gzip
import hashlib
import shutil
import stat
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, config, free_port
from tests.support.disk import StoredCrash, problems, stored_crashes
from tests.support.http import curl
from tests.support.reports import HEADERS, Report, crash_id_in, is_whole, make_report

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("curl") is None, reason="no curl"),
]

MULTIPART = ["-H", f"Content-Type: {HEADERS['Content-Type']}"]
BIG = 3_000_000  # enough for curl to say Expect: 100-continue


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    workdir, port = tmp_path_factory.mktemp("curl"), free_port()
    with Daemon(config(port, workdir / "root"), port, workdir) as daemon:
        yield daemon
        assert daemon.stop() < 0
    assert problems(workdir / "root") == []
    assert "Traceback" not in daemon.log()


def kept(daemon: Daemon, crash_id: str) -> StoredCrash:
    return stored_crashes(daemon.workdir / "root")[crash_id]


def metadata(crash: StoredCrash) -> dict[str, object]:
    found = crash.raw_crash["metadata"]
    assert isinstance(found, dict)
    return found


def write_body(path: Path, report: Report) -> Path:
    path.write_bytes(report.body())
    return path


def test_keeps_exactly_what_was_sent(daemon: Daemon, tmp_path: Path) -> None:
    minidump, log = tmp_path / "a.dmp", tmp_path / "log"
    minidump.write_bytes(b"MDMP\0\r\n--" + bytes(range(256)) * 2000)
    log.write_bytes(b"")
    fields = ["ProductName=Fenix", "Version=1.0", "Comments=Gr\u00fc\u00dfe, \U0001f98a\r\n\tzwei", "Empty="]
    before = datetime.now(UTC)
    crash_id = crash_id_in(
        curl(
            *[argument for field in fields for argument in ("--form-string", field)],
            "-F",
            f"upload_file_minidump=@{minidump}",
            "-F",
            f"strange.name-1=@{log};type=text/plain",
            "-A",
            "curl under test",
            daemon.url("/submit?product=Fenix"),
        )
    )
    crash = kept(daemon, crash_id)
    assert crash.dumps == {"upload_file_minidump": minidump.read_bytes(), "strangename1": b""}
    raw_crash = dict(crash.raw_crash)
    found = raw_crash.pop("metadata")
    submitted = datetime.fromisoformat(str(raw_crash.pop("submitted_timestamp")))
    assert raw_crash == {
        "product": "Fenix",
        "ProductName": "Fenix",
        "Version": "1.0",
        "Comments": "Gr\u00fc\u00dfe, \U0001f98a\r\n\tzwei",
        "Empty": "",
        "uuid": crash_id,
        "version": 2,
        "legacy_processing": 0,
        "throttle_rate": 100,
        "type_tag": "bp",
    }
    assert before <= submitted <= datetime.now(UTC)
    assert submitted.utcoffset() == timedelta(0)
    assert isinstance(found, dict)
    size = found.pop("payload_size")
    assert minidump.stat().st_size < size < minidump.stat().st_size + 2000
    assert found == {
        "payload": "multipart",
        "payload_compressed": "0",
        "collector_notes": ["the file 'strange.name-1' is called strangename1"],
        "dump_checksums": {
            "upload_file_minidump": hashlib.sha256(minidump.read_bytes()).hexdigest(),
            "strangename1": hashlib.sha256(b"").hexdigest(),
        },
        "dumps": {
            "upload_file_minidump": {
                "size": minidump.stat().st_size,
                "filename": minidump.name,
                "content_type": "application/octet-stream",
            },
            "strangename1": {"size": 0, "filename": log.name, "content_type": "text/plain"},
        },
        "user_agent": "curl under test",
        "throttle_rule": "accept_everything",
    }


def test_nobody_else_can_read_it(daemon: Daemon) -> None:
    crash_id = crash_id_in(curl("-F", "ProductName=Fenix", "-F", "log=a;filename=b", daemon.url("/submit")))
    root = daemon.workdir / "root"
    [raw_crash] = root.rglob(f"{crash_id}.json")
    for path in [root, *root.rglob("*")]:
        if not path.is_symlink():
            mode = stat.S_IMODE(path.stat().st_mode)
            assert mode == (0o700 if path.is_dir() else 0o600), path
    [link] = root.glob(f"*/date/*/*/{crash_id}")
    assert link.is_symlink()
    assert link.resolve() == raw_crash.parent


@pytest.mark.parametrize("size", [5_000, BIG])
@pytest.mark.parametrize(
    "options",
    [
        [],
        ["-H", "Transfer-Encoding: chunked"],
        ["-H", "Expect: 100-continue"],
        ["-H", "Expect: 100-continue", "-H", "Transfer-Encoding: chunked"],
        ["--http1.0"],
        ["-H", "Expect:"],
    ],
    ids=" ".join,
)
def test_every_framing(daemon: Daemon, tmp_path: Path, options: list[str], size: int) -> None:
    body = write_body(tmp_path / "body", make_report("framing", size, 77))
    crash_id = crash_id_in(curl(*MULTIPART, *options, "--data-binary", f"@{body}", daemon.url("/submit")))
    crash = kept(daemon, crash_id)
    assert is_whole(crash)
    assert (metadata(crash)["payload_size"], metadata(crash)["payload_compressed"]) == (body.stat().st_size, "0")


def test_expects_to_continue(daemon: Daemon, tmp_path: Path) -> None:
    body = write_body(tmp_path / "body", make_report("continue", BIG))
    command = ["curl", "-sv", *MULTIPART, "-H", "Expect: 100-continue", "--expect100-timeout", "60"]
    ran = subprocess.run(
        [*command, "--data-binary", f"@{body}", daemon.url("/submit")], capture_output=True, check=True, timeout=30
    )
    assert ran.stderr.count(b"< HTTP/1.1 100 Continue") == 1
    assert is_whole(kept(daemon, crash_id_in((200, ran.stdout))))


@pytest.mark.parametrize("framing", [[], ["-H", "Transfer-Encoding: chunked"]], ids=["length", "chunked"])
def test_gzip(daemon: Daemon, tmp_path: Path, framing: list[str]) -> None:
    body = write_body(tmp_path / "body", make_report("gzip", 400_000))
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress(body.read_bytes()))
    options = [*MULTIPART, *framing, "-H", "Content-Encoding: gzip"]
    crash = kept(daemon, crash_id_in(curl(*options, "--data-binary", f"@{packed}", daemon.url("/submit"))))
    assert is_whole(crash)
    assert (metadata(crash)["payload_size"], metadata(crash)["payload_compressed"]) == (packed.stat().st_size, "1")


def test_a_dump_alone(daemon: Daemon) -> None:
    dump = ["-F", "upload_file_minidump=MDMP;filename=a"]
    crash = kept(daemon, crash_id_in(curl(*dump, daemon.url("/submit"))))
    assert metadata(crash)["collector_notes"] == ["the report came without annotations"]
    crash = kept(daemon, crash_id_in(curl(*dump, daemon.url("/submit?product=App&version=1.0&guid=%7B1%7D"))))
    expected = {"ProductName": "App", "Version": "1.0", "client_version": "1.0", "guid": "{1}"}
    assert expected.items() <= crash.raw_crash.items()
    assert crash.dumps == {"upload_file_minidump": b"MDMP"}


def test_two_posts_on_one_connection(daemon: Daemon, tmp_path: Path) -> None:
    one = write_body(tmp_path / "one", make_report("one", 5_000))
    two = write_body(tmp_path / "two", make_report("two", 200_000))
    verbose = ["curl", "-sv", *MULTIPART, "--data-binary", f"@{one}", daemon.url("/submit")]
    again = ["--next", "-sv", *MULTIPART, "--data-binary", f"@{two}", daemon.url("/submit")]
    ran = subprocess.run([*verbose, *again], capture_output=True, check=True, timeout=30)
    assert b"Re-using existing connection" in ran.stderr
    first, second = (kept(daemon, crash_id_in((200, line + b"\n"))) for line in ran.stdout.splitlines())
    assert is_whole(first)
    assert is_whole(second)
    assert str(first.raw_crash["Serial"]).startswith("one")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["-d", "a=b"], (400, b"Discarded=malformed_wrong_content_type")),
        (["-X", "POST", *MULTIPART], (400, b"Discarded=malformed_no_content_length")),
        (["-F", "extra={};type=application/json"], (400, b"Discarded=malformed_no_annotations")),
        (["-F", "uuid=8f63752c", "-H", "Authorization: x"], (401, b"Discarded=unauthorized_uuid")),
        (["-X", "PUT", "-d", "a=b"], (405, b"Method not allowed\n")),
    ],
    ids=["type", "empty", "annotations", "uuid", "method"],
)
def test_says_why_not(daemon: Daemon, options: list[str], expected: tuple[int, bytes]) -> None:
    before = len(stored_crashes(daemon.workdir / "root"))
    assert curl(*options, daemon.url("/submit")) == expected
    assert len(stored_crashes(daemon.workdir / "root")) == before
