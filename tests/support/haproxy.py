"""
A real HAProxy in front of daemons: it asks their route for load balancers, and sends no request twice; or it passes on
what it does not look into.
"""

import csv
import io
import shutil
import socket
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from attrs import define, field

from tests.support.daemon import free_port
from tests.support.server import Server

_SETTINGS = """
global
    maxconn 1000
defaults
    mode http
    timeout connect 2s
    timeout check 5s
    timeout client 60s
    timeout server 60s
    retries 0
    no option redispatch
frontend submissions
    bind 127.0.0.1:{port}
    default_backend daemons
frontend stats
    bind 127.0.0.1:{stats}
    stats enable
    stats uri /
backend daemons
    balance roundrobin
    option httpchk GET {path}
    default-server check inter 200ms fall 1 rise 1
{servers}
"""


_ON_TCP = """
defaults
    mode tcp
    timeout connect 2s
    timeout check 5s
    timeout client 60s
    timeout server 60s
frontend submissions
    bind 127.0.0.1:{port}
    bind unix@{socket}
    default_backend daemon
frontend stats
    mode http
    bind 127.0.0.1:{stats}
    stats enable
    stats uri /
backend daemon
    option httpchk GET /__lbheartbeat__
    default-server check inter 200ms fall 1 rise 1
    server d{daemon} 127.0.0.1:{daemon} {option}
"""


def has_haproxy() -> bool:
    return shutil.which("haproxy") is not None


@define
class HAProxy(Server):
    """
    @ivar daemons: their ports.
    @ivar path: that it asks each of them every 0.2 s.
    """

    daemons: Sequence[int]
    path: str = "/__lbheartbeat__"
    port: int = field(factory=free_port)
    stats: int = field(factory=free_port)

    def command(self) -> Sequence[str]:
        servers = "\n".join(f"    server d{port} 127.0.0.1:{port}" for port in self.daemons)
        return _command(self.log, _SETTINGS.format(port=self.port, stats=self.stats, path=self.path, servers=servers))

    def answers(self) -> bool:
        return _listens(self.port)

    def up(self) -> list[int]:
        """The daemons that it sends requests to, by their ports."""
        return _up(self.stats)


@define
class HAProxyOnTCP(Server):
    """
    @ivar daemon: its port for the PROXY protocol.
    @ivar option: C{send-proxy} or C{send-proxy-v2}.
    """

    daemon: int
    option: str
    port: int = field(factory=free_port)
    stats: int = field(factory=free_port)

    @property
    def socket(self) -> Path:
        """Where it listens, too."""
        return self.log.with_name("haproxy.sock")

    def command(self) -> Sequence[str]:
        named = {"port": self.port, "stats": self.stats, "daemon": self.daemon}
        return _command(self.log, _ON_TCP.format(socket=self.socket, option=self.option, **named))

    def answers(self) -> bool:
        return _listens(self.port)

    def is_up(self) -> bool:
        """Whether its checks find the daemon well."""
        return _up(self.stats) == [self.daemon]


def _command(log: Path, settings: str) -> Sequence[str]:
    file = log.with_suffix(".cfg")
    file.write_text(settings)
    return ["haproxy", "-db", "-f", str(file)]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _up(stats: int) -> list[int]:
    with urllib.request.urlopen(f"http://127.0.0.1:{stats}/;csv", timeout=5) as response:
        rows = csv.DictReader(io.StringIO(response.read().decode().removeprefix("# ")))
        return [int(row["svname"][1:]) for row in rows if row["svname"][:1] == "d" and row["status"] == "UP"]
