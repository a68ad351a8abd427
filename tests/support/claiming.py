"""
Two hosts that claim crashes in one store, each through a mount of its own.

C{python -m tests.support.claiming DIRECTORY DIRECTORY}, with one directory seen through two mounts, fails where one
host does not see at once what the other has claimed. It changes the host name: give it one of its own.
"""

import socket
import sys
from pathlib import Path

from collectord.storage.filesystem.fsops import see_changes
from collectord.storage.filesystem.moving import MoveClaims
from collectord.storage.filesystem.staging import Modes, StagingDirectory


class _Host:
    """A host with one process that moves crashes."""

    def __init__(self, name: str, directory: str) -> None:
        self._name = name
        socket.sethostname(name)
        staging = StagingDirectory(f"{directory}/crashes", Modes())
        staging.make()
        self._claims = MoveClaims(staging, "moving")

    def take(self, crash_id: str) -> bool:
        socket.sethostname(self._name)
        return self._claims.take(crash_id)

    def drop(self, crash_id: str) -> None:
        self._claims.drop(crash_id)


def _remove(one: Path, other: Path) -> None:
    (one / "file").touch()
    assert (other / "file").exists()
    (one / "file").unlink()
    see_changes(str(other))
    assert not (other / "file").exists(), "it has not seen what was removed"


def main(one: str, other: str, *more: str) -> None:
    """Claim crashes on both hosts; with C{removals}, remove a file, too."""
    if more == ("removals",):
        _remove(Path(one), Path(other))
    lion = _Host("lion", one)
    assert lion.take("a crash of lion")
    tiger = _Host("tiger", other)
    assert not tiger.take("a crash of lion")
    assert tiger.take("a crash of tiger")
    assert not lion.take("a crash of tiger"), "it has not seen who began a moment ago"
    assert lion.take("a crash of both")
    lion.drop("a crash of both")
    assert tiger.take("a crash of both")
    assert not lion.take("a crash of both"), "it has not seen what was claimed since it looked"
    print("each has seen the other")


if __name__ == "__main__":
    main(*sys.argv[1:])
