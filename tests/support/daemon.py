"""
A real C{twistd collectord} process that a test owns.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from random import randrange
from types import TracebackType
from typing import Self

from attrs import define, field

ROOT = Path(__file__).parents[2]
"""The top of the source tree."""

_FIRST_PORT = 10_000
_START_S = 60.0
_DIE_S = 10.0


class DidNotStart(Exception):
    """The daemon ended, or stayed silent, before it was healthy; the text is its log."""


def free_port() -> int:
    """
    A loopback TCP port that nobody listens on, and that the kernel gives to no client meanwhile: one that asks a server
    that is just starting, over and over, may be given the very port it asks for.
    """
    beyond = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = randrange(_FIRST_PORT, beyond)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def config(
    port: int,
    *roots: Path,
    submission: str = "",
    storage: str = "",
    moves: bool = False,
    stop_s: float = 2.0,
    admin: int | None = None,
    duplicate_window_s: float = 0,
) -> str:
    """
    Settings for one submission port and a store for each root, the primary first.

    @param moves: crashes may go home to the primary; or settings of the crashmover follow.

    @param submission: more lines for that section, as TOML.
    @param storage: more lines for every store.
    @param stop_s: how long a stop waits for uploads.
    @param admin: the port of the admin site; None: there is none.
    @param duplicate_window_s: many tests post one report many times, and count crashes.
    """
    listen = f'listen = ["tcp:{port}:interface=127.0.0.1"]'
    times = f"stop_s = {stop_s}\nduplicate_window_s = {duplicate_window_s}"
    sections = [f"[submission]\n{listen}\n{times}\n{submission}\n"]
    sections += [f"[[storage]]\nroot = {json.dumps(str(root))}\nmin_free_bytes = 0\n{storage}\n" for root in roots]
    admins = [] if admin is None else [f"tcp:{admin}:interface=127.0.0.1"]
    sections.append(f"[admin]\nlisten = {json.dumps(admins)}\n")
    if not moves:
        sections.append("[crashmover]\nenabled = false\n")
    return "\n".join(sections)


@define
class Daemon:
    """
    C{twistd} in the foreground, with settings of its own. As a context manager it is healthy when entered, and leaves
    no process behind.

    @ivar toml: the settings; they listen on C{port}.
    @ivar workdir: where it runs, and where its settings and its log lie.
    @ivar env: what its environment has besides, or instead of, this process's.
    @ivar prefix: a command to run it under, C{strace -D …} or C{fiu-run …}, that leaves it the process id.
    @ivar service: the name of its C{twistd} plugin.
    @ivar start_s: how long it may take to be healthy.
    """

    toml: str
    port: int
    workdir: Path
    env: Mapping[str, str] = field(factory=dict, kw_only=True)
    prefix: Sequence[str] = field(default=(), kw_only=True)
    service: str = field(default="collectord", kw_only=True)
    start_s: float = field(default=_START_S, kw_only=True)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def pid(self) -> int:
        """Its process id; it stays its own until this is left or started again, even when the process has ended."""
        if self._process is None:
            raise RuntimeError("it was not started")
        return self._process.pid

    @property
    def toml_path(self) -> Path:
        """The file of its settings, once it was started."""
        return self.workdir / "collectord.toml"

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def log(self) -> str:
        """What it has written to its standard output and error, in all its lives."""
        return self._log_file.read_text(errors="replace")

    def start(self) -> None:
        """
        Start it, again too, and wait until it is healthy.

        @raise DidNotStart: it is not, in time.
        """
        self.launch()
        try:
            self._wait_until_healthy()
        except BaseException:
            self._clean_up()
            raise

    def launch(self) -> None:
        """Start it, and do not wait."""
        self._clean_up()
        self.workdir.mkdir(parents=True, exist_ok=True)
        settings = self.toml_path
        settings.write_text(self.toml)
        twistd = [str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile="]
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.prefix, *twistd, self.service, "--config", str(settings)],
                cwd=self.workdir,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def stop(self, timeout: float = 15.0) -> int:
        """
        Ask it to end (SIGTERM), and kill it if it has not in time.

        @return: its exit status, or minus the signal that ended it. C{twistd} shuts down in order and then ends by the
            signal it got, so that is C{-SIGTERM}.
        """
        os.kill(self.pid, signal.SIGTERM)
        status = self._exit_status(timeout)
        return self.kill() if status is None else status

    def kill(self) -> int:
        """
        SIGKILL, to this one process.

        @return: as L{stop}.
        @raise TimeoutError: it hangs in the kernel.
        """
        os.kill(self.pid, signal.SIGKILL)
        status = self._exit_status(_DIE_S)
        if status is None:
            raise TimeoutError(f"process {self.pid} was killed and does not end")
        return status

    def wait(self, timeout: float) -> int:
        """
        Wait for it to end by itself.

        @return: as L{stop}.
        @raise TimeoutError: it does not.
        """
        status = self._exit_status(timeout)
        if status is None:
            raise TimeoutError(f"process {self.pid} still runs after {timeout} s")
        return status

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        finally:
            self._clean_up()

    @property
    def _log_file(self) -> Path:
        return self.workdir / "twistd.log"

    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("COLLECTORD_")}
        own = {
            "PYTHONUNBUFFERED": "1",
            "LC_ALL": "C.UTF-8",
            "PYTHONPATH": str(ROOT),
            "STATE_DIRECTORY": str(self.workdir.absolute() / "state"),
        }
        return inherited | own | dict(self.env)

    def _wait_until_healthy(self) -> None:
        deadline = time.monotonic() + self.start_s
        while not _is_healthy(self.port):
            status = self._exit_status(0.05)
            if status is not None:
                raise DidNotStart(f"it ended with {status}:\n{self.log()}")
            if time.monotonic() > deadline:
                raise DidNotStart(f"it is not healthy after {self.start_s} s:\n{self.log()}")

    def _exit_status(self, timeout: float) -> int | None:
        """Its exit status once it has ended, leaving it a zombie: nobody else gets its process id meanwhile."""
        deadline = time.monotonic() + timeout
        while (ended := os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)) is None:
            if time.monotonic() > deadline:
                return None
            time.sleep(0.01)
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def _clean_up(self) -> None:
        """End whatever is left of it and of its own children."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(_DIE_S)
            self._process = None


def _is_healthy(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/__lbheartbeat__")
        return connection.getresponse().status in (200, 503)  # 503: its stores take nothing
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
