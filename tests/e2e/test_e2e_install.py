"""
C{pip install .} into a clean environment gives a daemon that works, from any directory.
"""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.daemon import ROOT, config, free_port
from tests.support.disk import problems, stored_crashes
from tests.support.http import post
from tests.support.reports import HEADERS, Report, crash_id_in, make_report
from tests.support.wait import until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

_NO_NETWORK = ("NewConnectionError", "ConnectTimeoutError", "name resolution", "No route to host")


def install(source: Path, environment: Path) -> None:
    venv = [sys.executable, "-m", "venv", "--without-pip", str(environment)]
    subprocess.run(venv, check=True, capture_output=True)
    pip = [sys.executable, "-m", "pip", "--python", str(environment), "--disable-pip-version-check"]
    ran = subprocess.run(
        [*pip, "install", "--no-compile", str(source)], capture_output=True, text=True, check=False, timeout=280
    )
    if ran.returncode != 0 and any(sign in ran.stderr for sign in _NO_NETWORK):
        pytest.skip("no package index can be reached")
    assert ran.returncode == 0, ran.stderr


def test_an_installed_daemon_takes_a_crash(tmp_path: Path) -> None:
    source, environment, elsewhere = tmp_path / "source", tmp_path / "environment", tmp_path / "elsewhere"
    elsewhere.mkdir()
    ignored = shutil.ignore_patterns(".*", "*.egg-info", "build", "crashes", "tests", "__pycache__")
    shutil.copytree(ROOT, source, ignore=ignored)  # pip builds in the tree
    install(source, environment)
    shutil.rmtree(source)
    port = free_port()
    (elsewhere / "settings.toml").write_text(config(port, elsewhere / "root") + '\n[throttle]\nrules = "mozilla"\n')
    with (
        (elsewhere / "log").open("wb") as log,
        subprocess.Popen(
            [environment / "bin" / "twistd", "-n", "--pidfile=", "collectord", "--config", "settings.toml"],
            cwd=elsewhere,
            env={name: value for name, value in os.environ.items() if not name.startswith(("COLLECTORD_", "PYTHON"))},
            stdout=log,
            stderr=log,
        ) as process,
    ):
        try:
            until(lambda: process.poll() is not None or b"taking crash" in (elsewhere / "log").read_bytes(), 30)
            assert process.poll() is None, (elsewhere / "log").read_text()
            report = Report({"ProductName": "Firefox", "Throttleable": "0"}, make_report("installed", 100_000).dumps)
            crash_id = crash_id_in(post(port, report.body(), HEADERS))
            crash = stored_crashes(elsewhere / "root")[crash_id]
            assert crash.dumps == report.dumps
            assert report.annotations.items() <= crash.raw_crash.items()
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(15) == -signal.SIGTERM
    assert problems(elsewhere / "root") == []
