"""
Other ways in than TCP: TLS and a unix socket.
"""

import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import frozen

from tests.support.daemon import Daemon, config, free_port
from tests.support.disk import problems, stored_crashes
from tests.support.http import curl, read_responses
from tests.support.reports import HEADERS, crash_id_in, is_whole, make_report
from tests.support.response import Response, parse_responses

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("curl") is None, reason="no curl"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate"),
]

LIMIT = 26214400
MULTIPART = ["-H", f"Content-Type: {HEADERS['Content-Type']}"]


@frozen
class Ways:
    """
    A daemon with three ways in.

    @ivar tls: its port.
    """

    daemon: Daemon
    tls: int
    certificate: Path
    socket: Path

    @property
    def root(self) -> Path:
        return self.daemon.workdir / "root"


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    workdir = tmp_path_factory.mktemp("ways")
    key, certificate, path = workdir / "key.pem", workdir / "certificate.pem", workdir / "socket"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command, *names], check=True, capture_output=True)
    port, tls = free_port(), free_port()
    toml = config(port, workdir / "root").replace(
        'interface=127.0.0.1"]',
        f'interface=127.0.0.1", "ssl:{tls}:privateKey={key}:certKey={certificate}:interface=127.0.0.1", "unix:{path}"]',
    )
    with Daemon(toml, port, workdir) as daemon:
        yield Ways(daemon, tls, certificate, path)
        assert daemon.stop() < 0
    assert problems(workdir / "root") == []
    assert "Traceback" not in daemon.log()
    assert not path.exists()


def send_all_then_read(ways: Ways, header: str, size: int) -> Response:
    context = ssl.create_default_context(cafile=str(ways.certificate))
    with (
        socket.create_connection(("127.0.0.1", ways.tls), 20) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        head = f"POST /submit HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n{header}\r\n\r\n"
        connection.sendall(head.encode() + bytes(size))
        return parse_responses(read_responses(connection, time.monotonic() + 20, 1))[0]


@pytest.mark.parametrize("size", [1_000, 3_000_000])
def test_tls(ways: Ways, tmp_path: Path, size: int) -> None:
    body = tmp_path / "body"
    body.write_bytes(make_report("tls", size).body())
    url = f"https://localhost:{ways.tls}/submit"
    options = ["--cacert", str(ways.certificate), "--resolve", f"localhost:{ways.tls}:127.0.0.1"]
    crash_id = crash_id_in(curl(*options, *MULTIPART, "--data-binary", f"@{body}", url))
    assert is_whole(stored_crashes(ways.root)[crash_id])


def test_tls_too_large_read_by_curl(ways: Ways, tmp_path: Path) -> None:
    body = tmp_path / "body"
    with body.open("wb") as file:
        file.truncate(LIMIT + 1)
    url = f"https://localhost:{ways.tls}/submit"
    options = ["--cacert", str(ways.certificate), "--resolve", f"localhost:{ways.tls}:127.0.0.1", "-H", "Expect:"]
    assert curl(*options, *MULTIPART, "-T", str(body), "-X", "POST", url) == (413, b"Discarded=too_large")


def test_tls_too_large_read_after_all_was_sent(ways: Ways) -> None:
    answer = send_all_then_read(ways, f"Content-Type: {HEADERS['Content-Type']}", LIMIT + 1)
    assert (answer.status, answer.body) == (413, b"Discarded=too_large")


def test_tls_a_wrong_type_read_after_all_was_sent(ways: Ways) -> None:
    answer = send_all_then_read(ways, "Accept: */*", 9_000_000)
    assert (answer.status, answer.body) == (400, b"Discarded=malformed_no_content_type")


@pytest.mark.parametrize("size", [1_000, 3_000_000])
def test_unix_socket(ways: Ways, tmp_path: Path, size: int) -> None:
    body = tmp_path / "body"
    body.write_bytes(make_report("unix", size).body())
    options = ["--unix-socket", str(ways.socket), *MULTIPART]
    crash_id = crash_id_in(curl(*options, "--data-binary", f"@{body}", "http://localhost/submit"))
    assert is_whole(stored_crashes(ways.root)[crash_id])


def test_unix_socket_too_large(ways: Ways, tmp_path: Path) -> None:
    body = tmp_path / "body"
    with body.open("wb") as file:
        file.truncate(LIMIT + 1)
    options = ["--unix-socket", str(ways.socket), *MULTIPART, "-H", "Expect:"]
    answer = curl(*options, "-T", str(body), "-X", "POST", "http://localhost/submit")
    assert answer == (413, b"Discarded=too_large")
