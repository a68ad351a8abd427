"""
The clients of the field: a real curl, and others by the shape of what they send. Crashpad has tests of its own.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import randbytes

import pytest

from tests.support.daemon import Daemon, config, free_port
from tests.support.disk import StoredCrash, problems, stored_crashes
from tests.support.http import Part, curl, multipart, post
from tests.support.metrics import NotesCount
from tests.support.reports import crash_id_in

pytestmark = pytest.mark.e2e

TOKEN = "let me"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    workdir, port, admin = tmp_path_factory.mktemp("clients"), free_port(), free_port()
    toml = config(port, workdir / "root", submission=f'submitter_token = "{TOKEN}"', admin=admin)
    with Daemon(toml, port, workdir, env={"ADMIN": str(admin)}) as daemon:
        yield daemon
    assert problems(workdir / "root") == []
    assert "Traceback" not in daemon.log()


def kept(daemon: Daemon, crash_id: str) -> StoredCrash:
    return stored_crashes(daemon.workdir / "root")[crash_id]


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


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
@pytest.mark.parametrize(
    "begin", [b"MDMP", b"MDMP\0\xff", b"\x7fELF\0\xff"], ids=["minidump", "binary minidump", "core"]
)
def test_curl_reads_the_value_of_a_field_from_a_file(daemon: Daemon, tmp_path: Path, begin: bytes) -> None:
    """C{-F name=<file} sends neither a file name nor a type."""
    count = NotesCount(daemon)
    minidump, other, text = tmp_path / "dmp", tmp_path / "other", tmp_path / "text"
    minidump.write_bytes(b"MDMP" + randbytes(300_000))
    other.write_bytes(begin + (randbytes(100_000) if b"\0" in begin else b" in plain letters"))
    text.write_bytes("Gr\u00fc\u00dfe\r\n--\n\tMDMP".encode())
    fields = [
        f"upload_file_minidump=<{minidump}",
        f"other=<{other}",
        f"Comments=<{text}",
        f"log=<{text};type=text/plain",
    ]
    options = [option for field in fields for option in ("-F", field)]
    crash = kept(daemon, crash_id_in(curl("-F", "ProductName=Fenix", *options, daemon.url("/submit"))))
    assert crash.dumps == {"upload_file_minidump": minidump.read_bytes(), "other": other.read_bytes()}
    metadata = crash.raw_crash["metadata"]
    assert isinstance(metadata, dict)
    assert metadata["dump_checksums"] == {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in (("upload_file_minidump", minidump), ("other", other))
    }
    assert metadata["collector_notes"] == []
    words = text.read_bytes().decode()
    assert {"ProductName": "Fenix", "Comments": words, "log": words}.items() <= crash.raw_crash.items()
    count.wait_for()


GO = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789ab"
GO_BODY = (
    b'--B\r\nContent-Disposition: form-data; name="ProductName"\r\n\r\nClient\r\n'
    b'--B\r\nContent-Disposition: form-data; name="quo\\"te\\\\d"\r\n\r\nx\r\n'
    b'--B\r\nContent-Disposition: form-data; name="upload_file_minidump"\r\n\r\nMDMP\x00\xff\r\n'
    b'--B\r\nContent-Disposition: form-data; name="log file.txt"; filename="C:\\\\logs\\\\\\"a\\".txt"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\nhello\r\n"
    b'--B\r\nContent-Disposition: form-data; name="extra"\r\nContent-Type: application/json\r\n\r\n{"a":"b"}\r\n'
    b'--B\r\nContent-Disposition: form-data; name="empty"\r\n\r\n\r\n'
    b"--B--\r\n"
).replace(b"--B", f"--{GO}".encode())
"""What mime/multipart of Go 1.19.8 writes, by WriteField, CreateFormField, CreateFormFile and CreatePart."""


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_go(daemon: Daemon, chunked: bool) -> None:
    """Its C{CreateFormField} writes no type, whatever follows; quotes and backslashes in names are escaped."""
    count = NotesCount(daemon)
    headers = {"Content-Type": f"multipart/form-data; boundary={GO}", "User-Agent": "Go-http-client/1.1"}
    body = GO_BODY.replace(b"hello", b"chunked") if chunked else GO_BODY
    crash = kept(daemon, crash_id_in(post(daemon.port, body, headers, chunked=chunked)))
    attached = b"chunked" if chunked else b"hello"
    assert crash.dumps == {"upload_file_minidump": b"MDMP\x00\xff", "logfiletxt": attached}
    annotations = {"ProductName": "Client", 'quo"te\\d': "x", "a": "b", "empty": ""}
    assert annotations.items() <= crash.raw_crash.items()
    metadata = crash.raw_crash["metadata"]
    assert isinstance(metadata, dict)
    assert metadata["dumps"]["logfiletxt"]["filename"] == 'C:\\logs\\"a".txt'
    assert metadata["dump_checksums"]["upload_file_minidump"] == hashlib.sha256(b"MDMP\x00\xff").hexdigest()
    assert metadata["collector_notes"] == [
        "the file 'log file.txt' is called logfiletxt",
        "annotations came both as parts and as JSON",
    ]
    count.wait_for(renamed=1, repaired=1)
