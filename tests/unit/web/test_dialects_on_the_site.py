"""
Rows of the table of dialects, from the request to the answer and to what is kept.
"""

import pytest

from collectord.dialects.load import SUBMIT
from collectord.errors import AllStoresFailed
from collectord.intake import completing
from collectord.metrics import REGISTRY
from collectord.throttle.results import Result
from collectord.throttle.rules import Verdict
from tests.support.cases import for_each
from tests.unit.dialects.rows import row
from tests.unit.intake.parts import LogRecorder, annotation, body, content_of, dump, result_of
from tests.unit.web.publicsite import CRASH_ID, KEPT, REPORT, NewRig, Rig, checked, post

KEYED = row(
    'path = "/api/{project}/crash"\n'
    'key = ["query:api_key", "header:X-Key"]\n'
    'keys = { secret = "App" }\n'
    'annotations = { Project = ["path:project"], Channel = ["query:c", "field:channel"], Version = ["field:v"] }\n'
    'keep_query = ["c", "api_key"]\n'
    'minidump = ["the_dump", "MDMP"]\n'
    'answer.kept = \'{"id":"{hex}"}\'\n'
    'answer.rejected = \'{"rejected":"{rule}"}\'\n'
    'answer.refused = \'{"error":"{reason}"}\'\n'
    'answer.type = "application/json"\n'
)


@pytest.fixture
def keyed(new_rig: NewRig) -> Rig:
    return new_rig(KEYED, SUBMIT)


def ask(rig: Rig, path: bytes, *parts: bytes) -> tuple[int, str, bytes]:
    client = rig.connect()
    client.send(post(body(*parts), path=path))
    response = client.response
    return response.status, response.headers["content-type"], response.body


def unknown_keys() -> float:
    return REGISTRY.get_sample_value("collectord_unknown_keys_total", {"dialect": "some"}) or 0


def test_what_is_kept(keyed: Rig) -> None:
    answer = ask(keyed, b"/api/7/crash/?api_key=secret&x=1&c=beta", annotation(b"v", b"1.0"), dump(b"the_dump"))
    assert answer == (200, "application/json", b'{"id":"%s"}' % CRASH_ID.replace("-", "").encode())
    raw_crash = dict(keyed.crash.raw_crash)
    assert (raw_crash["ProductName"], raw_crash["Version"], raw_crash["Project"]) == ("App", "1.0", "7")
    assert (raw_crash["Channel"], raw_crash["c"], raw_crash["v"]) == ("beta", "beta", "1.0")
    assert "x" not in raw_crash
    assert "secret" not in str(raw_crash)
    [minidump] = keyed.crash.dumps
    assert (minidump.name, result_of(content_of(minidump))) == ("upload_file_minidump", b"MDMP")


@for_each(
    ("names", "expected"),
    [
        ([b"the_dump", b"other"], ["upload_file_minidump", "other"]),
        ([b"log", b"other"], ["upload_file_minidump", "other"]),  # by its first bytes
        ([b"the_dump", b"upload_file_minidump"], ["the_dump", "upload_file_minidump"]),
    ],
)
def test_the_name_of_the_minidump(new_rig: NewRig, names: list[bytes], expected: list[str]) -> None:
    rig = new_rig(KEYED)
    ask(rig, b"/api/7/crash?api_key=secret", annotation(b"a"), *(dump(name) for name in names))
    assert [each.name for each in rig.crash.dumps] == expected


def test_what_the_client_calls_its_product_counts_less_than_the_key(keyed: Rig) -> None:
    ask(keyed, b"/api/7/crash?api_key=secret", annotation(b"ProductName", b"Mine"), annotation(b"Version", b"2"))
    assert (keyed.crash.raw_crash["ProductName"], keyed.crash.raw_crash["Version"]) == ("App", "2")
    assert "ProductName: came with another value" in str(keyed.crash.raw_crash["metadata"])


@for_each("path", [b"/api/7/crash?api_key=wrong", b"/api/7/crash"])
def test_an_unknown_key(new_rig: NewRig, path: bytes) -> None:
    rig, before = new_rig(KEYED), unknown_keys()
    client = rig.connect()
    client.send(post(REPORT, path=path)[:300])  # before the body has come
    response = client.response
    assert (response.status, response.body) == (401, b'{"error":"unknown_key"}')
    assert rig.store.kept.crashes == {}
    assert unknown_keys() == before + 1


def test_no_key_is_logged(keyed: Rig, log: LogRecorder) -> None:
    ask(keyed, b"/api/7/crash?api_key=secret", dump(b"the_dump"))
    ask(keyed, b"/api/7/crash?api_key=secret2", dump(b"the_dump"))
    assert log.events
    assert "secret" not in str(log.events)


@for_each("method", [b"HEAD", b"GET", b"OPTIONS", b"PUT"])
def test_no_key_is_logged_of_what_is_no_report(keyed: Rig, log: LogRecorder, method: bytes) -> None:
    client = keyed.connect()
    client.send(post(b"", path=b"/api/7/crash?api_key=secret", length=False).replace(b"POST", method, 1))
    assert client.received.startswith(b"HTTP/1.1 405 ")
    assert client.received.endswith(b"\r\n\r\n") == (method == b"HEAD")
    assert "secret" not in str(log.events)


def test_answers_of_each_kind(keyed: Rig) -> None:
    assert ask(keyed, b"/api/7/crash?api_key=secret")[::2] == (400, b'{"error":"malformed_no_annotations"}')
    keyed.rule = Verdict(Result.REJECT, "some_rule", 100)
    assert ask(keyed, b"/api/7/crash?api_key=secret", dump(b"d"))[::2] == (200, b'{"rejected":"some_rule"}')
    assert keyed.ask(post(REPORT)).body == b"Discarded=rule_some_rule"


def test_who_has_a_key_is_no_relay(new_rig: NewRig) -> None:
    rig = new_rig(row('path = "/a"\nkey = ["basic"]\nkeys = { good = "" }'))
    report = body(annotation(b"uuid", b"x"), dump(b"d"))
    client = rig.connect()
    client.send(post(report, b"Authorization: Basic Z29vZDo=", path=b"/a"))
    assert client.response.status == 200
    assert rig.crash.raw_crash["client_uuid"] == "x"


@for_each(
    ("no_dump", "status", "reason"),
    [('"keep"', 200, KEPT), ('"refuse"', 400, b"Discarded=malformed_no_dump"), ('"answer"', 200, b"Y|")],
)
def test_without_a_dump(new_rig: NewRig, no_dump: str, status: int, reason: bytes) -> None:
    rig = new_rig(row(f'path = "/a"\nno_dump = {no_dump}\nanswer.no_dump = "Y|"'))
    assert ask(rig, b"/a", annotation(b"a"))[::2] == (status, reason)
    assert len(rig.store.kept.crashes) == (reason == KEPT)
    assert ask(rig, b"/a", annotation(b"a"), dump(b"d"))[::2] == (200, KEPT)


def test_nowhere_to_save_closes_the_connection(new_rig: NewRig) -> None:
    rig = new_rig(row('path = "/a"\nunavailable = "close"'))
    rig.store.error = AllStoresFailed("all full")
    client = rig.connect()
    client.send(post(REPORT, path=b"/a"))
    assert client.received == b""
    assert client.closed


def test_an_answer_before_it_is_not_lost(new_rig: NewRig) -> None:
    rig = new_rig(row('path = "/a"\nunavailable = "close"'))
    rig.store.waits = True
    client = rig.connect()
    client.send(post(REPORT, path=b"/a"))
    client.send(post(REPORT, path=b"/a"))
    rig.store.saving[0][1].callback(None)
    rig.store.error = AllStoresFailed("all full")
    rig.store.saving[1][1].callback(None)
    assert checked(client).body == KEPT
    assert client.closed


# ——— browsers ———

ORIGINS = row('path = "/a"\ncors = ["https://app.example"]')


def headers(rig: Rig, method: bytes, *sent: bytes, path: bytes = b"/a") -> tuple[int, dict[str, str]]:
    client = rig.connect()
    client.send(post(REPORT if method == b"POST" else b"", *sent, path=path).replace(b"POST", method, 1))
    response = client.response
    return response.status, {
        k: v for k, v in response.headers.items() if k.startswith("access-control") or k == "allow"
    }


ALLOWED = {
    "access-control-allow-origin": "https://app.example",
    "access-control-allow-credentials": "true",
}


def test_a_page_may_send_and_read(new_rig: NewRig) -> None:
    rig, origin = new_rig(ORIGINS), b"Origin: https://app.example"
    assert headers(rig, b"POST", origin) == (200, ALLOWED)
    status, found = headers(rig, b"OPTIONS", origin, b"Access-Control-Request-Headers: content-encoding")
    assert status == 200
    assert found == {
        **ALLOWED,
        "access-control-allow-methods": "POST",
        "access-control-allow-headers": "content-encoding",
        "access-control-max-age": "86400",
    }


def test_it_may_read_why_it_is_refused(new_rig: NewRig) -> None:
    rig = new_rig(ORIGINS)
    rig.store.error = AllStoresFailed("all full")
    assert headers(rig, b"POST", b"Origin: https://app.example") == (503, ALLOWED)


@for_each(
    ("method", "origin", "status"),
    [
        (b"POST", b"https://other.example", 200),
        (b"OPTIONS", b"https://other.example", 405),
        (b"OPTIONS", b"", 405),
        (b"GET", b"https://app.example", 405),
    ],
)
def test_others_may_not(new_rig: NewRig, method: bytes, origin: bytes, status: int) -> None:
    found = headers(new_rig(ORIGINS), method, *([b"Origin: " + origin] if origin else []))
    assert found == (status, {"allow": "POST"} if status == 405 else {})


def test_a_path_without_such_pages(new_rig: NewRig) -> None:
    assert headers(new_rig(SUBMIT), b"OPTIONS", b"Origin: https://a", path=b"/submit") == (405, {"allow": "POST"})
    assert headers(new_rig(SUBMIT), b"POST", b"Origin: https://a", path=b"/submit") == (200, {})


def test_all_pages(new_rig: NewRig) -> None:
    status, found = headers(new_rig(row('path = "/a"\ncors = ["*"]')), b"POST", b"Origin: null")
    assert (status, found["access-control-allow-origin"]) == (200, "null")


def test_a_defect_in_reading_a_document_loses_no_crash(
    new_rig: NewRig, log: LogRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(kind: str, data: bytes) -> object:
        raise LookupError

    monkeypatch.setattr(completing, "read_document", fail)
    rig = new_rig(row('path = "/a"\nannotations = { Version = ["json:d/v"] }'))
    assert rig.ask(post(body(dump(b"d", b"{}")), path=b"/a")).body == KEPT
    assert [dump.name for dump in rig.crash.dumps] == ["d"]
    assert len(log.failures) == 1
    log.events.clear()
