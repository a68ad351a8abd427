"""
Of a queue's certificate it is said in words why it is refused; files for TLS that can't be used stop the start.
"""

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from collectord.errors import ConfigError
from collectord.publish.tls import TlsSettings, client_options, tls_error_in_words
from collectord.testing.running import in_reactor
from tests.support.certificates import Authority

Serving = Callable[..., int]


class Greets(BaseRequestHandler):
    """Says one word, and ends the connection."""

    def handle(self) -> None:
        try:
            self.request.do_handshake()
            self.request.sendall(b"hello")
        except OSError:
            pass


class TlsServer(ThreadingTCPServer):
    """Speaks TLS as C{context} says."""

    daemon_threads = True
    context: ssl.SSLContext

    def get_request(self) -> Any:
        connection, address = super().get_request()
        return self.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address


class Client(Protocol):
    """Notes what it hears, and how the connection ends."""

    def __init__(self) -> None:
        self.heard = b""
        self.ended: Deferred[Any] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended.callback(reason.value)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def stranger(authority: Authority) -> Authority:
    return Authority.make(authority.file.parent, "stranger")


@pytest.fixture
def serving(authority: Authority) -> Iterator[Serving]:
    servers = []

    def serve(certificate: Path, *, asks: bool = False) -> int:
        server = TlsServer(("127.0.0.1", 0), Greets)
        server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.context.load_cert_chain(certificate)
        if asks:
            server.context.verify_mode = ssl.CERT_REQUIRED
            server.context.load_verify_locations(authority.file)
        Thread(target=server.serve_forever, args=(0.002,), daemon=True).start()
        servers.append(server)
        return int(server.server_address[1])

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


async def connected(port: int, **files: Any) -> tuple[bytes, str]:
    """What was heard of the server, and what is said of the end of the connection."""
    options = client_options(TlsSettings(type="any", **files), "localhost")
    endpoint = wrapClientTLS(options, HostnameEndpoint(reactor, b"127.0.0.1", port))
    client = await connectProtocol(endpoint, Client())
    ended: Any = await client.ended
    return client.heard, tls_error_in_words(ended)


@in_reactor
async def test_a_certificate_that_is_right(serving: Serving, authority: Authority) -> None:
    port = serving(authority.sign(), asks=True)
    heard, _ = await connected(port, ca_file=authority.file, cert_file=authority.sign("client"))
    assert heard == b"hello"


@pytest.mark.parametrize(
    ("made", "why"),
    [
        pytest.param(lambda us, them: us.sign(days=-1), "refused: it has expired", id="expired"),
        pytest.param(lambda us, them: us.sign("elsewhere"), "is for another host", id="another host"),
        pytest.param(lambda us, them: them.sign(), "an authority has signed it that is not trusted", id="stranger"),
    ],
)
@in_reactor
async def test_a_certificate_that_is_not(
    serving: Serving, authority: Authority, stranger: Authority, made: Callable[..., Path], why: str
) -> None:
    heard, said = await connected(serving(made(authority, stranger)), ca_file=authority.file)
    assert heard == b""
    assert why in said


@pytest.mark.parametrize(
    ("signs", "why"),
    [
        pytest.param("nobody", "the server wants to see a certificate: cert_file", id="none shown"),
        pytest.param("stranger", "the server does not trust cert_file", id="of a stranger"),
    ],
)
@in_reactor
async def test_a_server_that_wants_a_certificate(
    serving: Serving, authority: Authority, stranger: Authority, signs: str, why: str
) -> None:
    files = {"cert_file": stranger.sign("client")} if signs == "stranger" else {}
    _, said = await connected(serving(authority.sign(), asks=True), ca_file=authority.file, **files)
    assert why in said


def test_another_error_is_none_of_tls() -> None:
    assert tls_error_in_words(OSError("no route")) == ""


def no_file(authority: Authority) -> Path:
    return authority.file.with_name("gone.pem")


def no_certificate(authority: Authority) -> Path:
    path = authority.file.with_name("words.pem")
    path.write_text("no certificate")
    return path


@pytest.mark.parametrize(
    ("files", "why"),
    [
        pytest.param(lambda it: {"ca_file": no_file(it)}, "ca_file = .*No such file", id="no file of an authority"),
        pytest.param(lambda it: {"ca_file": no_certificate(it)}, "ca_file = .*no PEM file", id="no authority in it"),
        pytest.param(lambda it: {"cert_file": no_file(it)}, "cert_file = .*No such file", id="no certificate"),
        pytest.param(lambda it: {"cert_file": it.file}, "cert_file = .*no PEM file", id="no key"),
        pytest.param(
            lambda it: {"cert_file": it.sign("one"), "key_file": it.sign("two")},
            "cert_file = .*key_file = .*key values mismatch",
            id="the key of another certificate",
        ),
    ],
)
def test_files_that_can_not_be_used(authority: Authority, files: Callable[[Authority], Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        client_options(TlsSettings(type="any", **files(authority)), "localhost")


def test_a_key_needs_a_certificate(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="key_file needs cert_file"):
        TlsSettings(type="any", key_file=tmp_path)
