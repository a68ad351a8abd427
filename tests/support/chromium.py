"""
A real browser together with a server in a network that leads nowhere.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import define
from playwright.sync_api import Browser, sync_playwright

from tests.support.server import Server

CHROMIUM = "/usr/bin/chromium"


def missing() -> str:
    """Empty if all is there, else what is not."""
    if not Path(CHROMIUM).exists():
        return f"no {CHROMIUM}"
    if shutil.which("nsenter") is None or os.geteuid() != 0:
        return "a network of one's own needs root and nsenter"
    made = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
    return made.stderr.decode()


@define
class SecludedServer(Server):
    """A server in a network of its own that has a loopback and nothing else."""

    def command(self) -> Sequence[str]:
        return ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *self.served()]

    def served(self) -> Sequence[str]:
        """What to run in that network."""
        raise NotImplementedError

    def beside(self) -> Sequence[str]:
        """What to put before a command to run it in the same network."""
        assert self._process is not None
        return ["nsenter", f"--net=/proc/{self._process.pid}/ns/net"]

    @contextmanager
    def browser(self) -> Iterator[Browser]:
        """A Chromium in the same network."""
        script = self.log.with_name("chromium")
        script.write_text(f'#!/bin/sh\nexec {" ".join(self.beside())} {CHROMIUM} "$@"\n')
        script.chmod(0o755)
        with sync_playwright() as playwright:
            started = playwright.chromium.launch(executable_path=str(script), args=["--no-sandbox"])
            try:
                yield started
            finally:
                started.close()
