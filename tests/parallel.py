"""
How the tests are shared out among the processes of C{pytest -n auto}; the hooks here are those of L{tests.conftest}.

Unit tests come first, shuffled by pytest-randomly. Tests of real processes follow in the order in which they are
written: they start what they need for a whole module. A module always runs in one process. The modules of L{_MACHINE}
run one after another in one process, because they mount, fill and cut off disks, or boot machines.
"""

import gc
from collections.abc import Iterator
from typing import Final

import pytest
from _pytest.runner import runtestprotocol
from xdist.scheduler import LoadScopeScheduling

# Collections of garbage were a fifth of the time in which tests are found, where nothing goes away, and a tenth of that
# in which they run.
gc.set_threshold(50_000, 20, 20)
gc.disable()

_REAL: Final = ("tests/support_tests/", "tests/fault/", "tests/e2e/")
_MACHINE: Final = (
    "tests/support_tests/test_support_fusefs.py",
    "tests/support_tests/test_support_mounts.py",
    "tests/fault/",
    "tests/e2e/test_e2e_mounts.py",
    "tests/e2e/test_e2e_systemd",
    "tests/e2e/test_e2e_truth.py",
)


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
    gc.enable()  # the process that shares out finds no tests
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


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """
    One of several processes tells what a test came to, and nothing of what went well before and after it: the six
    messages that pytest-xdist sends for each test, in Python on both sides, took longer than most tests.
    """
    options = item.config.option
    if not hasattr(item.config, "workerinput") or options.durations or options.xmlpath:
        return None
    for report in runtestprotocol(item, log=False, nextitem=nextitem):
        if report.when == "call" or not report.passed:
            report.keywords = {}  # the longest part of it, which nobody reads
            item.ihook.pytest_runtest_logreport(report=report)
    return True


def pytest_collection_finish() -> None:
    """What all the modules hold is not looked at again by each collection of garbage, which took a second each time."""
    gc.freeze()
    gc.enable()


def pytest_sessionfinish() -> None:
    """Nor is what the tests have left behind, which pytest would look through five times in the end."""
    gc.collect()
    gc.freeze()
