"""
What the daemon says: one line for each event, and nothing about whom it came from.
"""

import json
import re
import socket
import time
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, config, free_port
from tests.support.disk import stored_crashes
from tests.support.http import Part, multipart, read_responses
from tests.support.reports import crash_id_in
from tests.support.response import Response, parse_responses
from tests.support.wait import until

pytestmark = pytest.mark.e2e

CLIENT = "127.99.88.77"
SECRET = "s3kr1t"


def post_from_afar(port: int, body: bytes, *, complete: bool = True) -> Response:
    with socket.create_connection(("127.0.0.1", port), 10, source_address=(CLIENT, 0)) as connection:
        head = f"POST /submit?{SECRET} HTTP/1.1\r\nHost: {SECRET}\r\nContent-Length: {len(body)}\r\n"
        head += f"Content-Type: multipart/form-data; boundary=b\r\nUser-Agent: {SECRET}\r\n"
        head += f"X-Forwarded-For: {CLIENT}\r\n\r\n"
        connection.sendall(head.encode() + body[: None if complete else len(body) // 2])
        if complete:
            return parse_responses(read_responses(connection, time.monotonic() + 10, 1))[0]
        return Response(0, {}, b"")


def events(daemon: Daemon) -> list[str]:
    """One of each kind; the crash id of the report that is kept, and of the deferred one."""
    secret = [Part("Comments", SECRET.encode()), Part("log", SECRET.encode(), f"{SECRET}.log")]
    kept = post_from_afar(daemon.port, multipart([Part("ProductName", b"Fenix"), *secret], "b"))
    deferred = post_from_afar(daemon.port, multipart([Part("ProductName", b"Later"), *secret], "b"))
    rejected = post_from_afar(daemon.port, multipart([Part("ProductName", b"Never"), *secret], "b"))
    assert rejected.body == b"Discarded=rule_never"
    ignored = post_from_afar(daemon.port, multipart([Part("ProductName", b"Old"), *secret], "b"))
    assert ignored.body == b"Unsupported=1\n"
    refused = post_from_afar(daemon.port, multipart(secret, "another"))
    assert refused.body == b"Discarded=malformed_invalid_payload_structure"
    too_large = post_from_afar(daemon.port, bytes(200_000))
    assert too_large.status == 413
    post_from_afar(daemon.port, multipart([Part("ProductName", b"Fenix"), *secret], "b"), complete=False)
    until(lambda: "client_gone" in daemon.log())
    return [crash_id_in(kept), crash_id_in(deferred)]


RULES = "\n".join(
    f'[[rule]]\nname = "{name}"\nkey = "ProductName"\nequals = "{product}"\nresult = "{result}"\n'
    for name, product, result in [
        ("later", "Later", "defer"),
        ("never", "Never", "reject"),
        ("old", "Old", "ignore"),
        ("rest", "Fenix", "accept"),
    ]
)


def start(tmp_path: Path, form: str) -> Daemon:
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    port = free_port()
    toml = config(port, tmp_path / "root", submission="max_body_bytes = 100000\nmax_read_bytes = 100000")
    toml += f'\n[throttle]\nrules = "{rules}"\n[logging]\nformat = "{form}"\n'
    return Daemon(toml, port, tmp_path / "work")


EXPECTED = [
    r"{kept} kept: ACCEPT by rest, \d+ bytes, in {root} after [\d.]+ ms",
    r"{deferred} kept: DEFER by later, \d+ bytes, in {root} after [\d.]+ ms",
    r"REJECT by never: not kept, \d+ bytes",
    r"IGNORE by old: not kept, \d+ bytes",
    r"refused: 400 invalid_payload_structure",
    r"refused: 413 too_large",
    r"refused: client_gone",
]


def test_text(tmp_path: Path) -> None:
    with start(tmp_path, "text") as daemon:
        until(lambda: "taking crash reports" in daemon.log())
        before = daemon.log()
        kept, deferred = events(daemon)
        lines = daemon.log().removeprefix(before).splitlines()
        assert daemon.stop() < 0
    assert len(lines) == len(EXPECTED), lines
    for line, expected in zip(lines, EXPECTED, strict=True):
        pattern = expected.format(kept=kept, deferred=deferred, root=re.escape(str(tmp_path / "root")))
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S+ \[collectord\.\S+#info\] " + pattern, line), line
    assert CLIENT not in daemon.log()
    assert SECRET not in daemon.log()
    assert "Traceback" not in daemon.log()


def test_who_sends_what_is_not_kept(tmp_path: Path) -> None:
    daemon = start(tmp_path, "json")
    daemon.toml = daemon.toml.replace("[submission]", "[submission]\nrecord_address = true\ntrusted_proxies = []", 1)
    with daemon:
        until(lambda: "taking crash reports" in daemon.log())
        before = daemon.log()
        kept, deferred = events(daemon)
        lines = [json.loads(line) for line in daemon.log().removeprefix(before).splitlines()]
    assert [line.get("client") for line in lines] == [None, None, CLIENT, CLIENT, CLIENT, CLIENT, None]
    assert [line["message"].endswith(f", from {CLIENT}") for line in lines] == ["client" in line for line in lines]
    for crash_id in (kept, deferred):
        metadata = stored_crashes(tmp_path / "root")[crash_id].raw_crash["metadata"]
        assert isinstance(metadata, dict)
        assert metadata["client_address"] == CLIENT


def test_json(tmp_path: Path) -> None:
    with start(tmp_path, "json") as daemon:
        until(lambda: "taking crash reports" in daemon.log())
        before = daemon.log()
        kept, deferred = events(daemon)
        lines = [json.loads(line) for line in daemon.log().removeprefix(before).splitlines()]
        assert daemon.stop() < 0
    assert [line["message"].split(":")[0].split(",")[0] for line in lines] == [
        f"{kept} kept",
        f"{deferred} kept",
        "REJECT by never",
        "IGNORE by old",
        "refused",
        "refused",
        "refused",
    ]
    first = lines[0]
    assert (first["crash_id"], first["rule"], first["result"]) == (kept, "rest", "ACCEPT")
    assert (first["store"], first["level"]) == (str(tmp_path / "root"), "info")
    assert first["size"] > 0
    assert first["ms"] > 0
    assert [(line["status"], line["reason"]) for line in lines[4:6]] == [
        (400, "invalid_payload_structure"),
        (413, "too_large"),
    ]
    for line in daemon.log().splitlines():
        assert {"time", "level", "logger", "message"} <= json.loads(line).keys()
    assert CLIENT not in daemon.log()
    assert SECRET not in daemon.log()
