"""
A real HAProxy in front of daemons: it asks their route for load balancers, and sends no request twice.
"""

import csv
import io
import shutil
import socket
import urllib.request
from collections.abc import Sequence

from attrs import define, field

from tests.support.daemon import free_port
from tests.support.server import Server

_SETTINGS = """
global
    maxconn 1000
defaults
    mode http
    timeout connect 2s
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
        settings = self.log.with_suffix(".cfg")
        servers = "\n".join(f"    server d{port} 127.0.0.1:{port}" for port in self.daemons)
        settings.write_text(_SETTINGS.format(port=self.port, stats=self.stats, path=self.path, servers=servers))
        return ["haproxy", "-db", "-f", str(settings)]

    def answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def up(self) -> list[int]:
        """The daemons that it sends requests to, by their ports."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.stats}/;csv", timeout=5) as response:
            rows = csv.DictReader(io.StringIO(response.read().decode().removeprefix("# ")))
            return [int(row["svname"][1:]) for row in rows if row["svname"][:1] == "d" and row["status"] == "UP"]
