"""
The servers that are measured: how each is started, known to be up, and stopped, and what it has kept.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from http.client import HTTPConnection
from pathlib import Path

from attrs import frozen

from benchmarks.bodies import Body

_REPOSITORY = Path(__file__).parent.parent
_START_S = 20.0
_STOP_S = 30.0


class BenchmarkError(Exception):
    """A figure can't be had, or would not mean what it says."""


@frozen(kw_only=True)
class Setup:
    """
    What a server is started with.

    @ivar work: a directory for its settings and logs.
    @ivar settings: TOML text beyond what every run has; for collectord only.
    @ivar storage: the same for its store.
    """

    port: int
    store: Path
    work: Path
    settings: str = ""
    storage: str = ""


@frozen(kw_only=True)
class Server:
    """
    A way to take crashes.

    @ivar command: writes what it needs to the setup's C{work}, and gives the command that runs in the foreground.
    @ivar kept: how many whole reports of that body lie in the store.
    @ivar takes_gzip: whether it does anything with C{Content-Encoding: gzip}.
    """

    name: str
    command: Callable[[Setup], Sequence[str]]
    kept: Callable[[Path, Body], int]
    takes_gzip: bool = True


@frozen(kw_only=True)
class Running:
    """A server that is up."""

    server: Server
    pid: int
    port: int
    store: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/submit"

    def kept(self, body: Body) -> int:
        return self.server.kept(self.store, body)

    def submit(self, body: Body) -> None:
        """
        Post one report.

        @raise BenchmarkError: the answer is not a receipt.
        """
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("POST", "/submit", body.new(), dict(body.headers))
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        if answer.status != 200 or not text.startswith(b"CrashID=bp-"):
            raise BenchmarkError(f"{self.server.name} answered {answer.status} {text[:80]!r} to a {body.name} report")


@contextmanager
def running(server: Server, store: Path, work: Path, settings: str = "", storage: str = "") -> Iterator[Running]:
    """
    The server, up and listening; stopped at the end, with all that it started.

    @raise BenchmarkError: it did not come up.
    """
    setup = Setup(port=free_port(), store=store, work=work, settings=settings, storage=storage)
    log = work / f"{server.name}.log"
    # The tree first: it is what is measured, whatever is installed.
    path = os.pathsep.join(filter(None, [str(_REPOSITORY), os.environ.get("PYTHONPATH", "")]))
    with log.open("ab") as output:
        process = subprocess.Popen(
            server.command(setup),
            stdout=output,
            stderr=output,
            cwd=work,
            env={**os.environ, "PYTHONPATH": path, "XDG_STATE_HOME": str(work)},
            start_new_session=True,
        )
    try:
        _wait_until_up(process, setup.port, log)
        yield Running(server=server, pid=process.pid, port=setup.port, store=store)
    finally:
        _stop(process)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_up(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        with suppress(OSError):
            connection.request("GET", "/__lbheartbeat__")
            if connection.getresponse().status == 200:
                connection.close()
                return
        connection.close()
        time.sleep(0.05)
    raise BenchmarkError(f"{process.args!r} did not come up; the end of its log:\n{log.read_text()[-2000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_S)
    # Its session is its own, so this meets nobody but its children, and it itself where it hangs.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _collectord(setup: Setup, workers: int = 1) -> Sequence[str]:
    config = setup.work / "collectord.toml"
    config.write_text(
        f'[submission]\nlisten = ["tcp:{setup.port}:interface=127.0.0.1"]\nworkers = {workers}\n{setup.settings}\n'
        f'[[storage]]\nroot = "{setup.store}"\n{setup.storage}\n'
        f'[admin]\nlisten = ["tcp:{free_port()}:interface=127.0.0.1"]\n'
    )
    twistd = Path(sys.executable).parent / "twistd"
    return [str(twistd), "-n", "--pidfile=", "collectord", "--config", str(config)]


def _plain_klein(setup: Setup) -> Sequence[str]:
    return [sys.executable, str(Path(__file__).parent / "plain_klein.py"), str(setup.port), str(setup.store)]


def _nginx(setup: Setup) -> Sequence[str]:
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        raise BenchmarkError("there is no nginx here")
    user = "user root;" if os.geteuid() == 0 else ""
    template = (Path(__file__).parent / "nginx.conf").read_text()
    config = setup.work / "nginx.conf"
    config.write_text(
        template.replace("@USER@", user)
        .replace("@PORT@", str(setup.port))
        .replace("@STORE@", str(setup.store))
        .replace("@WORK@", str(setup.work))
    )
    return [nginx, "-e", str(setup.work / "nginx.log"), "-p", str(setup.work), "-c", str(config)]


def _count(root: Path, suffix: str) -> int:
    return sum(name.endswith(suffix) for _, _, names in os.walk(root) for name in names)


def _count_of_size(root: Path, size: int) -> int:
    return sum(entry.stat().st_size == size for entry in os.scandir(root) if entry.is_file())


SERVERS: Mapping[str, Server] = {
    server.name: server
    for server in (
        Server(name="collectord", command=_collectord, kept=lambda root, body: _count(root, ".json")),
        Server(
            name="two_workers",
            command=partial(_collectord, workers=2),
            kept=lambda root, body: _count(root, ".json"),
        ),
        Server(
            name="plain_klein",
            command=_plain_klein,
            kept=lambda root, body: _count(root, ".dump"),
            takes_gzip=False,
        ),
        Server(name="nginx", command=_nginx, kept=lambda root, body: _count_of_size(root, len(body.new()))),
    )
}
