"""
L{Daemon} with a real twistd: a stand-in service of a few lines, and collectord itself once there is one.
"""

import os
import signal
import time
import tomllib
from pathlib import Path

import pytest

from tests.support.daemon import ROOT, Daemon, DidNotStart, config, free_port
from tests.support.http import curl

STAND_IN = """
import os, subprocess, sys, tomllib
from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import ServiceMaker
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.python import usage
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.static import Data

class Options(usage.Options):
    optParameters = [["config", None, None, ""]]

def makeService(options):
    with open(options["config"], "rb") as file:
        settings = tomllib.load(file)
    if "refuse" in settings:
        raise usage.UsageError("refused as told")
    if "child" in settings:
        print("child", subprocess.Popen(["sleep", "600"]).pid)
    if "stubborn" in settings:
        import signal
        reactor.callWhenRunning(signal.signal, signal.SIGTERM, signal.SIG_IGN)
    print("marker", os.getcwd(), os.environ["PYTHONUNBUFFERED"], os.environ["LC_ALL"])
    root = Resource()
    root.putChild(b"__lbheartbeat__", Data(b"", "text/plain"))
    return StreamServerEndpointService(serverFromString(reactor, settings["submission"]["listen"][0]), Site(root))

"""

PLUGIN = """
from twisted.application.service import ServiceMaker
standIn = ServiceMaker("standin", "stand_in", "a stand-in", "standin")
"""


@pytest.fixture
def standin(tmp_path: Path) -> dict[str, str]:
    """An environment in which C{twistd standin} is there."""
    code = tmp_path / "code"
    (code / "twisted" / "plugins").mkdir(parents=True)
    (code / "twisted" / "plugins" / "standin_plugin.py").write_text(PLUGIN)
    (code / "stand_in.py").write_text(STAND_IN)
    return {"PYTHONPATH": str(code)}


def make(tmp_path: Path, env: dict[str, str], extra: str = "") -> Daemon:
    port = free_port()
    return Daemon(extra + config(port, tmp_path / "root"), port, tmp_path / "work", env=env, service="standin")


def is_running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def test_config() -> None:
    toml = config(8000, Path('/a "b"'), Path("/c"), submission="workers = 2", storage="threads = 1")
    store = {"min_free_bytes": 0, "threads": 1}
    assert tomllib.loads(toml) == {
        "submission": {
            "listen": ["tcp:8000:interface=127.0.0.1"],
            "stop_s": 2.0,
            "duplicate_window_s": 0,
            "workers": 2,
        },
        "storage": [{"root": '/a "b"', **store}, {"root": "/c", **store}],
        "admin": {"listen": []},
        "crashmover": {"enabled": False},
    }
    assert "crashmover" not in tomllib.loads(config(8000, Path("/c"), moves=True))


def test_runs_and_stops(tmp_path: Path, standin: dict[str, str]) -> None:
    with make(tmp_path, standin) as daemon:
        assert curl(daemon.url("/__lbheartbeat__")) == (200, b"")
        assert f"marker {tmp_path}/work 1 C.UTF-8" in daemon.log()
        assert daemon.stop() == -signal.SIGTERM
        assert not is_running(daemon.pid)
    assert "Server Shut Down" in daemon.log()


def test_lives_again_after_a_kill(tmp_path: Path, standin: dict[str, str]) -> None:
    with make(tmp_path, standin) as daemon:
        first = daemon.pid
        assert daemon.kill() == -signal.SIGKILL
        daemon.start()
        assert daemon.pid != first
        assert daemon.log().count("marker") == 2


def test_kills_who_does_not_stop(tmp_path: Path, standin: dict[str, str]) -> None:
    with make(tmp_path, standin, "stubborn = 1\n") as daemon:
        assert daemon.stop(timeout=0.3) == -signal.SIGKILL


def test_leaves_no_child(tmp_path: Path, standin: dict[str, str]) -> None:
    with make(tmp_path, standin, "child = 1\n") as daemon:
        child = int(daemon.log().partition("child ")[2].split()[0])
        daemon.kill()
        assert is_running(child)
    deadline = time.monotonic() + 5
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(child)


def test_says_why_it_did_not_start(tmp_path: Path, standin: dict[str, str]) -> None:
    daemon = make(tmp_path, standin, "refuse = 1\n")
    with pytest.raises(DidNotStart, match="refused as told"):
        daemon.start()
    with pytest.raises(RuntimeError):
        os.kill(daemon.pid, 0)


@pytest.mark.skipif(
    not (ROOT / "twisted" / "plugins" / "collectord_plugin.py").exists(), reason="there is no collectord yet"
)
def test_runs_collectord(tmp_path: Path) -> None:
    port = free_port()
    with Daemon(config(port, tmp_path / "root"), port, tmp_path / "work") as daemon:
        assert curl(daemon.url("/__lbheartbeat__"))[0] == 200
        assert daemon.stop() in (0, -signal.SIGTERM)
