"""
Checks of paths in the settings. A path that can't be meant is refused, before crashes are kept where nobody looks.
"""

import os
import re
import stat
from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path
from threading import Thread
from typing import Annotated

from pydantic import BeforeValidator

_PLACEHOLDER = re.compile(r"\$[A-Za-z_({]|\{\{|%\{")
_RESOLVE_S = 2.0


def _plain(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not value.strip():
        raise ValueError("is empty: write the whole path, as in /var/lib/collectord/crashes")
    if _PLACEHOLDER.search(value):
        raise ValueError("has a placeholder in it that was not filled in: write the whole path")
    if value.startswith("~"):
        raise ValueError("~ is not expanded here: write the whole path")
    if "://" in value:
        raise ValueError("is a URL: write the path of a directory")
    if value != value.strip() or not value.isprintable():
        raise ValueError("has spaces around it, or characters in it that can't be seen")
    return value


PlainPath = Annotated[Path, BeforeValidator(_plain)]
"""A path without placeholders, C{~} or anything else that would have to be expanded."""


def nested(places: Sequence[tuple[str, Path]]) -> str:
    """
    Describe the first of C{places}, which are names and paths, that lies in another one; else return an empty text.

    This blocks, since symlinks are followed.
    """
    resolved = [(name, path, _resolved(path)) for name, path in places]
    for (inner, path, at), (outer, root, around) in permutations(resolved, 2):
        if at != around and around in at.parents:
            return f"{inner} = {str(path)!r}: lies in {outer} = {str(root)!r}"
    return ""


def _resolved(path: Path) -> Path:
    """Resolve the symlinks in C{path}. If a mount on the way hangs, return it as it is written."""
    found = [Path(os.path.abspath(path))]
    thread = Thread(target=lambda: found.append(Path(os.path.realpath(path))), daemon=True)
    thread.start()
    thread.join(_RESOLVE_S)
    return found[-1]


def others_can_read(file: Path) -> bool:
    """
    Tell whether all users of this host can read C{file}. This blocks.

    @raise OSError: the file does not exist.
    """
    path = Path(os.path.realpath(file))
    return bool(path.stat().st_mode & stat.S_IROTH) and all(
        parent.stat().st_mode & stat.S_IXOTH for parent in path.parents
    )


def is_service(environment: Mapping[str, str], *, has_terminal: bool) -> bool:
    """
    Tell whether this process was started by systemd and not by a person.

    C{INVOCATION_ID} alone does not say so, since a terminal inherits it from the desktop session that it runs in.
    """
    if "NOTIFY_SOCKET" in environment or environment.get("SYSTEMD_EXEC_PID") == str(os.getpid()):
        return True
    return "INVOCATION_ID" in environment and not has_terminal


def relative(places: Sequence[tuple[str, Path]]) -> Sequence[str]:
    """Describe each of C{places}, which are names and paths, whose path is relative."""
    return [f"{name} = {str(path)!r}: {_RELATIVE}" for name, path in places if not path.is_absolute()]


_RELATIVE = (
    "is relative, and a service may be started anywhere: write the whole path, as in /var/lib/collectord/crashes"
)
