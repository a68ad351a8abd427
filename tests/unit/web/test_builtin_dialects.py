"""
The built-in dialects, by requests as their clients send them.
"""

import gzip
import json
from collections.abc import Callable

import pytest
from attrs import evolve

from collectord.dialects.load import builtin_dialects, load_dialects
from collectord.errors import AllStoresFailed
from collectord.pressure import Pressure, PressureLevel
from collectord.throttle.results import Result
from collectord.throttle.rules import Verdict
from tests.support.cases import for_each
from tests.support.msgpackwriter import packed
from tests.support.unrealcontainer import compressed, context
from tests.unit.intake.parts import annotation, body, content_of, dump, result_of
from tests.unit.web.publicsite import CRASH_ID, KEPT, NewRig, Rig, post

ALL = load_dialects(["submit", "crashpad", *sorted(set(builtin_dialects()) - {"submit", "crashpad"})], [])
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


def test_bugsnag(rig: Rig) -> None:
    event = {
        "events": [
            {
                "app": {"version": "1.2", "releaseStage": "beta"},
                "severity": "error",
                "exceptions": [{"errorClass": "SIGSEGV", "message": "at 0x0"}],
            }
        ]
    }
    fields = [dump(b"upload_file_minidump", gzip.compress(MINIDUMP)), annotation(b"event", json.dumps(event).encode())]
    assert ask(rig, "/minidump?api_key=k3y", body(*fields)) == KEPT
    annotations, dumps = kept(rig)
    assert dumps == {"upload_file_minidump": MINIDUMP}
    assert json.loads(annotations["event"]) == event
    found = [annotations[name] for name in ("Version", "Environment", "Level", "ExceptionType", "ExceptionValue")]
    assert found == ["1.2", "beta", "error", "SIGSEGV", "at 0x0"]
    assert "k3y" not in str(annotations)


# ——— Sentry ———

EVENT = {
    "event_id": "9e28cdea-5c01-4c2b-8f0e-5a9b6d3c1f11",
    "release": "app@1.2",
    "environment": "beta",
    "level": "fatal",
    "user": {"id": "42"},
    "tags": {"os.name": "Linux", "nul": "a\0b"},
    "contexts": {"app": {"app_name": "App"}},
}
MINIDUMP_URL = "/api/7/minidump/?sentry_client=sentry.native/0.4.11&sentry_key=k3y&guid=9"
KNOWN = {
    "ProductName": "App",
    "Version": "app@1.2",
    "Environment": "beta",
    "Level": "fatal",
    "UserID": "42",
    "EventID": EVENT["event_id"],
    "tag.os.name": "Linux",
    "tag.nul": "ab",
    "SentryProject": "7",
    "SentryClient": "sentry.native/0.4.11",
}


def test_sentry_native_with_crashpad(rig: Rig) -> None:
    crumbs = packed({"message": "one"}) + packed({"message": "two"})
    files = [dump(b"__sentry-breadcrumb1", crumbs), dump(b"__sentry-event", packed(EVENT))]
    form = body(annotation(b"guid", b"g"), *files, dump(b"upload_file_minidump", MINIDUMP))
    assert ask(rig, MINIDUMP_URL, form) == CRASH_ID.encode()
    annotations, dumps = kept(rig)
    assert KNOWN.items() <= annotations.items()
    assert dumps == {"__sentrybreadcrumb1": crumbs, "__sentryevent": packed(EVENT), "upload_file_minidump": MINIDUMP}
    assert "k3y" not in str(annotations)
    assert rig.crash.raw_crash["metadata"]["collector_notes"] == [  # type: ignore[index]
        f"the file {name!r} is called {name.replace('-', '')}" for name in ("__sentry-breadcrumb1", "__sentry-event")
    ]


def test_sentry_under_electron(rig: Rig) -> None:
    """Its JSON comes in pieces."""
    text = json.dumps(EVENT)
    pieces = [text[at : at + 50] for at in range(0, len(text), 50)]
    fields = [annotation(b"sentry__%d" % number, piece.encode()) for number, piece in enumerate(pieces, 1)]
    form = body(*reversed(fields), annotation(b"_productName", b"Other"), dump(b"upload_file_minidump", MINIDUMP))
    assert ask(rig, MINIDUMP_URL, form) == CRASH_ID.encode()
    annotations, _ = kept(rig)
    assert KNOWN.items() <= annotations.items()
    assert json.loads(annotations["sentry"]) == EVENT
    assert "sentry__1" not in annotations


def test_sentry_in_fields(rig: Rig) -> None:
    form = body(
        annotation(b"sentry[release]", b"1.0"),
        annotation(b"sentry[user][id]", b"u"),
        annotation(b"prod", b"App"),
        dump(b"any", MINIDUMP),
    )
    assert ask(rig, "/api/7/minidump?sentry_key=k", form) == CRASH_ID.encode()
    annotations, _ = kept(rig)
    assert {"Version": "1.0", "UserID": "u", "ProductName": "App"}.items() <= annotations.items()


def test_without_anything_else_the_project_is_the_product(rig: Rig) -> None:
    assert ask(rig, "/api/7/minidump/", MINIDUMP, None) == CRASH_ID.encode()
    assert kept(rig)[0]["ProductName"] == "7"


@for_each("path", ["/api/7/minidump", "/api/7/minidump/"])
@for_each("content_type", [b"application/octet-stream", b"application/x-dmp", b"APPLICATION/X-DMP; a=b"])
@for_each("encoding", [b'Content-Encoding: ""', b"Content-Encoding: UTF-8", b"X: none"])
@for_each("pack", [bytes, gzip.compress])
def test_sentry_takes_a_minidump_alone(
    new_rig: NewRig, path: str, content_type: bytes, encoding: bytes, pack: Callable[[bytes], bytes]
) -> None:
    rig = new_rig(*ALL)
    client = rig.connect()
    client.send(post(pack(MINIDUMP), encoding, path=path.encode(), content_type=content_type))
    assert (client.response.status, client.response.body) == (200, CRASH_ID.encode())
    assert kept(rig)[1] == {"upload_file_minidump": MINIDUMP}


@for_each("event", [b"", b"\xc1", packed(EVENT)[:50], packed("text"), packed([1])])
def test_an_event_that_can_not_be_read_is_kept(new_rig: NewRig, event: bytes) -> None:
    rig = new_rig(*ALL)
    form = body(dump(b"__sentry-event", event), dump(b"upload_file_minidump", MINIDUMP))
    assert ask(rig, MINIDUMP_URL, form) == CRASH_ID.encode()
    annotations, dumps = kept(rig)
    assert dumps == {"__sentryevent": event, "upload_file_minidump": MINIDUMP}
    assert annotations["ProductName"] == "7"


def test_annotations_from_a_document_count_among_the_others(rig: Rig) -> None:
    tags = {f"t{number}": "x" * 1000 for number in range(20)}
    form = body(dump(b"__sentry-event", packed({"tags": tags})), dump(b"upload_file_minidump", MINIDUMP))
    ask(rig, MINIDUMP_URL, form)
    annotations, _ = kept(rig)
    assert sum(name.startswith("tag.") for name in annotations) == 9
    assert "11 annotations from other places are left out" in str(rig.crash.raw_crash["metadata"])


def test_sentrys_clients_are_not_answered_if_there_is_nowhere_to_save(rig: Rig) -> None:
    rig.store.error = AllStoresFailed("all full")
    client = rig.connect()
    client.send(post(MINIDUMP, path=MINIDUMP_URL.encode(), content_type=None))
    assert (client.received, client.closed) == (b"", True)


ENVELOPE_URL = "/api/7/envelope/?sentry_version=7&sentry_key=k3y&sentry_client=sentry.javascript.node%2F10"
CRASH = EVENT | {
    "platform": "native",
    "exception": {"values": [{"type": "Error", "value": "first"}, {"type": "TypeError", "value": "x is not y"}]},
}
SENTRYS_ANSWER = b'{"id":"%s"}' % CRASH_ID.replace("-", "").encode()


def envelope(*items: tuple[dict[str, object], bytes]) -> bytes:
    lines = [json.dumps({"event_id": EVENT["event_id"]}).encode()]
    for header, content in items:
        lines += [json.dumps(header).encode(), content]
    return b"\n".join([*lines, b""])


EVENT_ITEM: tuple[dict[str, object], bytes] = ({"type": "event"}, json.dumps(CRASH).encode())


@for_each("path", [ENVELOPE_URL, "/api/7/envelope/"])
@for_each("pack", [bytes, gzip.compress])
def test_an_event_of_sentrys(new_rig: NewRig, path: str, pack: Callable[[bytes], bytes]) -> None:
    """As @sentry/node sends it: without a type, and gzip with a word in the headers or without."""
    rig = new_rig(*ALL)
    assert ask(rig, path, pack(envelope(EVENT_ITEM)), None) == SENTRYS_ANSWER
    annotations, dumps = kept(rig)
    assert dumps == {"event": EVENT_ITEM[1]}
    expected = {name: value for name, value in KNOWN.items() if name != "SentryClient"}
    expected |= {"ExceptionType": "TypeError", "ExceptionValue": "x is not y", "Platform": "native"}
    assert expected.items() <= annotations.items()
    assert "k3y" not in str(annotations)


def test_sentry_native_with_breakpad(rig: Rig) -> None:
    attachment = {"type": "attachment", "attachment_type": "event.minidump", "filename": "minidump.dmp"}
    session: tuple[dict[str, object], bytes] = ({"type": "session", "length": 2}, b"{}")
    content = envelope(EVENT_ITEM, ({**attachment, "length": len(MINIDUMP)}, MINIDUMP), session)
    client = rig.connect()
    auth = b"X-Sentry-Auth: Sentry sentry_key=k3y, sentry_version=7, sentry_client=sentry.native/0.16.3"
    client.send(post(content, auth, path=b"/api/7/envelope/", content_type=b"application/x-sentry-envelope"))
    response = client.response
    assert (response.body, response.headers["content-type"]) == (SENTRYS_ANSWER, "application/json")
    assert kept(rig)[1] == {"event": EVENT_ITEM[1], "upload_file_minidump": MINIDUMP}


@for_each("items", [[], [({"type": "session"}, b"{}")], [({"type": "transaction"}, b"{}"), ({"type": "log"}, b"[]")]])
def test_what_is_no_crash_is_answered_and_dropped(
    new_rig: NewRig, items: list[tuple[dict[str, object], bytes]]
) -> None:
    rig = new_rig(*ALL)
    assert ask(rig, ENVELOPE_URL, envelope(*items), None) == b"{}"
    assert rig.store.kept.crashes == {}


@for_each("event", [EVENT_ITEM[1], b"no event"])
@for_each(
    ("more", "expected"),
    [
        ([], ["event"]),
        ([({"type": "attachment", "filename": "a.dmp"}, MINIDUMP)], ["upload_file_minidump"]),
        ([({"type": "attachment", "attachment_type": "event.minidump"}, b"")], ["event", "upload_file_minidump"]),
    ],
)
def test_while_disks_are_nearly_full_the_event_is_kept_where_there_is_no_minidump(
    new_rig: NewRig, event: bytes, more: list[tuple[dict[str, object], bytes]], expected: list[str]
) -> None:
    rig = new_rig(*ALL)
    rig.public.collector = evolve(rig.public.collector, pressure=Pressure(lambda: PressureLevel.NO_ATTACHMENTS))
    log: tuple[dict[str, object], bytes] = ({"type": "attachment", "filename": "some.log"}, b"text")
    assert ask(rig, ENVELOPE_URL, envelope(({"type": "event"}, event), log, *more), None) == SENTRYS_ANSWER
    assert list(kept(rig)[1]) == expected
    assert "somelog: 4 bytes, left out: the disk is nearly full" in str(rig.crash.raw_crash["metadata"])


LIMITS = {
    "x-sentry-rate-limits": "3600::project",
    "retry-after": "3600",
    "access-control-expose-headers": "X-Sentry-Rate-Limits, Retry-After",
}


@for_each("result", [result for result in Result if result is not Result.CONTINUE])
@for_each(
    ("path", "content"), [(MINIDUMP_URL, MINIDUMP), (ENVELOPE_URL, envelope(EVENT_ITEM)), ("/uni/t/minidump", MINIDUMP)]
)
def test_only_a_rule_that_says_so_makes_sentrys_clients_silent(
    new_rig: NewRig, path: str, content: bytes, result: Result
) -> None:
    rig = new_rig(*ALL)
    rig.rule = Verdict(result, "some_rule", 100)
    client = rig.connect()
    client.send(post(content, path=path.encode(), content_type=None))
    response = client.response
    found = {name: value for name, value in response.headers.items() if name in LIMITS}
    assert (response.status, found) == (200, LIMITS if result is Result.STOP and "sentry" in path else {})


def test_an_envelope_that_is_no_crash_makes_nobody_silent(rig: Rig) -> None:
    rig.rule = Verdict(Result.STOP, "some_rule", 100)
    client = rig.connect()
    client.send(post(envelope(), path=ENVELOPE_URL.encode(), content_type=None))
    assert LIMITS.keys().isdisjoint(client.response.headers)


# ——— Unreal Engine ———

CONTEXT = context({"GameName": "UE4-App", "BuildVersion": "1.2", "CrashGUID": "UECC-1", "ErrorMessage": "Fatal!"})
UNREAL = compressed({"CrashContext.runtime-xml": CONTEXT, "UEMinidump.dmp": MINIDUMP, "App.log": b"log"})
QUERY_OF_UNREAL = "?AppID=CrashReporter&AppVersion=1.0&AppEnvironment=Release&UploadType=crashreports&UserID=L%7CE%7CM"


@for_each(
    ("path", "product", "version"),
    [
        ("/unreal", "UE4-App", "1.2"),
        ("/api/7/unreal/k3y/", "UE4-App", "1.2"),
        ("/post/ue4/App/3.0", "App", "3.0"),
    ],
)
def test_unreal(new_rig: NewRig, path: str, product: str, version: str) -> None:
    rig = new_rig(*ALL)
    assert ask(rig, path + QUERY_OF_UNREAL, UNREAL, b"application/octet-stream") == CRASH_ID.encode()
    annotations, dumps = kept(rig)
    assert dumps == {"CrashContextruntimexml": CONTEXT, "upload_file_minidump": MINIDUMP, "Applog": b"log"}
    expected = {"ProductName": product, "Version": version, "EventID": "UECC-1", "ExceptionValue": "Fatal!"}
    assert (expected | {"Unreal.GameName": "UE4-App", "UploadType": "crashreports"}).items() <= annotations.items()
    assert "k3y" not in str(annotations)


def test_annotations_from_a_document_are_annotations(rig: Rig) -> None:
    """So no note says that the report came without."""
    assert ask(rig, "/unreal", UNREAL, b"application/octet-stream") == CRASH_ID.encode()
    notes = rig.crash.raw_crash["metadata"]["collector_notes"]  # type: ignore[index]
    assert "the report came without annotations" not in notes
    assert ask(rig, "/unreal", compressed({"UEMinidump.dmp": MINIDUMP}), b"application/octet-stream")
    assert "the report came without annotations" in rig.crash.raw_crash["metadata"]["collector_notes"]  # type: ignore[index]


@for_each("document", [b"", b"<a>", b'<!DOCTYPE a [<!ENTITY b "c">]><FGenericCrashContext>&b;</FGenericCrashContext>'])
def test_a_context_that_can_not_be_read_is_kept(new_rig: NewRig, document: bytes) -> None:
    rig = new_rig(*ALL)
    sent = compressed({"CrashContext.runtime-xml": document, "a.dmp": MINIDUMP})
    assert ask(rig, "/unreal?AppVersion=1.0", sent, None) == CRASH_ID.encode()
    annotations, dumps = kept(rig)
    assert dumps == {"CrashContextruntimexml": document, "upload_file_minidump": MINIDUMP}
    assert annotations["Version"] == "1.0"
    assert "no annotations are taken from it" in str(rig.crash.raw_crash["metadata"])
