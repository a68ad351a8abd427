"""
Crashes posted to another collector: to a real daemon, in the open and over TLS, and to servers that are none.
"""

import hashlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from os import urandom
from pathlib import Path
from tracemalloc import get_traced_memory, start, stop
from typing import Any, TypeVar

import pytest
from attrs import define, evolve, field, frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import ValidationError
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import DefaultOpenSSLContextFactory
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from collectord.concurrency.threadpool import ThreadPool
from collectord.errors import ConfigError, StorageError
from collectord.interfaces import ICrashStorage
from collectord.model import Content, Crash, Dump
from collectord.pieces import Pieces, ReaderAt
from collectord.plugins import PluginContext
from collectord.storage.content import StoredFile
from collectord.storage.http.storage import HTTP, HttpCrashStorage
from tests.support.daemon import Daemon, config, free_port
from tests.support.disk import StoredCrash, problems, stored_crashes
from tests.unit.storage.stores import (
    CRASH_ID,
    DUMPS,
    NEIGHBOUR,
    STRANGER,
    error_of,
    in_reactor,
    logged_failures,
    make_crash,
    started,
)

T = TypeVar("T")

__all__ = ["logged_failures"]

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

TOKEN = "abracadabra"
NAME = "collector.example"
MIB = 1024 * 1024


@frozen
class Certificates:
    """
    @ivar ca: that made C{cert}, for C{NAME} and 127.0.0.1.
    @ivar stranger: another authority.
    """

    ca: Path
    stranger: Path
    cert: Path
    key: Path


def certificate(
    name: str, issuer: tuple[str, ec.EllipticCurvePrivateKey] | None = None
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """
    @param issuer: None: it is an authority itself.
    """
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    by, by_key = issuer or (name, key)
    names = x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ip_address("127.0.0.1"))])
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, by)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if issuer is not None:
        builder = builder.add_extension(names, critical=False)
    return builder.sign(by_key, hashes.SHA256()), key


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    directory = tmp_path_factory.mktemp("certificates")
    found = Certificates(*(directory / f"{name}.pem" for name in ("ca", "stranger", "cert", "key")))
    ca, ca_key = certificate("an authority")
    cert, key = certificate(NAME, ("an authority", ca_key))
    for path, made in ((found.ca, ca), (found.stranger, certificate("another")[0]), (found.cert, cert)):
        path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    found.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return found


@frozen
class Other:
    """The other collector."""

    daemon: Daemon
    tls_port: int
    root: Path

    def url(self, tls: bool) -> str:
        return f"https://127.0.0.1:{self.tls_port}/submit" if tls else self.daemon.url("/submit")

    def kept(self) -> dict[str, StoredCrash]:
        assert problems(self.root) == []
        return stored_crashes(self.root)


@pytest.fixture
def other(tmp_path: Path, certificates: Certificates) -> Iterator[Other]:
    port, tls_port, root = free_port(), free_port(), tmp_path / "other"
    tcp = f"tcp:{port}:interface=127.0.0.1"
    tls = f"ssl:{tls_port}:interface=127.0.0.1:privateKey={certificates.key}:certKey={certificates.cert}"
    toml = config(port, root, submission=f'submitter_token = "{TOKEN}"')
    with Daemon(toml.replace(f'"{tcp}"', f'"{tcp}", "{tls}"'), port, tmp_path) as daemon:
        yield Other(daemon, tls_port, root)
    assert "Traceback" not in daemon.log()


def store_at(url: str, **settings: Any) -> HttpCrashStorage:
    from twisted.internet import reactor

    made = HTTP.make(HTTP.settings.model_validate({"type": "http", "url": url, **settings}), PluginContext(reactor))
    assert isinstance(made, HttpCrashStorage)
    return made


def secure(other: Other, certificates: Certificates, **settings: Any) -> HttpCrashStorage:
    return store_at(other.url(True), **({"token": TOKEN, "ca_file": str(certificates.ca)} | settings))


async def pause(seconds: float) -> None:
    from twisted.internet import reactor

    await deferLater(reactor, seconds, lambda: None)


@define(eq=False)
class Made:
    """
    A dump that is made while it is read.

    @ivar meanwhile: called before each piece, with its number.
    @ivar asked: how many pieces were asked for.
    """

    count: int
    piece: bytes = b"x" * MIB
    meanwhile: Callable[[int], object] = lambda number: None
    asked: int = 0

    async def chunks(self) -> AsyncIterator[bytes]:
        for number in range(self.count):
            self.asked += 1
            await pause(0)
            self.meanwhile(number)
            yield bytes(bytearray(self.piece))

    async def examine(self, work: Callable[[ReaderAt], T]) -> T:
        return work(Pieces([self.piece] * self.count))

    def crash(self, crash_id: str = CRASH_ID) -> Crash:
        digest = hashlib.sha256()
        for _ in range(self.count):
            digest.update(self.piece)
        size = self.count * len(self.piece)
        dump = Dump(name="upload_file_minidump", size=size, sha256=digest.hexdigest(), content=self)
        return Crash(crash_id=crash_id, raw_crash={"ProductName": "Fenix", "uuid": crash_id}, dumps=[dump])


TLS = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
GZIP = pytest.mark.parametrize("gzip", [False, True], ids=["identity", "gzip"])


@TLS
@GZIP
@in_reactor
async def test_it_arrives_whole(other: Other, certificates: Certificates, tls: bool, gzip: bool) -> None:
    settings = {"ca_file": str(certificates.ca)} if tls else {}
    store = store_at(other.url(tls), token=TOKEN, gzip=gzip, **settings)
    assert verifyObject(ICrashStorage, store)
    annotations: dict[str, Any] = {'odd "name"': "a\r\nb", "Größe": "ü", "Empty": "", "Extensions": ["a", 1], "n": 7}
    crash = make_crash(**annotations)
    notes = ["log: 7 bytes, left out: the report is too large", "Gr\u00f6\u00dfe: cut"]
    crash = evolve(crash, raw_crash={**crash.raw_crash, "metadata": {"collector_notes": notes}})
    assert await store.save(crash) == store.name == other.url(tls)
    assert await store.save(crash) == store.name
    kept = other.kept()[CRASH_ID]
    assert kept.dumps == DUMPS
    expected = {**annotations, "ProductName": "Fenix", "uuid": CRASH_ID, "Extensions": '["a", 1]', "n": "7"}
    assert expected.items() <= kept.raw_crash.items()
    metadata: Any = kept.raw_crash["metadata"]
    assert metadata["dump_checksums"] == {dump.name: dump.sha256 for dump in crash.dumps}
    assert metadata["payload_compressed"] == ("1" if gzip else "0")
    assert metadata["collector_notes"] == notes


@in_reactor
async def test_more_annotations_than_parts_are_allowed(other: Other) -> None:
    many: dict[str, Any] = {f"Name{number}": f"v\u00e4lue {number}" for number in range(1500)}
    crash = make_crash(**many)
    await store_at(other.url(False), token=TOKEN).save(crash)
    kept = other.kept()[crash.crash_id]
    assert {name: kept.raw_crash[name] for name in many} == many


@in_reactor
async def test_many_at_once(other: Other, certificates: Certificates) -> None:
    store = secure(other, certificates, connections=3)
    ids = [f"{number:08x}{CRASH_ID[8:]}" for number in range(20)]
    await gatherResults([started(store.save(make_crash(crash_id))) for crash_id in ids])
    assert set(other.kept()) == set(ids)


@TLS
@GZIP
@in_reactor
async def test_memory_stays_flat(other: Other, certificates: Certificates, tls: bool, gzip: bool) -> None:
    settings = {"ca_file": str(certificates.ca)} if tls else {}
    store = store_at(other.url(tls), token=TOKEN, gzip=gzip, **settings)
    made = Made(20)
    crash = made.crash()
    await store.check()
    start()
    try:
        before, _ = get_traced_memory()
        await store.save(crash)
        _, peak = get_traced_memory()
    finally:
        stop()
    assert peak - before < 6 * MIB
    assert len(other.kept()[CRASH_ID].dumps["upload_file_minidump"]) == 20 * MIB


@in_reactor
async def test_check(other: Other, certificates: Certificates) -> None:
    assert await store_at(other.url(False)).check() == {}
    assert await secure(other, certificates).check() == {}
    assert await secure(other, certificates, server_name=NAME).check() == {}
    assert other.kept() == {}


@in_reactor
async def test_wrong_token(other: Other) -> None:
    for token in ("", "wrong"):
        error = await error_of(store_at(other.url(False), token=token).save(make_crash()))
        assert isinstance(error, StorageError)
        message = f"{other.url(False)}: answered 401 Discarded=unauthorized_uuid: is the token right?"
        assert str(error) == message
    assert other.kept() == {}


@in_reactor
async def test_a_check_takes_no_connection_from_a_crash(other: Other) -> None:
    # The answer to a check is not read, and its connection may be another's when that is noticed.
    store = store_at(other.url(False), token="wrong")
    message: set[str] = set()

    async def save() -> None:
        for _ in range(20):
            message.add(str(await error_of(store.save(make_crash()))))

    async def check() -> None:
        for _ in range(100):
            await store.check()

    for work in [Deferred.fromCoroutine(each) for each in (save(), save(), save(), save(), check())]:
        await work
    assert message == {f"{other.url(False)}: answered 401 Discarded=unauthorized_uuid: is the token right?"}


@in_reactor
async def test_certificates_are_verified(other: Other, certificates: Certificates) -> None:
    url = other.url(True)
    pinned = secure(other, certificates, server_name=NAME)
    await pinned.save(make_crash())
    wrong_name = secure(other, certificates, server_name="elsewhere.example")
    untrusted = secure(other, certificates, ca_file=str(certificates.stranger))
    systems = store_at(url, token=TOKEN)
    for store, message in (
        (wrong_name, "its certificate is not for elsewhere.example"),
        (untrusted, "TLS failed: certificate verify failed: its certificate is not trusted"),
        (systems, "TLS failed: certificate verify failed: its certificate is not trusted"),
    ):
        for work in (store.check(), store.save(make_crash(NEIGHBOUR))):
            error = await error_of(work)
            assert isinstance(error, StorageError)
            assert str(error).startswith(f"{store.name}: {message}")
    assert set(other.kept()) == {CRASH_ID}


@in_reactor
async def test_nobody_listens() -> None:
    store = store_at(f"http://127.0.0.1:{free_port()}/submit")
    for work in (store.check(), store.save(make_crash())):
        error = await error_of(work)
        assert isinstance(error, StorageError)
        assert str(error) == f"{store.name}: Connection was refused by other side: 111: Connection refused"
    error = await error_of(store_at("http://nowhere.invalid/submit").check())
    assert isinstance(error, StorageError)


@TLS
@in_reactor
async def test_killed_in_the_middle(other: Other, certificates: Certificates, tls: bool) -> None:
    settings = {"ca_file": str(certificates.ca)} if tls else {}
    store = store_at(other.url(tls), token=TOKEN, **settings)
    await store.save(make_crash(STRANGER))  # so that the connection is used again
    made = Made(20, meanwhile=lambda number: other.daemon.kill() if number == 10 else None)
    error = await error_of(store.save(made.crash()))
    assert isinstance(error, StorageError)
    assert str(error).startswith(f"{store.name}: Connection to the other side was lost")
    assert made.asked < 20
    other.daemon.start()
    assert set(other.kept()) == {STRANGER}
    await store.save(Made(20).crash())
    assert set(other.kept()) == {STRANGER, CRASH_ID}


@in_reactor
async def test_a_dump_that_is_another_by_now(other: Other) -> None:
    store = store_at(other.url(False), token=TOKEN)
    whole = Made(3).crash()
    contents: list[Content] = [Made(3, b"y" * MIB), Made(2), Made(4)]
    for content in contents:
        [dump] = whole.dumps
        spoiled = Dump(name=dump.name, size=dump.size, sha256=dump.sha256, content=content)
        error = await error_of(store.save(Crash(crash_id=CRASH_ID, raw_crash=whole.raw_crash, dumps=[spoiled])))
        assert isinstance(error, StorageError)
        assert str(error) == f"{store.name}: the dump {dump.name} no longer has the checksum that it was received with"
    assert other.kept() == {}
    await store.save(whole)
    assert set(other.kept()) == {CRASH_ID}


@in_reactor
async def test_a_dump_on_disk(other: Other, tmp_path: Path) -> None:
    from twisted.internet import reactor

    in_thread = ThreadPool("read", 2, reactor.callFromThread)  # type: ignore[attr-defined]
    path, content = tmp_path / "dump", urandom(20 * MIB - 7)
    path.write_bytes(content)
    stored = {"upload_file_minidump": StoredFile(str(path), len(content), in_thread)}
    store = store_at(other.url(False), token=TOKEN)
    await store.save(make_crash(dumps={"upload_file_minidump": content}, places=stored))
    assert other.kept()[CRASH_ID].dumps == {"upload_file_minidump": content}
    path.write_bytes(content[: 5 * MIB])
    spoiled = make_crash(NEIGHBOUR, dumps={"upload_file_minidump": content}, places=stored)
    error = await error_of(store.save(spoiled))
    assert isinstance(error, StorageError)
    assert str(error) == f"{store.name}: {path}: the file is shorter than it was"
    assert set(other.kept()) == {CRASH_ID}


HEAD, BODY, NEVER = b"\r\n\r\n", b"--\r\n", b"\0never"


@define(eq=False)
class Fake:
    """
    A server on which nothing is right, if it is told so.

    @ivar answer: to each post.
    @ivar after: what it waits for in what it is sent.
    @ivar close: hang up then.
    @ivar reads: at all.
    @ivar connections: how many there were.
    @ivar gone: fires when a connection has ended.
    """

    answer: bytes
    after: bytes = BODY
    close: bool = False
    reads: bool = True
    connections: int = 0
    gone: Deferred[None] = field(factory=Deferred)
    reached: Deferred[None] = field(factory=Deferred)
    received: int = 0

    def protocol(self) -> Protocol:
        fake = self

        class Server(Protocol):
            seen = b""

            def connectionMade(self) -> None:
                fake.connections += 1

            def dataReceived(self, data: bytes) -> None:
                fake.received += len(data)
                self.seen = self.seen[-8:] + data
                if not fake.reached.called:
                    fake.reached.callback(None)
                assert self.transport is not None
                if fake.after in self.seen:
                    self.seen = b""
                    self.transport.write(fake.answer)
                    if fake.close:
                        self.transport.loseConnection()
                if not fake.reads:
                    self.transport.pauseProducing()  # type: ignore[attr-defined]

            def connectionLost(self, reason: Failure = connectionDone) -> None:
                if not fake.gone.called:
                    fake.gone.callback(None)

        return Server()

    def listen(self, tls: Certificates | None = None, interface: str = "127.0.0.1") -> Any:
        from twisted.internet import reactor

        factory: Any = Factory()
        factory.buildProtocol = lambda address: self.protocol()
        listening: Any = reactor
        if tls is None:
            return listening.listenTCP(0, factory, interface=interface)
        context = DefaultOpenSSLContextFactory(str(tls.key), str(tls.cert))
        return listening.listenSSL(0, factory, context, interface=interface)


def response(status: str, body: str, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


RECEIPT = response("200 OK", f"CrashID=bp-{CRASH_ID}\n")
LOST = "Connection to the other side was lost in a non-clean fashion"


async def saved_to(fake: Fake, crash: Crash | None = None, tls: Certificates | None = None, **settings: Any) -> str:
    """What it says to a crash; nothing where it is kept."""
    port = fake.listen(tls)
    if tls is not None:
        settings["ca_file"] = str(tls.ca)
    try:
        store = store_at(f"http{'s' if tls else ''}://127.0.0.1:{port.getHost().port}/submit", token=TOKEN, **settings)
        try:
            await store.save(crash or make_crash())
        except StorageError as error:
            return str(error).removeprefix(f"{store.name}: ")
        return ""
    finally:
        await port.stopListening()


@pytest.mark.parametrize(
    ("fake", "message"),
    [
        (Fake(RECEIPT), ""),
        (Fake(response("200 OK", f"CrashID={CRASH_ID}")), ""),
        (Fake(b"HTTP/1.0 200 OK\r\n\r\n" + f"CrashID=bp-{CRASH_ID}\n".encode(), close=True), ""),
        (Fake(response("200 OK", f"CrashID=bp-{NEIGHBOUR}\n")), f"answered 200 CrashID=bp-{NEIGHBOUR}"),
        (Fake(response("200 OK", "Discarded=rule_x")), "answered 200 Discarded=rule_x"),
        (Fake(response("200 OK", "Unsupported=1\n")), "answered 200 Unsupported=1"),
        (Fake(response("200 OK", "")), "answered 200"),
        (Fake(response("201 Created", f"CrashID=bp-{CRASH_ID}\n")), f"answered 201 CrashID=bp-{CRASH_ID}"),
        (Fake(response("302 Found", "", "Location: /elsewhere")), "answered 302, a redirect, which is not followed"),
        (Fake(response("400 Bad", "Discarded=malformed_x")), "answered 400 Discarded=malformed_x"),
        (Fake(response("503 Unavailable", "a\nb\x1b[0m" + "c" * 200)), "answered 503 a b?[0m" + "c" * 93),
        (Fake(response("200 OK", "x" * 5000)), "answered with more than 4096 bytes, so it is no collector"),
        (Fake(RECEIPT[:-20], close=True), "hung up before its answer was complete"),
        (Fake(b"HTTP/1.1 200 OK\r\nContent-Len", close=True), "hung up before its answer was complete"),
        (Fake(b"HTTP/1.1 two hundred\r\n\r\n"), "its answer is no HTTP (ParseError)"),
        (Fake(b"SSH-2.0-OpenSSH_9.2\r\n", HEAD), "its answer is no HTTP (ParseError)"),
        (Fake(b"", close=True), "hung up before its answer was complete"),
        (
            Fake(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
            "its answer is no HTTP (_MalformedChunkedDataError)",
        ),
    ],
    ids=lambda value: value.answer[:60] if isinstance(value, Fake) else "",
)
@in_reactor
async def test_answers(fake: Fake, message: str) -> None:
    assert await saved_to(fake) == message


@TLS
@GZIP
@pytest.mark.parametrize("reads", [True, False])
@in_reactor
async def test_an_answer_before_the_end_stops_the_post(
    certificates: Certificates, tls: bool, gzip: bool, reads: bool
) -> None:
    fake = Fake(response("413 Too Large", "Discarded=too_large"), HEAD, reads=reads)
    made = Made(20, urandom(MIB))
    message = await saved_to(fake, made.crash(), certificates if tls else None, gzip=gzip)
    assert message == "answered 413 Discarded=too_large"
    if reads:
        await fake.gone
    assert made.asked < 12
    await pause(0.1)
    assert made.asked < 12


@TLS
@in_reactor
async def test_too_large_for_a_real_collector(other: Other, certificates: Certificates, tls: bool) -> None:
    settings = {"ca_file": str(certificates.ca)} if tls else {}
    store = store_at(other.url(tls), token=TOKEN, **settings)
    error = await error_of(store.save(Made(30).crash()))
    assert isinstance(error, StorageError)
    assert str(error) == f"{store.name}: answered 413 Discarded=too_large"
    await store.save(make_crash())
    assert set(other.kept()) == {CRASH_ID}


@in_reactor
async def test_an_ipv6_address_and_a_query() -> None:
    fake = Fake(RECEIPT)
    port = fake.listen(interface="::1")
    store = store_at(f"http://[::1]:{port.getHost().port}?from=here")
    await store.save(make_crash())
    await port.stopListening()
    await store._pool.closeCachedConnections()


@in_reactor
async def test_a_server_that_hung_up_meanwhile() -> None:
    fake = Fake(RECEIPT, close=True)
    port = fake.listen()
    store = store_at(f"http://127.0.0.1:{port.getHost().port}/submit")
    for _ in range(3):
        await store.save(make_crash())
        await pause(0.05)
    assert fake.connections == 3
    await port.stopListening()


@in_reactor
async def test_a_server_without_tls() -> None:
    port = Fake(b"HTTP/1.1 400 Bad Request\r\n\r\n", b"").listen()
    store = store_at(f"https://127.0.0.1:{port.getHost().port}/submit", token=TOKEN)
    for work in (store.check(), store.save(make_crash())):
        error = await error_of(work)
        assert isinstance(error, StorageError)
        assert str(error).startswith(f"{store.name}: TLS failed: ")
    await port.stopListening()


@in_reactor
async def test_a_connection_is_used_again() -> None:
    fake = Fake(RECEIPT)
    port = fake.listen()
    store = store_at(f"http://127.0.0.1:{port.getHost().port}/submit")
    for _ in range(3):
        await store.save(make_crash())
    assert fake.connections == 1
    await gatherResults([started(store.save(make_crash())) for _ in range(20)])
    assert fake.connections <= 8
    await port.stopListening()
    await store._pool.closeCachedConnections()


@pytest.mark.parametrize(
    ("crash", "reads"), [(make_crash(), True), (Made(20).crash(), True), (Made(20).crash(), False)]
)
@in_reactor
async def test_cancelled(crash: Crash, reads: bool) -> None:
    """While it waits for the answer, and while it sends."""
    fake = Fake(b"", NEVER, reads=reads)
    port = fake.listen()
    saving = started(store_at(f"http://127.0.0.1:{port.getHost().port}/submit").save(crash))
    await fake.reached
    await pause(0.2)
    assert not saving.called
    saving.cancel()
    assert isinstance(await error_of(saving), CancelledError)
    if reads:
        await fake.gone
    await port.stopListening()


@in_reactor
async def test_who_does_not_read_is_not_read_for() -> None:
    fake = Fake(b"", NEVER, reads=False)
    port = fake.listen()
    made = Made(200, b"z" * MIB)
    saving = started(store_at(f"http://127.0.0.1:{port.getHost().port}/submit").save(made.crash()))
    await fake.reached
    await pause(0.5)
    asked = made.asked
    assert asked < 20  # what the sockets hold, and two
    await pause(0.2)
    assert made.asked == asked
    saving.cancel()
    await error_of(saving)
    await port.stopListening()


@in_reactor
async def test_cancelled_within_the_answer() -> None:
    fake = Fake(RECEIPT[:-20])
    port = fake.listen()
    saving = started(store_at(f"http://127.0.0.1:{port.getHost().port}/submit").save(make_crash()))
    await pause(0.2)
    assert not saving.called
    saving.cancel()
    assert isinstance(await error_of(saving), CancelledError)
    await fake.gone
    await port.stopListening()


@pytest.fixture
def deaf() -> Iterator[str]:
    """Where no connection is accepted, nor refused."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listening.getsockname())
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/submit"
        for filler in fillers:
            filler.close()


@in_reactor
async def test_cancelled_before_it_is_connected(deaf: str) -> None:
    saving = started(store_at(deaf).save(make_crash()))
    await pause(0.1)
    saving.cancel()
    assert isinstance(await error_of(saving), CancelledError)


@in_reactor
async def test_no_connection_in_time(deaf: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collectord.storage.http.storage._CONNECT_S", 0.2)
    error = await error_of(store_at(deaf).save(make_crash()))
    assert isinstance(error, StorageError)
    assert str(error) == f"{deaf}: no connection within 0.2 s"


@in_reactor
async def test_cancelled_while_it_waits_for_a_connection() -> None:
    fake = Fake(RECEIPT, NEVER)
    port = fake.listen()
    store = store_at(f"http://127.0.0.1:{port.getHost().port}/submit", connections=1)
    first, second, third = (started(store.save(make_crash())) for _ in range(3))
    await fake.reached
    second.cancel()
    assert isinstance(await error_of(second), CancelledError)
    assert fake.connections == 1
    fake.after = BODY
    first.cancel()
    assert isinstance(await error_of(first), CancelledError)
    assert await third == store.name
    assert fake.connections == 2
    await port.stopListening()
    await store._pool.closeCachedConnections()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (response("200 OK", "hello"), None),
        (response("404 Not Found", "x" * 10000), None),
        (response("405 Method Not Allowed", "", "Allow: POST"), None),
        (response("500 Internal", "oops\n"), "answered 500 oops"),
        (response("503 Unavailable", "x" * 9000), "answered 503 " + "x" * 100),
    ],
)
@in_reactor
async def test_check_of_others(answer: bytes, message: str | None) -> None:
    port = Fake(answer, HEAD).listen()
    store = store_at(f"http://127.0.0.1:{port.getHost().port}/submit")
    if message is None:
        assert await store.check() == {}
    else:
        error = await error_of(store.check())
        assert isinstance(error, StorageError)
        assert str(error) == f"{store.name}: {message}"
    await port.stopListening()
    await store._pool.closeCachedConnections()


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "ftp://x/"},
        {"url": "HTTPS://x/"},
        {"url": "http:///submit"},
        {"url": "http://x:0/"},
        {"url": "http://x/ y"},
        {"url": "http://x/\r\nHost: y"},
        {"url": "http://b\u00fccher/"},
        {"url": "http://[::zz]/"},
        {"url": "http://x:99999/"},
        {"url": "http://user:secret@x/"},
        {"url": "http://x/", "ca_file": "/x"},
        {"url": "http://x/", "server_name": "y"},
        {"url": "http://x/", "token": "a\r\nb"},
        {"url": "http://x/", "connections": 0},
        {"url": "http://x/", "unknown": 0},
    ],
)
def test_settings_that_are_wrong(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as error:
        HTTP.settings.model_validate({"type": "http", **wrong})
    assert "secret" not in str(error.value)


def test_the_token_is_not_shown() -> None:
    assert "secret" not in repr(HTTP.settings.model_validate({"type": "http", "url": "http://x/", "token": "secret"}))


@pytest.mark.parametrize("name", ["a..b", "a_b", "-a", "*.x.org", "a b"])
def test_a_name_that_no_host_can_bear(name: str) -> None:
    with pytest.raises(ConfigError, match="can't be a host's name"):
        store_at("https://x/", server_name=name)
    if " " not in name:
        for scheme in ("http", "https"):
            with pytest.raises(ConfigError, match="can't be a host's name"):
                store_at(f"{scheme}://{name}/")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"", "no PEM certificate"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "ca_file"),
    ],
)
def test_a_ca_file_that_is_wrong(tmp_path: Path, content: bytes | None, message: str) -> None:
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        store_at("https://x/submit", ca_file=str(ca_file))
