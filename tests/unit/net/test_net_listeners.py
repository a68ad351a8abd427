import socket
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest
from attrs import define, field
from twisted.internet.address import IPv4Address
from twisted.internet.protocol import ServerFactory

from collectord.errors import ConfigError
from collectord.net.listeners import CannotListen, Listeners
from collectord.net.ports import BACKLOG
from collectord.net.proxyheader import WithProxyHeaders
from tests.support.cases import for_each


@define(slots=False)
class Port:
    """Takes as many connections at once as it may."""

    numberAccepts: int = 100
    taken: int = 0
    host: str = "127.0.0.1"

    def getHost(self) -> Any:
        return IPv4Address("TCP", self.host, 1)

    def doRead(self) -> None:
        self.taken += self.numberAccepts
        self.numberAccepts += 20

    def stopReading(self) -> None:
        """Take none."""

    startReading = stopReading


@define
class Reactor:
    """Remembers what it was asked for."""

    asked: list[tuple[Any, ...]] = field(factory=list)
    error: Exception | None = None

    def listenTCP(self, port: int, factory: Any, backlog: int, interface: str) -> Any:
        return self._ask("tcp", port, factory, backlog, interface)

    def listenUNIX(self, address: str, factory: Any, backlog: int, mode: int, wantPID: bool) -> Any:
        return self._ask("unix", address, factory, backlog, mode)

    def adoptStreamPort(self, descriptor: int, family: int, factory: Any) -> Any:
        return self._ask("adopted", descriptor, family, factory)

    def _ask(self, *what: Any) -> Any:
        if self.error is not None:
            raise self.error
        self.asked.append(what)
        return Port()


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls") / "server.pem", "one")


def make_certificate(path: Path, name: str) -> Path:
    key = path.with_suffix(".key")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*command, "-keyout", key, "-out", path], check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + key.read_bytes())
    return path


def test_opened() -> None:
    reactor, factory = Reactor(), ServerFactory()
    listeners = Listeners(["tcp:80:interface=127.0.0.1", "tcp:81:backlog=7", "unix:/x:mode=600"], "s", reactor)
    assert reactor.asked == []
    listeners.open(factory)
    assert reactor.asked == [
        ("tcp", 80, factory, BACKLOG, "127.0.0.1"),
        ("tcp", 81, factory, 7, ""),
        ("unix", "/x", factory, BACKLOG, 0o600),
    ]
    assert len(listeners.ports) == 3


@pytest.fixture
def inherited() -> list[tuple[int, int]]:
    sockets = [socket.socket() for _ in range(3)]
    return [(each.detach(), int(socket.AF_INET)) for each in sockets]


def test_adopted(inherited: list[tuple[int, int]], pem: Path) -> None:
    reactor, factory = Reactor(), ServerFactory()
    listen = ["tcp:80", f"ssl:81:privateKey={pem}", "systemd:domain=INET:name=http"]
    listeners = Listeners(listen, "s", reactor)
    listeners.adopt(factory, inherited)
    assert [what[:3] for what in reactor.asked] == [("adopted", *each) for each in inherited]
    for port in cast(list[Any], listeners.ports):
        for _ in range(3):
            port.doRead()
        assert port.taken == 3  # the others may have the next
    assert reactor.asked[0][3] is reactor.asked[2][3] is factory
    assert reactor.asked[1][3].wrappedFactory is factory
    for descriptor, _ in inherited:
        with pytest.raises(OSError, match="Bad file descriptor"):
            socket.socket(fileno=descriptor)


def test_the_header_of_a_proxy_comes_before_tls(inherited: list[tuple[int, int]], pem: Path) -> None:
    reactor, factory = Reactor(), ServerFactory()
    listen = ["haproxy:tcp:80", f"haproxy:ssl:81:privateKey={pem}", "haproxy:systemd:domain=INET:name=http"]
    Listeners(listen[:2], "s", reactor).open(factory)
    assert [what[:2] for what in reactor.asked] == [("tcp", 80), ("tcp", 81)]
    Listeners(listen, "s", reactor).adopt(factory, inherited)
    factories = [what[2 if what[0] == "tcp" else 3] for what in reactor.asked]
    assert all(isinstance(each, WithProxyHeaders) for each in factories)
    plain, secure, *adopted = (each.wrappedFactory for each in factories)
    assert plain is adopted[0] is adopted[2] is factory
    assert secure.wrappedFactory is adopted[1].wrappedFactory is factory


def test_a_port_takes_a_few_connections_at_once() -> None:
    listeners = Listeners(["tcp:80"], "s", Reactor())
    (port,) = cast(list[Any], listeners.open(ServerFactory()))
    for _ in range(3):
        port.doRead()
    assert port.taken == 60


@for_each("wrong", ["carrier:pigeon", "tcp:nine", "tcp", "", "unix", "tcp:1:colour=red"])
def test_no_endpoint(wrong: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Listeners(["tcp:80", wrong], "admin", Reactor())
    assert str(raised.value).startswith(f"[admin] listen = {wrong!r}: ")
    assert "tcp:8000:interface=127.0.0.1" in str(raised.value)


def test_a_certificate_that_is_not_there_and_a_key_of_another(tmp_path: Path) -> None:
    """The endpoint is well formed, so no example of one helps."""
    one, two = (make_certificate(tmp_path / f"{name}.pem", name) for name in ("one", "two"))
    one.write_text(one.read_text().partition("-----BEGIN PRIVATE KEY")[0])
    for description, why in (
        ("ssl:1:privateKey=/none.pem", "/none.pem: No such file or directory"),
        (
            f"ssl:1:privateKey={two.with_suffix('.key')}:certKey={one}",
            "Certificate public and private keys do not match.",
        ),
    ):
        with pytest.raises(ConfigError) as raised:
            Listeners([description], "admin", Reactor())
        assert str(raised.value) == f"[admin] listen = {description!r}: {why}"


def test_it_cannot_listen() -> None:
    listeners = Listeners(["tcp:80"], "s", Reactor(error=OSError("taken")))
    with pytest.raises(CannotListen, match="collectord: can't listen on tcp:80: taken"):
        listeners.open(ServerFactory())


def test_no_socket_of_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LISTEN_FDS", raising=False)
    listeners = Listeners(["systemd:domain=INET:name=http"], "s", Reactor())
    with pytest.raises(CannotListen, match="systemd:domain=INET:name=http"):
        listeners.open(ServerFactory())


def test_a_bad_certificate_is_not_used(tmp_path: Path) -> None:
    path = make_certificate(tmp_path / "server.pem", "one")
    listeners = Listeners([f"ssl:1:privateKey={path}"], "s", Reactor())
    listeners.open(ServerFactory())
    path.write_text("nothing")
    with pytest.raises(ConfigError, match=r"\[s\] listen = 'ssl:1:"):
        listeners.renewed()


@for_each(
    ("description", "is_open"),
    [
        ("tcp:8001", True),
        ("tcp:8001:interface=127.0.0.1", False),
        ("tcp:8001:interface=127.1.2.3", False),
        ("tcp:8001:interface=localhost", False),
        ("tcp:8001:interface=0.0.0.0", True),
        ("tcp:8001:interface=10.1.2.3", True),
        ("tcp:8001:interface=crash-host", True),
        ("tcp6:8001", True),
        (r"tcp6:8001:interface=\:\:1", False),
        (r"tcp6:8001:interface=\:\:", True),
        (r"tcp6:8001:interface=\:\:ffff\:127.0.0.1", False),
        (r"tcp6:8001:interface=fe80\:\:1%eth0", True),
        ("haproxy:tcp:8001", True),
        ("haproxy:tcp:8001:interface=127.0.0.1", False),
        ("unix:/run/collectord/admin", False),
    ],
)
def test_what_other_hosts_can_reach(description: str, is_open: bool) -> None:
    Listeners([description], "admin", None)
    if is_open:
        with pytest.raises(ConfigError, match=r"\[admin\] listen = .*: whoever reaches it .* allow_open = true"):
            Listeners([description], "admin", None, local=True)
    else:
        Listeners([description], "admin", None, local=True)


def test_tls_is_no_token(pem: Path) -> None:
    with pytest.raises(ConfigError, match="set a token"):
        Listeners([f"ssl:8001:privateKey={pem.with_suffix('.key')}:certKey={pem}"], "admin", None, local=True)


def test_a_port_that_turns_out_to_be_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Port, "getHost", lambda port: IPv4Address("TCP", "10.1.2.3", 1))
    listeners = Listeners(["tcp:8001:interface=localhost"], "admin", Reactor(), local=True)
    with pytest.raises(CannotListen, match="set a token"):
        listeners.open(ServerFactory())
