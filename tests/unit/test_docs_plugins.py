"""
The code in docs/plugins.rst works as it stands: its plugins pass the contract.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

DOCS = Path(__file__).parents[2] / "docs" / "plugins.rst"
_ARGUMENTS = ["-q", "-p", "no:cacheprovider", "-p", "no:randomly", "test_mypackage.py"]


def blocks() -> list[str]:
    """The modules that the page shows."""
    found = re.findall(r"^\.\. code-block:: python\n\n((?:    .*\n|\n)+)", DOCS.read_text(), re.MULTILINE)
    return [dedent(block) for block in found]


def run(directory: Path, without: str = "", instead: str = "") -> str:
    """What pytest prints of the tests of the page, with one piece of its code replaced."""
    zips, lines, tests = (block.replace(without, instead) if without else block for block in blocks())
    package = directory / "mypackage"
    package.mkdir()
    for name, source in [("__init__", ""), ("zips", zips), ("lines", lines)]:
        (package / f"{name}.py").write_text(source)
    (directory / "test_mypackage.py").write_text(tests)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", f"--basetemp={directory / 'temporary'}", *_ARGUMENTS],
        cwd=directory,
        env=os.environ
        | {"PYTHONPATH": f"{directory}:{DOCS.parents[1]}", "PYTHONDONTWRITEBYTECODE": "1", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.stdout + done.stderr


@pytest.mark.slow
def test_the_plugins_pass_the_contract(tmp_path: Path) -> None:
    out = run(tmp_path)
    assert re.search(r"^\d\d passed[^f]* in", out, re.MULTILINE), out


WRONG = {
    "no implementer": ("@implementer(ICrashStorage)\n", "", "ZipCrashStorage needs @implementer(ICrashStorage)"),
    "no close": ("async def close(self)", "async def shut(self)", "collectord.interfaces.ICrashPublisher lists"),
    "no fixture": ("def destination(self", "def place(self", "override the fixture 'destination'"),
    "no subject": ("def subject(self", "def queue(self", "override the fixture 'subject'"),
    "no figures": ("return {}", "return None", "check() returns a mapping of figures"),
    "another error": (
        "raise StorageError(",
        "raise ValueError(",
        "check() raises StorageError, with a text for the operator",
    ),
    "no error": (
        'raise PublishError(f"{self.name}: {e}") from e',
        "pass",
        "check() raises PublishError, with a text for the operator",
    ),
    "readers see a part": ('part, "x")', 'part[:-9], "w")', "write last what readers look for"),
    "not whole": ("member.write, piece", "member.write, piece[:-1]", "a reader sees the crash whole"),
    "not once": ('await self._add(f"', 'await self._add(f"{crash.crash_id}\\n', "the queue holds the id"),
    "a check publishes": ('await self._add("")', 'await self._add("check\\n")', "check() publishes nothing"),
    "threads stay": ("self._on_thread.close()", "pass", "close() has left behind"),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_told(tmp_path: Path, what: str) -> None:
    without, instead, told = WRONG[what]
    assert without in DOCS.read_text()
    assert told in run(tmp_path, without, instead)
