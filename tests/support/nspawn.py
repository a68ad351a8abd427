"""
A small machine with a systemd of its own: a tree of Debian packages, booted by C{systemd-nspawn}.

In it C{/opt/collectord} is as if this virtual environment had been installed there, with a copy of this source.
"""

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from attrs import define, field

from tests.support.daemon import ROOT
from tests.support.wait import until

_TREE_S = 150
_BOOT_S = 60
_END_S = 20
_PACKAGES = "systemd,systemd-sysv,procps,python3"  # python3 for the libraries that any Python needs
_LEAVE_OUT = ("/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/man/*")
_PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
_NAMESPACES = ("--mount", "--uts", "--ipc", "--net", "--pid")


class NoMachine(Exception):
    """None can be made here; the text says why."""


def make_tree(tree: Path) -> None:
    """
    The packages of this machine's own release, and collectord.

    @raise NoMachine: a tool, a right or the packages are missing.
    """
    for tool in ("mmdebstrap", "systemd-nspawn", "nsenter"):
        if shutil.which(tool) is None:
            raise NoMachine(f"no {tool}")
    if os.geteuid() != 0:
        raise NoMachine("only root can boot one")
    options = [f"--dpkgopt=path-exclude={pattern}" for pattern in _LEAVE_OUT]
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={_PACKAGES}", *options]
    try:
        made = subprocess.run(
            [*command, _release(), str(tree), *_sources()], capture_output=True, text=True, timeout=_TREE_S, check=False
        )
    except subprocess.TimeoutExpired as e:
        raise NoMachine(f"mmdebstrap takes longer than {_TREE_S} s") from e
    if made.returncode != 0:
        raise NoMachine(f"mmdebstrap: {made.stderr[-500:]}")
    _install(tree)


def _release() -> str:
    lines = Path("/etc/os-release").read_text().splitlines()
    names = [line.partition("=")[2].strip('"') for line in lines if line.startswith("VERSION_CODENAME=")]
    if not names:
        raise NoMachine("this machine has no release of Debian")
    return names[0]


def _sources() -> list[str]:
    """Where this machine itself has its packages from; none: where mmdebstrap looks by itself."""
    files = [Path("/etc/apt", name) for name in ("sources.list", "sources.list.d/debian.sources")]
    return [str(file) for file in files if file.is_file() and file.read_text().strip()]


def _install(tree: Path) -> None:
    """A virtual environment; its Python and its packages are bound to it when it is booted."""
    venv = tree / "opt/collectord"
    packages = venv / "lib" / _PYTHON / "site-packages"
    packages.mkdir(parents=True)
    (venv / "bin").mkdir()
    home = "/usr" if sys.base_prefix == "/usr" else "/opt/python"
    (venv / "bin/python3").symlink_to(f"{home}/bin/{_PYTHON}")
    (venv / "pyvenv.cfg").write_text(f"home = {home}/bin\n")
    (packages / "packages.pth").write_text("/opt/packages\n")
    twistd = venv / "bin/twistd"
    twistd.write_text("#!/opt/collectord/bin/python3\nfrom twisted.scripts.twistd import run\nrun()\n")
    twistd.chmod(0o755)
    for name in ("collectord", "twisted"):
        shutil.copytree(ROOT / name, packages / name, ignore=shutil.ignore_patterns("__pycache__", "dropin.cache"))
    for library in Path(sys.base_prefix, "lib").glob("libpython*.so*"):  # its own path in there may be hidden
        shutil.copy(library, tree / "usr/local/lib")
    subprocess.run(["ldconfig", "-r", str(tree)], check=True)
    for name in ("systemd", "etc"):
        shutil.copytree(ROOT / name, tree / "usr/src/collectord" / name)


def _binds() -> list[str]:
    binds = [f"--bind-ro={sysconfig.get_path('purelib')}:/opt/packages"]
    return binds if sys.base_prefix == "/usr" else [*binds, f"--bind-ro={sys.base_prefix}:/opt/python"]


@define
class Machine:
    """
    Booted when entered; alone on its network, which is a loopback of its own.

    @ivar tree: by L{make_tree}.
    @ivar log: what its console shows.
    """

    tree: Path
    log: Path
    _nspawn: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def command(self, *command: str, only: Sequence[str] = _NAMESPACES) -> list[str]:
        """
        A command that runs C{command} in there, as root.

        @param only: some of its namespaces, by nsenter's options: C{["--net"]} is a program of ours on its network.
        """
        return ["nsenter", f"--target={self._first_process()}", *only, "--", *command]

    def run(self, *command: str, timeout: float = 60, check: bool = True) -> str:
        """
        What a command in there writes.

        @raise AssertionError: it failed.
        """
        ran = subprocess.run(
            self.command(*command),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={"PATH": "/usr/sbin:/usr/bin", "SYSTEMD_PAGER": "", "LC_ALL": "C.UTF-8"},
        )
        if check and ran.returncode != 0:
            raise AssertionError(f"{' '.join(command)} ended with {ran.returncode}:\n{ran.stdout}{ran.stderr}")
        return ran.stdout

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).strip()

    def _first_process(self) -> int:
        assert self._nspawn is not None
        if self._nspawn.poll() is not None:
            raise NoMachine(f"systemd-nspawn ended with {self._nspawn.returncode}: {self.log.read_text()[-500:]}")
        pid = self._nspawn.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        systemd = [int(child) for child in children if Path(f"/proc/{child}/comm").read_text() == "systemd\n"]
        if not systemd:
            raise ProcessLookupError("it has no first process yet")
        return systemd[0]

    def _is_up(self) -> bool:
        try:
            state = self.run("systemctl", "is-system-running", check=False).strip()
        except (ProcessLookupError, FileNotFoundError):
            return False
        return state in ("running", "degraded")

    def __enter__(self) -> Self:
        options = [f"--directory={self.tree}", f"--machine={self.tree.name}", "--private-network", "--register=no"]
        options += ["--keep-unit", "--console=pipe", "--settings=no", "--resolv-conf=off", "--link-journal=no"]
        with self.log.open("wb") as log:
            self._nspawn = subprocess.Popen(
                ["systemd-nspawn", "--quiet", *options, *_binds(), "--boot"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            until(self._is_up, _BOOT_S)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        assert self._nspawn is not None
        try:
            os.kill(self._first_process(), signal.SIGKILL)  # and all others with it
        except (NoMachine, ProcessLookupError):
            self._nspawn.kill()
        self._nspawn.wait(_END_S)
