"""
What lies in the directory in which the daemon was started is not run, unless PYTHONPATH names it.
"""

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.support.daemon import ROOT, Daemon, DidNotStart, config, free_port
from tests.support.http import post
from tests.support.reports import HEADERS, crash_id_in, make_report
from tests.support.wait import until

pytestmark = pytest.mark.e2e

MODULES = {name for name in sys.stdlib_module_names if not name.startswith("_")}
MODULES |= {"attrs", "collectord", "klein", "pydantic", "sitecustomize", "twisted", "usercustomize", "zope"}


def traps(directory: Path, run: Path) -> None:
    """Modules that bear the names of all that is imported, and tell that they were."""
    directory.mkdir(parents=True)
    text = f"open({str(run)!r}, 'a').write(__name__ + '\\n')\nraise ImportError('not the real one')\n"
    for name in MODULES:
        (directory / f"{name}.py").write_text(text)
    (directory / "twisted" / "plugins").mkdir(parents=True)
    (directory / "twisted" / "plugins" / "trap.py").write_text(text)


def daemon(tmp_path: Path, workers: int, more: str = "", **environment: str) -> Daemon:
    port = free_port()
    toml = config(port, tmp_path / "root", submission=f"workers = {workers}") + more
    return Daemon(toml, port, tmp_path / "work", env=environment)


@pytest.mark.parametrize("workers", [1, 2])
def test_modules_of_the_working_directory_are_not_imported(tmp_path: Path, workers: int) -> None:
    run = tmp_path / "run"
    traps(tmp_path / "work", run)
    with daemon(tmp_path, workers) as up:
        crash_id_in(post(up.port, make_report("one", 1000).body(), HEADERS))
        os.kill(up.pid, signal.SIGHUP)
        until(lambda: "the settings were read again" in up.log())
        os.kill(up.pid, signal.SIGUSR2)
        until(lambda: workers == 1 or up.log().count("takes the place of") == workers, 60)
        crash_id_in(post(up.port, make_report("two", 1000).body(), HEADERS))
    assert not run.exists(), run.read_text()


RULES = "from collectord.throttle import Always, Result, Rule\nRULES = [Rule('mine', '*', Always(), Result.ACCEPT)]\n"


@pytest.mark.parametrize("workers", [1, 2])
def test_rules_of_the_working_directory_are_not_imported(tmp_path: Path, workers: int) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "my_rules.py").write_text(RULES)
    with pytest.raises(DidNotStart, match=r"my_rules can't be imported: ModuleNotFoundError"):
        daemon(tmp_path, workers, '[throttle]\nrules = "my_rules:RULES"\n').start()


@pytest.mark.parametrize("path", ["{root}:{work}", "{root}:."])
def test_unless_they_are_asked_for(tmp_path: Path, path: str) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "my_rules.py").write_text(RULES)
    python_path = path.format(root=ROOT, work=tmp_path / "work")
    with daemon(tmp_path, 2, '[throttle]\nrules = "my_rules:RULES"\n', PYTHONPATH=python_path) as up:
        crash_id_in(post(up.port, make_report("one", 1000).body(), HEADERS))
        until(lambda: "kept: ACCEPT by mine" in up.log())
