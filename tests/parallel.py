"""
How the tests are shared out among the processes of C{pytest -n auto}; the hooks here are those of L{tests.conftest}.

Unit tests come first, shuffled by pytest-randomly. Tests of real processes follow in the order in which they are
written: they start what they need for a whole module. A module always runs in one process. The modules of L{_MACHINE}
run one after another in one process, because they mount, fill and cut off disks, or boot machines. A test with the mark
C{alone} measures time: nothing else runs meanwhile.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from xdist.scheduler import LoadScopeScheduling

_REAL: Final = ("tests/support_tests/", "tests/fault/", "tests/e2e/")
_MACHINE: Final = (
    "tests/support_tests/test_support_fusefs.py",
    "tests/support_tests/test_support_mounts.py",
    "tests/fault/",
    "tests/e2e/test_e2e_mounts.py",
    "tests/e2e/test_e2e_systemd",
    "tests/e2e/test_e2e_truth.py",
)
_TURN, _ROOM = Path(__file__).parent, Path(__file__)
"""What is locked for a test: nothing is written there."""


class ByModule(LoadScopeScheduling):  # type: ignore[misc]
    """Gives each worker a module at a time, in the order of the collection."""

    def __init__(self, config: pytest.Config, log: object) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        return "the machine" if nodeid.startswith(_MACHINE) else nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByModule:
    """Also for a plain C{pytest -n auto}."""
    return ByModule(config, log)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Runs after pytest-randomly has shuffled them, and before pytest brings together those that share a fixture."""
    real = [item for item in items if item.nodeid.startswith(_REAL)]
    items[:] = [item for item in items if not item.nodeid.startswith(_REAL)]
    items += sorted(real, key=_as_written)
    return (yield)


def _as_written(item: pytest.Item) -> tuple[bool, str, int, str]:
    """What takes longest comes first, so that the processes end at about the same time."""
    path, line, _ = item.location
    return not item.nodeid.startswith(_MACHINE), path, line or 0, item.nodeid


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Before pytest-timeout begins to count."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return (yield)
    with _room(fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH):
        return (yield)


@contextmanager
def _room(how: int) -> Iterator[None]:
    """
    Share the machine with the other processes' tests, or have it alone. Whoever waits for it alone holds the turn: the
    others wait behind it, and can't hand the machine to each other for ever.
    """
    with _locked(_TURN, fcntl.LOCK_EX):
        room = os.open(_ROOM, os.O_RDONLY)
        fcntl.flock(room, how)
    try:
        yield
    finally:
        fcntl.flock(room, fcntl.LOCK_UN)  # by hand: a process that the test has forked may have it open, too
        os.close(room)


@contextmanager
def _locked(path: Path, how: int) -> Iterator[None]:
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(fd, how)
        yield
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)
