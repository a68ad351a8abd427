"""
Clients of other crash SDKs send reports to a real daemon, each in its dialect; what lies on disk is what was sent.
"""

import gzip
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, config, free_port
from tests.support.disk import StoredCrash, problems, stored_crashes
from tests.support.http import curl

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("curl") is None, reason="no curl"),
]

DIALECTS = ["submit", "crashpad", "raygun", "backtrace", "bugsplat", "accelerator"]
BIG = b"MDMP" + bytes(range(256)) * 80_000  # 20 MB, so it is spilled while it comes
KEY = "0123456789abcdef"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    workdir, port = tmp_path_factory.mktemp("dialects"), free_port()
    keys = f'[[submission.dialect]]\nname = "raygun"\nkeys = {{ {KEY} = "Keyed" }}\n'
    rows = f"dialects = {json.dumps(DIALECTS)}\nmemory_bytes = 1000000\n{keys}"
    with Daemon(config(port, workdir / "root", submission=rows), port, workdir) as daemon:
        yield daemon
        assert daemon.stop() < 0
    assert problems(workdir / "root") == []
    log = daemon.log()
    assert "Traceback" not in log
    assert KEY not in log
    assert not any(KEY in path.read_text(errors="replace") for path in (workdir / "root").rglob("*.json"))


@pytest.fixture
def minidump(tmp_path: Path) -> Path:
    path = tmp_path / "a.dmp"
    path.write_bytes(BIG)
    return path


def kept(daemon: Daemon, crash_id: str) -> StoredCrash:
    return stored_crashes(daemon.workdir / "root")[crash_id]


def answered(*arguments: str, status: int = 200) -> str:
    found, body = curl(*arguments)
    assert found == status
    return body.decode()


def test_backtrace(daemon: Daemon, minidump: Path) -> None:
    url = daemon.url("/universe/token/minidump?application=App&a.b=c")
    answer = json.loads(answered("--data-binary", f"@{minidump}", "-H", "Content-Type: application/octet-stream", url))
    assert answer["response"] == "ok"
    crash = kept(daemon, answer["_rxid"])
    assert crash.dumps == {"upload_file_minidump": BIG}
    assert (crash.raw_crash["ProductName"], crash.raw_crash["a.b"]) == ("App", "c")


def test_chunked_and_gzipped(daemon: Daemon, tmp_path: Path) -> None:
    packed = tmp_path / "a.gz"
    packed.write_bytes(gzip.compress(BIG))
    headers = ["-H", "Transfer-Encoding: chunked", "-H", "Content-Encoding: gzip", "-H", "Content-Type:"]
    url = daemon.url("/post?format=minidump&token=t")
    answer = json.loads(answered("--data-binary", f"@{packed}", *headers, url))
    assert kept(daemon, answer["_rxid"]).dumps == {"upload_file_minidump": BIG}


def test_a_minidump_that_is_packed_in_its_part(daemon: Daemon, minidump: Path, tmp_path: Path) -> None:
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path, minidump.name)
    url = daemon.url("/post/bp/crash/crashpad.php?product=App&version=1.0")
    answer = json.loads(answered("-F", f"upload_file_minidump=@{packed}", "-F", "user=me", url))
    assert answer["status"] == "success"
    crash = kept(daemon, answer["crash_id"])
    assert crash.dumps == {"upload_file_minidump": BIG}
    assert crash.raw_crash["Version"] == "1.0"


def test_keys(daemon: Daemon, minidump: Path) -> None:
    answer = answered("-F", f"dump=@{minidump}", daemon.url(f"/entries/breakpad?apikey={KEY}"))
    crash = kept(daemon, answer.removeprefix("CrashID=bp-").strip())
    assert crash.raw_crash["ProductName"] == "Keyed"
    refused = answered("-F", f"dump=@{minidump}", daemon.url("/entries/breakpad?apikey=x"), status=401)
    assert refused == "Discarded=unknown_key"


def test_accelerator_and_any_path(daemon: Daemon, minidump: Path) -> None:
    assert answered("-F", "UserID=1", "-F", "CrashSignature=2|", daemon.url("/accelerator")) == "Y|"
    answer = answered("-F", "prod=App", "-F", f"upload_file_minidump=@{minidump}", daemon.url("/what/ever"))
    assert kept(daemon, answer.removeprefix("CrashID=bp-").strip()).dumps == {"upload_file_minidump": BIG}
