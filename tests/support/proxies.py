"""
Real proxies in front of daemons, with the configurations that C{docs/proxies.rst} gives.
"""

import re
import shutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from attrs import define, field, frozen

from tests.support.daemon import ROOT, free_port
from tests.support.server import Server

_PAGE = ROOT / "docs/proxies.rst"
_CODE = re.compile(r"^\.\. code-block:: \w+\n\n((?:    .*\n|\n)+)", re.MULTILINE)
_FRONT, _ONE, _TWO = ("203.0.113.5", "8080"), ("10.0.0.1", "8000"), "10.0.0.2:8000"


@frozen
class _Kind:
    """
    @ivar program: what has to be installed.
    @ivar files: names of the files that its section of the page has, in order.
    @ivar command: its arguments, given the directory of these files and the port.
    """

    program: str
    files: Sequence[str]
    command: Callable[[Path, int], Sequence[str]]


KINDS: Mapping[str, _Kind] = {
    "nginx": _Kind(
        "nginx",
        ["nginx.conf"],
        lambda d, p: ["-p", f"{d}", "-c", f"{d}/nginx.conf", "-g", f"daemon off; pid {d}/pid; error_log stderr;"],
    ),
    "HAProxy": _Kind("haproxy", ["haproxy.cfg"], lambda d, p: ["-db", "-f", f"{d}/haproxy.cfg"]),
    "Apache": _Kind(
        "apache2",
        ["httpd.conf"],
        lambda d, p: ["-X", "-f", f"{d}/httpd.conf", "-c", f"PidFile {d}/pid", "-c", f"ErrorLog {d}/errors"],
    ),
    "Caddy": _Kind(
        "caddy", ["Caddyfile"], lambda d, p: ["run", "--adapter", "caddyfile", "--config", f"{d}/Caddyfile"]
    ),
    "Envoy": _Kind(
        "envoy", ["envoy.yaml"], lambda d, p: ["-c", f"{d}/envoy.yaml", "--concurrency", "1", "--disable-hot-restart"]
    ),
    "Traefik": _Kind("traefik", ["traefik.yml", "collectord.yml"], lambda d, p: [f"--configFile={d}/traefik.yml"]),
    "Varnish": _Kind(
        "varnishd",
        ["collectord.vcl"],
        lambda d, p: [
            "-F",
            "-j",
            "none",
            "-n",
            f"{d}",
            "-a",
            f"127.0.0.1:{p}",
            "-p",
            "timeout_idle=60",
            "-f",
            f"{d}/collectord.vcl",
        ],
    ),
}
"""The proxies of the page, by the titles of their sections."""


@define
class Proxy(Server):
    """
    @ivar kind: one of L{KINDS}.
    @ivar daemons: the ports of the daemons behind it: of one, or of two.
    """

    kind: str
    daemons: Sequence[int]
    port: int = field(factory=free_port)

    def command(self) -> Sequence[str]:
        kind = KINDS[self.kind]
        directory = self.log.parent
        for name, text in zip(kind.files, configurations(self.kind), strict=True):
            (directory / name).write_text(self._here(text))
        return [kind.program, *kind.command(directory, self.port)]

    def _here(self, text: str) -> str:
        """C{text} for ports of this host, and for files of this test."""
        one, *others = self.daemons
        text = text.replace(_TWO, f"127.0.0.1:{(others or [one])[0]}")
        for (host, port), here in ((_ONE, one), (_FRONT, self.port)):
            text = text.replace(host, "127.0.0.1").replace(port, str(here))
        return text.replace("/etc/traefik", str(self.log.parent))

    def environment(self) -> Mapping[str, str]:
        return {"HOME": str(self.log.parent)}

    def answers(self) -> bool:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/submit")
            return connection.getresponse().status == 405  # says a daemon; Traefik answers 404 before it knows any
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()


def configurations(kind: str) -> Sequence[str]:
    """The files that the page has in the section of C{kind}."""
    section = re.split(rf"^{kind}\n-+\n", _PAGE.read_text(), flags=re.MULTILINE)[1]
    section = re.split(r"^.+\n-+$", section, maxsplit=1, flags=re.MULTILINE)[0]
    return [textwrap.dedent(code) for code in _CODE.findall(section)]


def has_proxy(kind: str) -> bool:
    return shutil.which(KINDS[kind].program) is not None
