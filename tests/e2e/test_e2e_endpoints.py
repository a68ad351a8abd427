"""
Other ways in than TCP: TLS and a unix socket.
"""

import shutil
import socket
import ssl
import subprocess
import time
import warnings
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


@pytest.fixture(scope="module", params=[1, 2], ids=["alone", "workers"])
def ways(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Ways]:
    workdir = tmp_path_factory.mktemp("ways")
    key, certificate, path = workdir / "key.pem", workdir / "certificate.pem", workdir / "socket"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command, *names], check=True, capture_output=True)
    port, tls = free_port(), free_port()
    toml = config(port, workdir / "root", submission=f"workers = {request.param}\nmax_read_bytes = {LIMIT}").replace(
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


def test_tls_a_client_that_does_not_know_the_certificate_says_nothing(ways: Ways) -> None:
    context = ssl.create_default_context()
    with (
        socket.create_connection(("127.0.0.1", ways.tls), 20) as plain,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        context.wrap_socket(plain, server_hostname="localhost")


@pytest.mark.parametrize(
    ("version", "ciphers"),
    [
        (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1_2, "AES256-SHA256:AES128-SHA:@SECLEVEL=0"),  # no forward secrecy
    ],
    ids=["TLS 1.1", "RSA key exchange"],
)
def test_tls_that_is_old_is_refused(ways: Ways, version: ssl.TLSVersion, ciphers: str) -> None:
    context = ssl.create_default_context(cafile=str(ways.certificate))
    context.set_ciphers(ciphers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    with socket.create_connection(("127.0.0.1", ways.tls), 20) as plain, pytest.raises((ssl.SSLError, OSError)):
        context.wrap_socket(plain, server_hostname="localhost")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_tls_of_today(ways: Ways, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context(cafile=str(ways.certificate))
    context.minimum_version = context.maximum_version = version
    with (
        socket.create_connection(("127.0.0.1", ways.tls), 20) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        cipher = connection.cipher()
        assert cipher is not None
        assert "GCM" in cipher[0] or "CHACHA20" in cipher[0]


def test_a_directory_of_certificates(tmp_path: Path) -> None:
    port, tls, certificates = free_port(), free_port(), tmp_path / "certificates"
    certificates.mkdir()
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command, *names], check=True, capture_output=True)
    (certificates / "localhost.pem").write_bytes(certificate.read_bytes() + key.read_bytes())
    toml = config(port, tmp_path / "root").replace(
        'interface=127.0.0.1"]', f'interface=127.0.0.1", "tls:{certificates}:port={tls}:interface=127.0.0.1"]'
    )
    body = tmp_path / "body"
    body.write_bytes(make_report("tls", 1000).body())
    with Daemon(toml, port, tmp_path / "work"):
        options = ["--cacert", str(certificate), "--resolve", f"localhost:{tls}:127.0.0.1"]
        status, _ = curl(f"https://localhost:{tls}/submit", *options, *MULTIPART, "--data-binary", f"@{body}")
    assert status == 200
