"""
Settings that can't be used stop the start with one line; those that can do what they say.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from collectord import __version__
from tests.support.daemon import ROOT, Daemon, config, free_port
from tests.support.disk import stored_crashes
from tests.support.http import curl, post
from tests.support.reports import HEADERS, crash_id_in, make_report
from tests.support.wait import until

pytestmark = pytest.mark.e2e

TWISTD = str(Path(sys.executable).with_name("twistd"))


def twistd(
    workdir: Path, *options: str, env: Mapping[str, str] | None = None, first: tuple[str, ...] = ("-n",)
) -> tuple[int, str]:
    """The exit status, and all that was said."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("COLLECTORD_")}
    ran = subprocess.run(
        [TWISTD, "--pidfile=", *first, "collectord", *options],
        cwd=workdir,
        env=inherited | {"PYTHONPATH": str(ROOT)} | dict(env or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return ran.returncode, ran.stdout + ran.stderr


def complaint(said: str) -> str:
    """The one line that says what is wrong."""
    assert "Traceback" not in said
    [line] = [line for line in said.splitlines() if "collectord: " in line]
    return line


@pytest.mark.parametrize(
    ("toml", "named"),
    [
        ("[submission]\nlissen = []", ["collectord.toml", "[submission] lissen", "unknown key", "listen"]),
        ("[sub]", ["collectord.toml", "sub", "unknown key", "submission"]),
        ("[submission]\nmax_body_bytes = 'many'", ["collectord.toml", "[submission] max_body_bytes", "'many'"]),
        ("[submission]\nidle_timeout_s = 0", ["collectord.toml", "[submission] idle_timeout_s", "0"]),
        ("[[storage]]\nroot = 'a'\nsync = 'never'", ["collectord.toml", "[[storage]] 0 sync", "'never'", "filesystem"]),
        ("[[storage]]\nsync = 'files'", ["collectord.toml", "[[storage]] 0 root", "missing"]),
        ("[[storage]]\nroot = 'a'\n[[storage]]\nroot = './a'", ["collectord.toml", "[storage]", "two stores"]),
        ("[[storage]]\nroot = 'a'\nfile_mode = '0200'", ["collectord.toml", "[[storage]] 0 file_mode", "0200"]),
        ("nonsense", ["collectord.toml", "not TOML", "Expected"]),
        ("[submission]\nlisten = ['carrier:pigeon']", ["listen", "'carrier:pigeon'", "tcp:8000"]),
        ("[submission]\nlisten = ['tcp:nine']", ["listen", "'tcp:nine'", "tcp:8000"]),
        ("[submission]\nlisten = ['ssl:1:privateKey=none.pem']", ["listen", "none.pem"]),
        ("[throttle]\nrules = 'absent.toml'", ["absent.toml"]),
        ("[throttle]\nrules = 'broken.toml'", ["broken.toml", "sample", "key is missing"]),
        ("[logging]\nformat = 'xml'", ["collectord.toml", "[logging] format", "'xml'", "json"]),
    ],
)
def test_says_in_one_line_what_is_wrong(tmp_path: Path, toml: str, named: list[str]) -> None:
    (tmp_path / "collectord.toml").write_text(toml)
    (tmp_path / "broken.toml").write_text('[[rule]]\nname = "sample"\nresult = "ACCEPT"\n')
    status, said = twistd(tmp_path, "--config", "collectord.toml")
    line = complaint(said)
    assert (status, [name for name in named if name not in line]) == (1, []), line
    assert not (tmp_path / "crashes").exists()


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("COLLECTORD_SUBMISSION__MAX_BODY_BYTES", "lots", ["max_body_bytes", "'lots'"]),
        ("COLLECTORD_SUBMISION__MAX_BODY_BYTES", "1", ["no such section", "COLLECTORD_SUBMISSION__"]),
        ("COLLECTORD_SUBMISSION__MAX_BODY", "1", ["max_body", "unknown key"]),
    ],
)
def test_says_which_variable_is_wrong(tmp_path: Path, variable: str, value: str, named: list[str]) -> None:
    status, said = twistd(tmp_path, env={variable: value})
    line = complaint(said)
    assert (status, [name for name in [variable, *named] if name not in line]) == (1, []), line


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    status, said = twistd(tmp_path, "--config", "absent.toml")
    assert (status, "absent.toml: No such file" in complaint(said)) == (1, True)


@pytest.mark.parametrize("first", [("-n",), ("--logfile=log",)], ids=["foreground", "daemonized"])
def test_a_port_in_use(tmp_path: Path, first: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        (tmp_path / "collectord.toml").write_text(config(port, tmp_path / "root"))
        status, said = twistd(tmp_path, "--config", "collectord.toml", first=first)
        if first != ("-n",):
            until(lambda: "collectord: " in (tmp_path / "log").read_text())  # its own thread writes the log
            said = (tmp_path / "log").read_text()
        line = complaint(said)
        assert (status, f"tcp:{port}:interface=127.0.0.1" in line, "in use" in line) == (1, True, True), line


def test_says_its_version(tmp_path: Path) -> None:
    assert twistd(tmp_path, "--version") == (0, f"collectord {__version__}\n")


def test_help(tmp_path: Path) -> None:
    status, said = twistd(tmp_path, "--help")
    assert status == 0
    assert "Usage: twistd [options] collectord [--config FILE]" in said
    assert "Takes crash reports by HTTP POST /submit" in said


def test_the_environment_wins(tmp_path: Path) -> None:
    port = free_port()
    env = {
        "COLLECTORD_SUBMISSION__MAX_BODY_BYTES": "20000",
        "COLLECTORD_SUBMISSION__DUMP_ID_PREFIX": "",
        "COLLECTORD_STORAGE__0__ROOT": str(tmp_path / "other"),
        "COLLECTORD_THROTTLE__PRODUCTS": '["Fenix"]',
    }
    toml = config(port, tmp_path / "root", submission="max_body_bytes = 5\nidle_timeout_s = 20.0")
    with Daemon(toml, port, tmp_path, env=env) as daemon:
        answer = post(port, make_report("env", 10_000).body(), HEADERS)
        assert not answer.body.startswith(b"CrashID=bp-")
        assert stored_crashes(tmp_path / "other").keys() == {answer.body.decode().strip().removeprefix("CrashID=")}
        assert post(port, make_report("env", 20_001).body(), HEADERS).status == 413
        status, body = curl("-F", "ProductName=Other", daemon.url("/submit"))
        assert (status, body.startswith(b"Discarded=rule_")) == (200, True), body
    assert not (tmp_path / "root").exists()


def test_works_without_any(tmp_path: Path) -> None:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 8000)) == 0:
            pytest.skip("somebody uses port 8000")
    if Path("/etc/collectord/collectord.toml").exists():
        pytest.skip("/etc/collectord/collectord.toml would be used")
    with Daemon("", 8000, tmp_path / "work") as daemon:
        crash_id = crash_id_in(post(8000, make_report("default", 5).body(), HEADERS))
        assert stored_crashes(daemon.workdir / "crashes").keys() == {crash_id}
