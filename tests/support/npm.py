"""
Programs of Node.js that use packages of npm, which C{.ci/run} installs beside the virtual environment.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

_RUN_S = 60.0


def run_node(script: str, package: str, env: Mapping[str, str]) -> str:
    """
    Run a script that needs C{package}, and return what it writes. The test is skipped without Node.js or the package.

    @raise CalledProcessError: it fails.
    """
    node = shutil.which("node")
    others = filter(None, os.environ.get("NODE_PATH", "").split(":"))
    places = [Path(sys.prefix) / "npm/node_modules", *map(Path, others)]
    found = next((place for place in places if (place / package).is_dir()), None)
    if node is None or found is None:
        pytest.skip(f"needs node, and npm install --prefix .venv/npm {package}")
    ran = subprocess.run(
        [node, "-e", script],
        env={**os.environ, **env, "NODE_PATH": str(found)},
        capture_output=True,
        text=True,
        check=True,
        timeout=_RUN_S,
    )
    return ran.stdout
