import json
import os
import re
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from collectord.duplicates.duplicates import Duplicates
from collectord.duplicates.table import KeptTable
from collectord.errors import AllStoresFailed, StorageError
from collectord.intake.buffer import SPILL_UNIT
from collectord.metrics import REGISTRY
from collectord.pressure import IN_WORDS, Pressure, PressureLevel
from collectord.storage.chain.chain import FallbackCrashStorage
from collectord.storage.chain.waitingroom import WaitingRoom
from collectord.throttle.results import Result
from collectord.throttle.rules import Verdict
from collectord.web.answers import RETRY_AFTER_S, Shown
from tests.support.cases import for_each
from tests.unit.intake.parts import (
    BOUNDARY,
    CONTENT_TYPE,
    LogRecorder,
    annotation,
    body,
    content_of,
    dump,
    extra,
    gzipped,
    part,
    result_of,
)
from tests.unit.intake.wire import Client
from tests.unit.web.publicsite import (
    CHOSEN,
    CRASH_ID,
    KEPT,
    LIMITS,
    REPORT,
    VERSION,
    NewRig,
    Rig,
    State,
    checked,
    chunked,
    post,
)

# ——— 200 ———


def test_an_answer_to_the_byte(rig: Rig) -> None:
    client = rig.connect()
    client.send(post(REPORT))
    head, _, content = client.received.partition(b"\r\n\r\n")
    status, *headers = head.split(b"\r\n")
    assert status == b"HTTP/1.1 200 OK"
    assert content == KEPT
    sent = {line.partition(b": ")[0].lower(): line.partition(b": ")[2] for line in headers}
    assert re.fullmatch(rb"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", sent.pop(b"date"))
    assert sent == {
        b"server": b"collectord",
        b"content-type": b"text/plain; charset=utf-8",
        b"content-length": str(len(KEPT)).encode(),
    }


@for_each(
    "sent",
    [
        post(REPORT),
        post(REPORT, version=b"1.0"),
        post(REPORT, b"Expect: 100-continue"),
        post(REPORT, b"Connection: close"),
        post(REPORT, path=b"/submit?product=Fenix&version=1&guid=x"),
        post(REPORT, path=b"/%73ubmit"),
        post(REPORT, path=b"/submit?x=%ff"),
        post(REPORT, path=b"/submit/"),
        post(REPORT, path=b"/submit/?product=Fenix"),
        post(REPORT).replace(b"Host: localhost\r\n", b""),
        post(REPORT).replace(b"localhost", b"[::1]:8000"),
        post(REPORT).replace(b"localhost", b"a..b"),
        post(REPORT).replace(b"localhost", b"a" * 64),
        post(REPORT).replace(b"localhost", b"\xff"),
        post(REPORT, b"Cookie: a; =b;; \xff=c", b"Authorization: Basic \xff", b"User-Agent: \xff"),
        post(REPORT, content_type=b'Multipart/Mixed; charset="x"; BOUNDARY="xyzzy"'),
        post(gzipped(REPORT), b"Content-Encoding: gzip"),
        post(gzipped(REPORT[:50]) + gzipped(REPORT[50:]) + b"\0", b"content-encoding: GZIP"),
        post(REPORT, b"Content-Encoding: identity"),
        chunked(REPORT),
        chunked(REPORT, size=1),
        chunked(gzipped(REPORT), b"Content-Encoding: gzip"),
    ],
)
@for_each("piece", [1, 7, 65536])
def test_kept(new_rig: NewRig, sent: bytes, piece: int) -> None:
    rig = new_rig()
    response = rig.ask(sent, piece=piece)
    assert (response.status, response.body) == (200, KEPT)
    assert rig.crash.crash_id == CRASH_ID
    assert rig.crash.raw_crash["ProductName"] == "Fenix"
    (minidump,) = rig.crash.dumps
    assert minidump.name == "upload_file_minidump"


def test_what_is_kept(rig: Rig) -> None:
    packed = gzipped(body(extra(b'{"a": 1}'), annotation(b"b"), dump(b"d")))
    rig.ask(post(packed, b"Content-Encoding: gzip", b"User-Agent: Crashpad/1.0"))
    metadata = rig.crash.raw_crash["metadata"]
    assert isinstance(metadata, dict)
    assert rig.crash.raw_crash["a"] == "1"
    assert metadata["payload"] == "json"
    assert metadata["payload_compressed"] == "1"
    assert metadata["payload_size"] == len(packed)
    assert metadata["user_agent"] == "Crashpad/1.0"
    assert metadata["collector_notes"] == ["annotations came both as parts and as JSON"]
    assert list(metadata["dump_checksums"]) == ["d"]


def test_the_query_of_the_url_completes_it(rig: Rig) -> None:
    path = b"/submit?ProductName=other&version=1.0%2B1&guid="
    assert rig.ask(post(REPORT, path=path)).body == KEPT
    kept = {"ProductName": "Fenix", "client_version": "1.0+1", "guid": ""}
    assert kept.items() <= rig.crash.raw_crash.items()


def test_a_uuid_in_the_query(rig: Rig) -> None:
    path = b"/submit?uuid=" + CHOSEN.encode()
    assert rig.ask(post(REPORT, path=path)).body == KEPT
    assert rig.ask(post(REPORT, b"Authorization: Bearer other", path=path)).status == 401
    assert CHOSEN in rig.ask(post(REPORT, b"Authorization: Bearer secret", path=path)).body.decode()


def test_deferred(rig: Rig) -> None:
    rig.rule = Verdict(Result.DEFER, "some_rule", 100)
    assert (rig.ask(post(REPORT)).body, len(rig.store.kept.crashes)) == (KEPT, 1)


@pytest.mark.parametrize(
    ("result", "reported"),
    [
        (Result.REJECT, b"Discarded=rule_some_rule"),
        (Result.IGNORE, b"Unsupported=1\n"),
        (Result.FAKEACCEPT, KEPT),
        (Result.STOP, b"Discarded=rule_some_rule"),
    ],
)
def test_not_kept(rig: Rig, result: Result, reported: bytes) -> None:
    rig.rule = Verdict(result, "some_rule", 100)
    response = rig.ask(post(REPORT))
    assert (response.status, response.body) == (200, reported)
    assert rig.store.kept.crashes == {}


@for_each(
    ("version", "reported"),
    [
        (b"153.7.0", b"Discarded=rule_some_rule\nStopSendingReportsFor=153.7.0\n"),
        (b"153.0a1-x+y_z", b"Discarded=rule_some_rule\nStopSendingReportsFor=153.0a1-x+y_z\n"),
        (b"1\nCrashID=bp-1", b"Discarded=rule_some_rule"),
        (b"1 2", b"Discarded=rule_some_rule"),
        (b"{rule}", b"Discarded=rule_some_rule"),
        (b"1" * 65, b"Discarded=rule_some_rule"),
        (b"", b"Discarded=rule_some_rule"),
    ],
)
def test_a_version_whose_reports_are_not_wanted_any_more(rig: Rig, version: bytes, reported: bytes) -> None:
    rig.rule = Verdict(Result.STOP, "some_rule", 100)
    response = rig.ask(post(body(annotation(b"Version", version), dump(b"upload_file_minidump", b"MDMP"))))
    assert (response.status, response.body) == (200, reported)
    assert rig.store.kept.crashes == {}


@pytest.mark.parametrize("result", [Result.ACCEPT, Result.FAKEACCEPT, Result.STOP])
def test_the_page_of_a_crash(rig: Rig, result: Result) -> None:
    rig.public.shown = Shown("bp-", "https://crashes.example.com/{crash_id}?from=client")
    rig.rule = Verdict(result, "some_rule", 100)
    answered = KEPT + f"ViewURL=https://crashes.example.com/{CRASH_ID}?from=client\n".encode()
    assert rig.ask(post(REPORT)).body == (b"Discarded=rule_some_rule" if result is Result.STOP else answered)


def test_a_report_that_comes_again_gets_the_first_id(rig: Rig) -> None:
    def answered(reason: str) -> float:
        return REGISTRY.get_sample_value("collectord_answers_total", {"status": "200", "reason": reason}) or 0

    clock = Clock()
    waiting = FallbackCrashStorage([], clock, WaitingRoom(clock, 40.0, 1_000_000)).waiting

    class Stores:
        async def has(self, crash_id: str) -> bool:
            return crash_id in rig.store.kept.crashes

        async def was_erased(self, crash_id: str) -> bool:
            return False

    duplicates = Duplicates(KeptTable(), 3600.0, Stores(), waiting, clock, lambda: 1e9)
    rig.public.collector = evolve(rig.public.collector, duplicates=duplicates, random=lambda: os.urandom(16))
    kept, again = answered("kept"), answered("duplicate")
    first = rig.ask(post(REPORT))
    assert rig.ask(chunked(REPORT)).body == rig.ask(post(gzipped(REPORT), b"Content-Encoding: gzip")).body == first.body
    assert len(rig.store.kept.crashes) == 1
    assert (answered("kept"), answered("duplicate")) == (kept + 1, again + 2)


def test_the_clients_uuid(rig: Rig) -> None:
    sent = body(annotation(b"uuid", CHOSEN.encode()))
    response = rig.ask(post(sent, b"Authorization: Bearer secret"))
    assert (response.status, response.body) == (200, f"CrashID=bp-{CHOSEN}\n".encode())
    assert list(rig.store.kept.crashes) == [CHOSEN]


def test_two_in_one_segment(rig: Rig) -> None:
    client = rig.connect()
    client.send(post(REPORT) + post(b"nonsense" * 10) + post(REPORT))
    client.send(post(REPORT))
    malformed = b"Discarded=malformed_invalid_payload_structure"
    assert [response.body for response in client.responses] == [KEPT, malformed, KEPT, KEPT]
    client.send(post(REPORT) + post(b"nonsense" * 10, b"Content-Encoding: gzip") + post(REPORT))
    client.send(post(REPORT))
    assert [response.body for response in client.responses][4:] == [KEPT, b"Discarded=malformed_bad_gzip"]
    assert client.lingering  # this refusal came in the middle of a body
    client = rig.connect()
    client.send(post(REPORT) + post(body()) + post(REPORT))
    assert [response.body for response in client.responses] == [KEPT, b"Discarded=malformed_no_annotations", KEPT]
    assert not client.closed


# ——— 415 ———


def test_a_report_of_a_browser_about_a_page(rig: Rig) -> None:
    report = b'[{"type": "crash", "age": 1, "url": "https://a.example/", "body": {"reason": "oom"}}]'
    response = rig.ask(post(report, content_type=b"application/reports+json"))
    assert (response.status, response.body) == (415, b"Discarded=unsupported_reporting_api")


# ——— 400 ———

OTHER = body(annotation(b"a"))


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (post(OTHER, content_type=None), "no_content_type"),
        (post(OTHER, content_type=b""), "no_content_type"),
        (post(OTHER, content_type=b"application/json"), "wrong_content_type"),
        (post(OTHER, content_type=b"application/x-www-form-urlencoded"), "wrong_content_type"),
        (post(OTHER, content_type=b"multipart/form-data"), "no_boundary"),
        (post(OTHER, content_type=b"multipart/form-data; boundary="), "no_boundary"),
        (post(b""), "no_content_length"),
        (post(b"", length=False), "no_content_length"),
        (post(b"", b"Content-Encoding: gzip"), "no_content_length"),
        (chunked(b""), "no_content_length"),
        (chunked(b"", b"Content-Encoding: gzip"), "no_content_length"),
        (post(b"packed", b"Content-Encoding: x-unknown"), "unknown_content_encoding"),
        (post(b"nonsense", b"Content-Encoding: br"), "bad_br"),
        (post(b"nonsense", b"Content-Encoding: gzip"), "bad_gzip"),
        (chunked(b"nonsense", b"Content-Encoding: zstd"), "bad_zstd"),
        (post(body(extra(b"{"))), "invalid_json"),
        (post(body(extra(b"[]"))), "invalid_json_value"),
        (post(b"nonsense" * 100), "invalid_payload_structure"),
        (chunked(OTHER)[:-5] + b"nonsense\r\n", "invalid_payload_structure"),
        (post(body(part(b"X: 1"))), "no_annotations"),
        (post(body(annotation(b"uuid", b"x")), b"Authorization: Bearer secret"), "invalid_uuid"),
    ],
)
@pytest.mark.parametrize("piece", [1, 65536])
def test_malformed(rig: Rig, log: LogRecorder, sent: bytes, reason: str, piece: int) -> None:
    response = rig.ask(sent, piece=piece)
    assert (response.status, response.body) == (400, f"Discarded=malformed_{reason}".encode())
    assert rig.store.kept.crashes == {}
    assert [(event["status"], event["reason"]) for event in log.events if "status" in event] == [(400, reason)]


def test_malformed_http(rig: Rig) -> None:
    response = rig.ask(b"POST /submit\r\n\r\n")
    assert (response.status, response.body) == (400, b"Bad request\n")
    assert response.headers["connection"] == "close"


# ——— 401, 404, 405, 408, 413 ———


@pytest.mark.parametrize(
    "headers",
    [
        [b"Authorization: Bearer other"],
        [b"Authorization: Basic secret"],
        [b"Authorization: secret"],
        [b"X-Collectord-Stores: a"],
    ],
)
def test_unauthorized(rig: Rig, headers: list[bytes]) -> None:
    response = rig.ask(post(body(annotation(b"uuid", CHOSEN.encode())), *headers))
    assert (response.status, response.body) == (401, b"Discarded=unauthorized_uuid")
    assert response.headers["www-authenticate"] == "Bearer"
    assert rig.store.kept.crashes == {}


def test_a_uuid_without_authorization_is_an_annotation(rig: Rig) -> None:
    response = rig.ask(post(body(annotation(b"uuid", CHOSEN.encode()))))
    assert (response.status, response.body) == (200, KEPT)
    assert (rig.crash.raw_crash["uuid"], rig.crash.raw_crash["client_uuid"]) == (CRASH_ID, CHOSEN)


@for_each(
    ("method", "path", "allowed"),
    [
        (b"GET", b"/submit", {"POST"}),
        (b"PUT", b"/submit", {"POST"}),
        (b"PUT", b"/submit/", {"POST"}),
        (b"OPTIONS", b"/submit", {"POST"}),
        (b"POST", b"/__heartbeat__", {"GET", "HEAD", "OPTIONS"}),
        (b"DELETE", b"/__version__", {"GET", "HEAD", "OPTIONS"}),
        (b"PUT", b"/__lbheartbeat__", {"GET", "HEAD", "OPTIONS"}),
    ],
)
@for_each("with_body", [True, False])
def test_wrong_methods(new_rig: NewRig, method: bytes, path: bytes, allowed: set[str], with_body: bool) -> None:
    rig = new_rig()
    content = post(REPORT, path=path) if with_body else post(b"", path=path, length=False)
    response = rig.ask(content.replace(b"POST", method, 1))
    assert (response.status, response.body) == (405, b"Method not allowed\n")
    assert set(response.headers["allow"].split(", ")) == allowed
    assert rig.store.kept.crashes == {}


@for_each("path", [b"/", b"/submitx", b"/Submit", b"/submit/x", b"/x?/submit", b"/..", b"/%00", b"/%ff"])
@for_each("with_body", [True, False])
def test_wrong_paths(new_rig: NewRig, path: bytes, with_body: bool) -> None:
    rig = new_rig()
    response = rig.ask(post(REPORT, path=path) if with_body else b"GET %s HTTP/1.1\r\n\r\n" % path)
    assert (response.status, response.body) == (404, b"Not found\n")
    assert rig.store.kept.crashes == {}


@for_each(
    "sent",
    [
        post(REPORT, path=b"//submit"),
        post(REPORT, path=b"/submit//"),
        post(REPORT, path=b"///submit"),
        post(REPORT, path=b"*submit"),
        post(REPORT, path=b"xsubmit"),
    ],
)
def test_paths_that_are_nearly_right(new_rig: NewRig, sent: bytes) -> None:
    rig = new_rig()
    response = rig.ask(sent)
    assert (response.status, response.body) == (404, b"Not found\n")
    assert rig.store.kept.crashes == {}


def test_a_wrong_path_needs_no_body(rig: Rig) -> None:
    client = rig.connect()
    client.send(post(REPORT, b"Expect: 100-continue", path=b"/other")[: -len(REPORT)])
    assert checked(client).status == 404
    assert client.lingering


def test_too_slow(rig: Rig) -> None:
    client = rig.connect()
    client.send(post(REPORT)[:-1])
    rig.server.wait(32)
    response = checked(client)
    assert (response.status, response.body) == (408, b"Discarded=too_slow")
    assert response.headers["connection"] == "close"
    assert client.lingering
    assert rig.budget.used == 0
    client.send(REPORT[-1:])
    assert rig.store.kept.crashes == {}


TOO_LARGE = body(annotation(b"a"), dump(b"d", b"x" * LIMITS.read))


@for_each(
    "sent",
    [
        post(TOO_LARGE)[: -len(TOO_LARGE)],
        post(TOO_LARGE, b"Expect: 100-continue")[: -len(TOO_LARGE)],
        post(TOO_LARGE),
        chunked(TOO_LARGE, size=10_000),
        post(gzipped(TOO_LARGE), b"Content-Encoding: gzip"),
        chunked(gzipped(TOO_LARGE), b"Content-Encoding: gzip"),
        post(body(dump(b"upload_file_minidump", b"x" * (LIMITS.body + 1)))),
    ],
)
def test_too_large(new_rig: NewRig, sent: bytes) -> None:
    rig = new_rig()
    client = rig.connect()
    client.send(sent)
    response = checked(client)
    assert (response.status, response.body) == (413, b"Discarded=too_large")
    assert response.headers["connection"] == "close"
    assert client.lingering
    assert rig.budget.used == 0
    assert rig.store.kept.crashes == {}


# ——— 503 and 500 ———


@pytest.mark.parametrize("error", [AllStoresFailed("all full"), StorageError("full")])
def test_nowhere_to_save(rig: Rig, error: Exception) -> None:
    rig.store.error = error
    response = rig.ask(post(REPORT))
    assert (response.status, response.body) == (503, b"Discarded=nowhere_to_save")
    assert response.headers["retry-after"] == str(RETRY_AFTER_S)


@pytest.mark.parametrize("error", [AllStoresFailed("all full"), StorageError("full")])
def test_nowhere_to_spill(rig: Rig, error: Exception) -> None:
    rig.budget.limit = 0
    rig.store.append_error = error
    client = rig.connect()
    big = body(annotation(b"a"), dump(b"d", b"x" * (SPILL_UNIT * 4)))
    client.send(post(big), piece=SPILL_UNIT)
    response = checked(client)
    assert (response.status, response.body) == (503, b"Discarded=nowhere_to_save")
    assert response.headers["retry-after"] == str(RETRY_AFTER_S)
    assert rig.store.discarded == 1
    assert rig.store.kept.crashes == {}


def test_a_spilled_dump(rig: Rig) -> None:
    rig.budget.limit = 0
    content = bytes(range(256)) * 512
    assert rig.ask(post(body(annotation(b"a"), dump(b"d", content))), piece=10_000).status == 200
    assert len(rig.store.staged) > 1
    assert result_of(content_of(rig.crash.dumps[0])) == content
    assert rig.store.discarded == 1


def test_a_defect(rig: Rig, log: LogRecorder) -> None:
    rig.store.error = ZeroDivisionError("secret")
    response = rig.ask(post(REPORT))
    assert (response.status, response.body) == (500, b"Internal error\n")
    (failure,) = log.failures
    assert failure["log_failure"].check(ZeroDivisionError)
    log.events.clear()


# ——— while it is kept ———


def test_no_answer_before_it_is_kept(rig: Rig) -> None:
    rig.store.waits = True
    client = rig.connect()
    client.send(post(REPORT))
    rig.server.wait(100, step=1)
    assert client.received == b""
    assert rig.budget.flushing == 4
    rig.store.saving[0][1].callback(None)
    assert checked(client).body == KEPT
    assert rig.budget.used == 0


def test_a_client_that_hangs_up_while_its_crash_is_kept(rig: Rig) -> None:
    rig.store.waits = True
    client = rig.connect()
    client.send(post(REPORT))
    client.hang_up()
    assert rig.store.cancelled == 0
    assert rig.budget.used == 4
    ((crash, done),) = rig.store.saving
    done.callback(None)
    assert rig.store.kept.crashes == {CRASH_ID: crash}
    assert result_of(content_of(crash.dumps[0])) == b"MDMP"
    assert rig.budget.used == 0
    assert client.received == b""


@pytest.mark.parametrize("error", [AllStoresFailed("full"), StorageError("full")])
def test_a_client_that_hangs_up_before_its_crash_fails_to_be_kept(rig: Rig, error: Exception) -> None:
    rig.store.waits = True
    client = rig.connect()
    client.send(post(REPORT))
    client.hang_up()
    rig.store.saving[0][1].errback(Failure(error))
    assert rig.budget.used == 0


def test_a_client_that_hangs_up_in_the_body(rig: Rig, log: LogRecorder) -> None:
    client = rig.connect()
    client.send(post(REPORT)[:-1])
    assert rig.budget.used > 0
    client.hang_up()
    assert rig.budget.used == 0
    assert rig.store.kept.crashes == {}
    assert [event["log_format"] for event in log.events] == ["refused: client_gone"]


def test_drained(rig: Rig) -> None:
    rig.store.waits = True
    done: list[object] = []
    Deferred.fromCoroutine(rig.public.drained()).addBoth(done.append)
    assert done == [None]
    done.clear()
    clients = [rig.connect() for _ in range(3)]
    for client in clients:
        client.send(post(REPORT))
    clients[0].hang_up()
    Deferred.fromCoroutine(rig.public.drained()).addBoth(done.append)
    for (_, saved), result in zip(rig.store.saving, [None, Failure(AllStoresFailed("full")), None], strict=True):
        assert done == []
        saved.callback(result)
    assert done == [None]
    assert checked(clients[1]).status == 503
    assert checked(clients[2]).status == 200


# ——— other routes ———


def json_of(client: Client) -> tuple[int, Any]:
    response = client.response
    assert response.headers["content-type"] == "application/json"
    assert response.headers["content-length"] == str(len(response.body))
    return response.status, json.loads(response.body)


def test_the_heartbeat(rig: Rig) -> None:
    client = rig.connect()
    client.send(b"GET /__heartbeat__ HTTP/1.1\r\n\r\n")
    assert json_of(client) == (
        200,
        {
            "status": "ok",
            "stores": {
                "/primary": {"problem": "", "cautions": [], "free_bytes": 5},
                "/second": {"problem": "", "cautions": []},
            },
        },
    )


def test_the_heartbeat_while_a_worker_hangs(rig: Rig) -> None:
    rig.public.hung_workers = 1
    client = rig.connect()
    client.send(b"GET /__heartbeat__ HTTP/1.1\r\n\r\n")
    status, reported = json_of(client)
    assert (status, reported["status"], reported["hung_workers"]) == (503, "error", 1)


def test_what_a_store_can_t_promise_is_no_problem(rig: Rig) -> None:
    rig.store.states = [State("/primary", cautions=["on tmpfs: it lies in memory"])]
    client = rig.connect()
    client.send(b"GET /__heartbeat__ HTTP/1.1\r\n\r\n")
    status, reported = json_of(client)
    assert (status, reported["stores"]["/primary"]["cautions"]) == (200, ["on tmpfs: it lies in memory"])


def test_a_store_that_is_not_well(rig: Rig) -> None:
    rig.store.states = [State("/primary", figures={"free_bytes": 5}), State("/second", "no space left")]
    client = rig.connect()
    client.send(b"GET /__heartbeat__ HTTP/1.1\r\n\r\n")
    status, reported = json_of(client)
    assert (status, reported["status"]) == (503, "error")
    assert reported["stores"]["/second"] == {"problem": "no space left", "cautions": []}


def test_the_heartbeat_while_crashes_are_lost(rig: Rig) -> None:
    rig.store.takes_crashes = False
    client = rig.connect()
    client.send(b"GET /__heartbeat__ HTTP/1.1\r\n\r\n")
    status, reported = json_of(client)
    assert (status, reported["status"]) == (503, "CRASHES ARE BEING LOST")


@pytest.mark.parametrize("level", [PressureLevel.NO_ATTACHMENTS, PressureLevel.FIRST_ONLY])
def test_the_heartbeat_under_disk_pressure(rig: Rig, level: PressureLevel) -> None:
    """Crashes are kept, so it is no error; but it is told."""
    rig.store.pressure = Pressure(lambda: level)
    client = rig.connect()
    client.send(b"GET /__heartbeat__ HTTP/1.1\r\n\r\n")
    status, reported = json_of(client)
    assert (status, reported["status"], reported["pressure"]) == (200, "disk pressure", IN_WORDS[level])


def test_the_version(rig: Rig) -> None:
    client = rig.connect()
    client.send(b"GET /__version__ HTTP/1.1\r\n\r\n")
    assert json_of(client) == (200, VERSION)


def test_the_lbheartbeat(rig: Rig) -> None:
    response = rig.ask(b"GET /__lbheartbeat__ HTTP/1.1\r\n\r\n")
    assert (response.status, response.body) == (200, b"")


def test_load_balancers_send_nothing_where_no_store_takes_crashes(rig: Rig) -> None:
    rig.store.states = [State("/primary", "no space left"), State("/second")]
    assert rig.ask(b"GET /__lbheartbeat__ HTTP/1.1\r\n\r\n").status == 200
    rig.store.takes_crashes = False
    response = rig.ask(b"GET /__lbheartbeat__ HTTP/1.1\r\n\r\n")
    assert (response.status, response.body) == (503, b"no store takes crashes\n")


def test_load_balancers_send_nothing_where_it_drains(rig: Rig) -> None:
    rig.public.draining = True
    response = rig.ask(b"GET /__lbheartbeat__ HTTP/1.1\r\n\r\n")
    assert (response.status, response.body) == (503, b"draining\n")
    assert rig.ask(post(REPORT)).status == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (b"/__version__", b"200"),
        (b"/__heartbeat__", b"200"),
        (b"/__lbheartbeat__", b"200"),
        (b"/x", b"404"),
        (b"/submit", b"405"),
    ],
)
def test_head(rig: Rig, path: bytes, status: bytes) -> None:
    client = rig.connect()
    client.send(b"GET %s HTTP/1.1\r\n\r\n" % path)
    whole, _, content = client.received.partition(b"\r\n\r\n")
    client.wire.clear()
    client.send(b"HEAD %s HTTP/1.1\r\n\r\n" % path)
    head, separator, nothing = client.received.partition(b"\r\n\r\n")
    assert (separator, nothing) == (b"\r\n\r\n", b"")
    assert head.startswith(b"HTTP/1.1 " + status)
    assert b"ontent-%s: %d" % (b"Length" if b"Length" in head else b"length", len(content)) in head
    assert not client.closed
    assert len(whole) == len(head)


@for_each("healthy", [True, False], ids=["healthy", "no store takes crashes"])
@for_each("method", [b"GET", b"HEAD", b"OPTIONS"])
@for_each("path", [b"/__version__", b"/__heartbeat__", b"/__lbheartbeat__"])
def test_no_proxy_may_keep_what_is_said_of_the_health(
    new_rig: NewRig, path: bytes, method: bytes, healthy: bool
) -> None:
    rig = new_rig()
    rig.store.takes_crashes = healthy
    client = rig.connect()
    client.send(b"%s %s HTTP/1.1\r\n\r\n" % (method, path))
    head = client.received.partition(b"\r\n\r\n")[0].lower()
    assert b"\r\ncache-control: no-store" in head
    assert (b" 503 " in head) == (not healthy and method != b"OPTIONS" and path != b"/__version__")


@pytest.mark.parametrize("path", [b"/__version__", b"/__heartbeat__", b"/__lbheartbeat__"])
def test_options(rig: Rig, path: bytes) -> None:
    rig.public.draining = True
    response = rig.ask(b"OPTIONS %s HTTP/1.1\r\n\r\n" % path)
    assert (response.status, response.body) == (200, b"")
    assert response.headers["allow"] == "GET, HEAD, OPTIONS"


def test_a_submission_says_when_its_client_began(rig: Rig) -> None:
    """When its headers had come, however long its body took."""
    rig.store.waits = True
    rig.server.wait(7)
    began = rig.server.clock.seconds()
    client = rig.connect()
    client.send(post(REPORT)[:-1])
    rig.server.wait(20)
    client.send(post(REPORT)[-1:])
    ((crash, kept),) = rig.store.saving
    assert crash.began == began
    kept.callback(None)


@pytest.mark.parametrize("path", [b"/__version__", b"/__heartbeat__", b"/__lbheartbeat__"])
def test_a_get_with_a_body(rig: Rig, path: bytes) -> None:
    client = rig.connect()
    client.send(b"GET %s HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello" % path + post(REPORT))
    assert client.response.status == 200
    assert client.response.headers["connection"] == "close"
    assert rig.store.kept.crashes == {}


def test_the_boundary_here_is_the_one_of_the_parts() -> None:
    assert BOUNDARY in CONTENT_TYPE
