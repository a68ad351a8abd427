"""
The built-in dialects, by requests as their clients send them.
"""

import gzip

import pytest

from collectord.dialects.load import load_dialects
from collectord.throttle.results import Result
from collectord.throttle.rules import Verdict
from tests.support.cases import for_each
from tests.unit.intake.parts import annotation, body, content_of, dump, result_of
from tests.unit.web.publicsite import CRASH_ID, KEPT, NewRig, Rig, post

ALL = load_dialects(["submit", "crashpad", "raygun", "backtrace", "bugsplat", "accelerator"], [])
MINIDUMP = b"MDMP" + b"x" * 500


@pytest.fixture
def rig(new_rig: NewRig) -> Rig:
    return new_rig(*ALL)


def ask(
    rig: Rig, path: str, content: bytes, content_type: bytes | None = b"multipart/form-data; boundary=xyzzy"
) -> bytes:
    client = rig.connect()
    client.send(post(content, path=path.encode(), content_type=content_type))
    assert client.response.status == 200
    return client.response.body


def kept(rig: Rig) -> tuple[dict[str, str], dict[str, bytes]]:
    """The annotations of the only crash, and its dumps."""
    [crash] = rig.store.kept.crashes.values()
    annotations = {name: value for name, value in crash.raw_crash.items() if isinstance(value, str)}
    return annotations, {dump.name: result_of(content_of(dump)) for dump in crash.dumps}


@for_each("path", ["/", "/1127/submit", "/crashreports?a=b", "/a/b/c/d.php"])
def test_any_path(new_rig: NewRig, path: str) -> None:
    rig = new_rig(*ALL)
    assert ask(rig, path, body(annotation(b"_productName", b"App"), dump(b"upload_file_minidump"))) == KEPT
    assert kept(rig)[0]["_productName"] == "App"


def test_raygun(rig: Rig) -> None:
    assert ask(rig, "/entries/breakpad?apikey=k3y", body(annotation(b"prod", b"Electron"), dump(b"any"))) == KEPT
    annotations, dumps = kept(rig)
    assert dumps == {"upload_file_minidump": b"MDMP"}
    assert "k3y" not in str(annotations)


BACKTRACE = b'{"response":"ok","_rxid":"%s"}' % CRASH_ID.encode()


@for_each(
    "path",
    [
        "/uni/t0ken/minidump?application=App&application.version=1.2",
        "/post?format=minidump&token=t0ken&application=App&application.version=1.2",
    ],
)
@for_each(
    ("content", "content_type"),
    [(MINIDUMP, None), (MINIDUMP, b"application/octet-stream"), (gzip.compress(MINIDUMP), None)],
)
def test_backtrace_takes_a_minidump_alone(
    new_rig: NewRig, path: str, content: bytes, content_type: bytes | None
) -> None:
    rig = new_rig(*ALL)
    assert ask(rig, path, content, content_type) == BACKTRACE
    annotations, dumps = kept(rig)
    assert dumps == {"upload_file_minidump": MINIDUMP}
    assert (annotations["ProductName"], annotations["Version"]) == ("App", "1.2")
    assert "t0ken" not in str(annotations)


def test_backtrace_takes_a_form(rig: Rig) -> None:
    form = body(annotation(b"application", b"App"), annotation(b"version", b"3"), dump(b"upload_file_minidump"))
    assert ask(rig, "/uni/t0ken/minidump", form) == BACKTRACE
    annotations, _ = kept(rig)
    assert (annotations["ProductName"], annotations["BacktraceUniverse"]) == ("App", "uni")


def test_what_backtrace_is_answered_else(rig: Rig) -> None:
    rig.rule = Verdict(Result.REJECT, "some_rule", 100)
    assert ask(rig, "/uni/t/minidump", MINIDUMP, None) == b'{"response":"ok","discarded":"rule_some_rule"}'
    client = rig.connect()
    client.send(post(b"", path=b"/uni/t/minidump", content_type=None))
    response = client.response
    assert (response.status, response.headers["content-type"]) == (400, "application/json")
    assert response.body == b'{"response":"error","error":{"message":"malformed_no_content_length"}}'


@for_each(
    ("path", "parts"),
    [
        (
            "/post/bp/crash/postBP.php",
            [annotation(b"prod", b"App"), annotation(b"ver", b"1"), dump(b"upload_file_minidump", MINIDUMP)],
        ),
        ("/post/bp/crash/crashpad.php?database=d&product=App&version=1", [dump(b"upload_file_minidump", MINIDUMP)]),
        (
            "/post/bp/crash/crashpad.php",
            [annotation(b"product", b"App"), annotation(b"version", b"1"), dump(b"f", gzip.compress(MINIDUMP))],
        ),
    ],
)
def test_bugsplat(new_rig: NewRig, path: str, parts: list[bytes]) -> None:
    rig = new_rig(*ALL)
    assert ask(rig, path, body(*parts)) == b'{"status":"success","crash_id":"%s"}' % CRASH_ID.encode()
    annotations, dumps = kept(rig)
    assert (annotations["ProductName"], annotations["Version"]) == ("App", "1")
    assert dumps == {"upload_file_minidump": MINIDUMP}


def test_accelerator_asks_first(rig: Rig) -> None:
    fields = [annotation(b"UserID", b"7"), annotation(b"ExtensionVersion", b"2.5"), annotation(b"ServerID", b"s")]
    assert ask(rig, "/accelerator", body(*fields, annotation(b"CrashSignature", b"2|1|"))) == b"Y|"
    assert rig.store.kept.crashes == {}
    files = [dump(b"upload_file_minidump", MINIDUMP), dump(b"upload_file_metadata", b"meta")]
    assert ask(rig, "/accelerator", body(*fields, annotation(b"GameDirectory", b"tf"), *files)) == KEPT
    annotations, dumps = kept(rig)
    assert (annotations["ProductName"], annotations["Version"]) == ("tf", "2.5")
    assert dumps == {"upload_file_minidump": MINIDUMP, "upload_file_metadata": b"meta"}
