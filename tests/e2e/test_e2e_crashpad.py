"""
Real programs crash under the real Crashpad handlers of Chromium and of Sentry, and each minidump arrives whole.

Crashpad sends annotations first, then files, both sorted by name: most attachments come before the minidump.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.crashpad import crash_under_handler
from tests.support.crashpad_database import report_ids
from tests.support.crashpad_handler import HANDLERS
from tests.support.daemon import Daemon, config, free_port
from tests.support.disk import StoredCrash, problems, stored_crashes
from tests.support.metrics import NotesCount
from tests.support.reports import crash_id_in

pytestmark = pytest.mark.e2e

MINIDUMP = "upload_file_minidump"
BIG = 30_000_000  # more than max_body_bytes
MANY = {f"key-{number:04}": f"value {number}" for number in range(1100)}
VERSION = "version: the collector's own name, kept as client_version"
"""The note on the version that each Crashpad sends in the query of the URL."""

ROOMY = f"max_body_bytes = {2 * BIG}"
NARROW = "max_parts = 1000"


@pytest.fixture(scope="module", params=HANDLERS)
def handler(request: pytest.FixtureRequest) -> Path:
    found = HANDLERS[request.param]()
    if found is None or shutil.which("gcc") is None:
        pytest.skip("no such Crashpad handler (tests/support/crashpad_handler.py says where they come from), or no gcc")
    return found


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """With the default limits."""
    yield from running(tmp_path_factory.mktemp("crashpad"), "")


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    yield from running(tmp_path_factory.mktemp("roomy"), ROOMY)


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """That keeps fewer parts than L{MANY} are."""
    yield from running(tmp_path_factory.mktemp("narrow"), NARROW)


def running(workdir: Path, submission: str) -> Iterator[Daemon]:
    port, admin = free_port(), free_port()
    toml = config(port, workdir / "root", submission=submission, admin=admin)
    with Daemon(toml, port, workdir, env={"ADMIN": str(admin)}) as daemon:
        yield daemon
    assert problems(workdir / "root") == []
    assert "Traceback" not in daemon.log()


def kept(daemon: Daemon, database: Path) -> StoredCrash:
    """The only crash of C{database}, whose minidump has arrived whole."""
    [report_id], [minidump] = report_ids(database), database.glob("completed/*.dmp")
    crash = stored_crashes(daemon.workdir / "root")[crash_id_in((200, report_id.encode()))]
    content = minidump.read_bytes()
    assert content[:4] == b"MDMP"
    assert crash.dumps[MINIDUMP] == content
    metadata = metadata_of(crash)
    assert metadata["dump_checksums"] == {
        name: hashlib.sha256(content).hexdigest() for name, content in crash.dumps.items()
    }
    assert metadata["dumps"][MINIDUMP]["filename"] == minidump.name
    return crash


def metadata_of(crash: StoredCrash) -> Mapping[str, Any]:
    metadata = crash.raw_crash["metadata"]
    assert isinstance(metadata, dict)
    return metadata


def notes_of(crash: StoredCrash) -> list[str]:
    notes: list[str] = metadata_of(crash)["collector_notes"]
    return notes


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("gzip", [True, False], ids=["gzip", "plain"])
def test_arrives_whole(handler: Path, daemon: Daemon, tmp_path: Path, gzip: bool) -> None:
    count = NotesCount(daemon)
    database = crash_under_handler(
        handler,
        daemon.url("/submit"),
        tmp_path,
        gzip=gzip,
        annotations={"prod": "Chrome_Linux", "ver": "1.2.3", "lsb-release": "Debian", "empty": "", "lines": "1\r\n\n2"},
        attachments=[write(tmp_path / "0.bin", bytes(range(256))), write(tmp_path / "notes", b"\r\n--attached")],
    )
    crash = kept(daemon, database)
    minidump = crash.dumps[MINIDUMP]
    assert crash.dumps == {MINIDUMP: minidump, "0bin": bytes(range(256)), "notes": b"\r\n--attached"}
    annotations = {
        "prod": "Chrome_Linux",
        "ver": "1.2.3",
        "ProductName": "Chrome_Linux",
        "Version": "1.2.3",
        "lsb-release": "Debian",
        "empty": "",
        "lines": "1\r\n\n2",
    }
    assert annotations.items() <= crash.raw_crash.items()
    assert metadata_of(crash)["payload_compressed"] == ("1" if gzip else "0")
    assert "Crashpad" in str(metadata_of(crash)["user_agent"])
    assert notes_of(crash) == ["the file '0.bin' is called 0bin", VERSION]
    count.wait_for(renamed=2)


def test_crashes_of_one_bug_have_one_fingerprint(handler: Path, daemon: Daemon, tmp_path: Path) -> None:
    known = []
    for number, other_bug in enumerate([False, False, True]):
        workdir = tmp_path / str(number)
        workdir.mkdir()
        annotations = {"prod": "App", "ver": str(number)}
        database = crash_under_handler(
            handler, daemon.url("/submit"), workdir, annotations=annotations, other_bug=other_bug
        )
        known.append(metadata_of(kept(daemon, database)))
    first, again, other = known
    named = ("fingerprint", "crash_place", "module", "module_offset")
    assert [first[name] for name in named] == [again[name] for name in named]
    assert re.fullmatch(r"1:[0-9a-f]{16}", first["fingerprint"])
    assert first["crash_place"].startswith(f"{first['cpu']} 0xb crash_client ")
    assert first["crash_place"].endswith(f" {first['module_offset']}")
    assert (first["module"], first["exception_code"], first["exception_name"]) == ("crash_client", "0xb", "SIGSEGV")
    assert first["os"].startswith("Linux ")
    assert 0 <= first["uptime_s"] < 60
    assert other["module"] == "crash_client"
    assert not {first["fingerprint"], first["crash_place"]} & {other["fingerprint"], other["crash_place"]}


def test_a_large_attachment_costs_no_minidump(handler: Path, daemon: Daemon, tmp_path: Path) -> None:
    count = NotesCount(daemon)
    database = crash_under_handler(
        handler,
        daemon.url("/submit"),
        tmp_path,
        gzip=False,
        annotations={"prod": "App", "ver": "1"},
        attachments=[
            write(tmp_path / "core", os.urandom(BIG)),
            write(tmp_path / "log", b"before"),
            write(tmp_path / "vlog", b"behind"),
        ],
    )
    crash = kept(daemon, database)
    assert crash.dumps == {MINIDUMP: crash.dumps[MINIDUMP], "log": b"before", "vlog": b"behind"}
    assert notes_of(crash) == [f"core: {BIG} bytes, left out: the report is too large", VERSION]
    count.wait_for(left_out=1, renamed=1)


def test_more_annotations_than_may_be_cost_no_minidump(handler: Path, narrow: Daemon, tmp_path: Path) -> None:
    count = NotesCount(narrow)
    annotations = {"prod": "App", "ver": "1.0"} | MANY
    attachments = [write(tmp_path / "log", b"attached")]
    database = crash_under_handler(
        handler, narrow.url("/submit"), tmp_path, annotations=annotations, attachments=attachments
    )
    crash = kept(narrow, database)
    assert crash.dumps.keys() == {MINIDUMP}
    sent = dict(sorted((annotations | {"guid": crash.raw_crash["guid"]}).items())[:1000])
    assert sent.items() <= crash.raw_crash.items()
    # These come behind the keys, and so are left out; but the query of the URL has them, too.
    assert not {"prod", "ver", "key-0999"} & crash.raw_crash.keys()
    assert (crash.raw_crash["ProductName"], crash.raw_crash["Version"]) == ("App", "1.0")
    parts = len(annotations) + 3  # the guid, the attachment, the minidump
    named = ", ".join(sorted(MANY)[-101:-81])
    assert notes_of(crash) == [
        f"there are {parts} parts; after 1000 only the minidump is kept, and these are left out: {named} …",
        VERSION,
    ]
    count.wait_for(left_out=1, renamed=1)


def test_with_room_all_of_it_is_kept(handler: Path, roomy: Daemon, tmp_path: Path) -> None:
    count = NotesCount(roomy)
    attached = os.urandom(BIG)
    database = crash_under_handler(
        handler,
        roomy.url("/submit"),
        tmp_path,
        annotations={"prod": "App", "ver": "1.0"} | MANY,
        attachments=[write(tmp_path / "core", attached), write(tmp_path / "vlog", b"behind")],
    )
    crash = kept(roomy, database)
    assert crash.dumps.keys() == {MINIDUMP, "core", "vlog"}
    assert hashlib.sha256(crash.dumps["core"]).digest() == hashlib.sha256(attached).digest()
    assert crash.dumps["vlog"] == b"behind"
    assert ({"prod": "App", "ver": "1.0"} | MANY).items() <= crash.raw_crash.items()
    assert notes_of(crash) == [VERSION]
    count.wait_for(renamed=1)


def test_annotations_by_names_of_the_collector(handler: Path, daemon: Daemon, tmp_path: Path) -> None:
    count = NotesCount(daemon)
    chosen = "8f63752c-57c6-4e5d-b2cf-cabde2160622"
    annotations = {"uuid": chosen, "product": "App", "version": "2.1", "type_tag": "xx", "metadata": "{}"}
    database = crash_under_handler(handler, daemon.url("/submit"), tmp_path, annotations=annotations)
    crash = kept(daemon, database)
    expected = {
        "client_uuid": chosen,
        "product": "App",
        "ProductName": "App",
        "client_version": "2.1",
        "Version": "2.1",
        "version": 2,
        "client_type_tag": "xx",
        "type_tag": "bp",
        "client_metadata": "{}",
    }
    assert expected.items() <= crash.raw_crash.items()
    assert crash.raw_crash["uuid"] != chosen
    assert notes_of(crash) == [
        f"{name}: the collector's own name, kept as client_{name}"
        for name in ("metadata", "type_tag", "uuid", "version")
    ]
    count.wait_for(renamed=4)
