"""What all tests share."""

import os
import re
from itertools import count
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

from tests.parallel import (
    pytest_collection_finish,
    pytest_collection_modifyitems,
    pytest_runtest_protocol,
    pytest_sessionfinish,
    pytest_xdist_make_scheduler,
)

__all__ = [
    "pytest_collection_finish",
    "pytest_collection_modifyitems",
    "pytest_runtest_protocol",
    "pytest_sessionfinish",
    "pytest_xdist_make_scheduler",
]

pytest.register_assert_rewrite("tests.support")

# Noisy machines: time is no promise of a unit test, and examples are the same in every run. They are few, because
# tests/fuzz tries others for as long as one likes.
settings.register_profile(
    "here", max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("here")

_NUMBERS: Final = count()


@pytest.fixture
def tmp_path(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """As pytest's own, which looks at all directories that are there already to find a name for the next one."""
    name = re.sub(r"\W", "_", request.node.name)[:30]
    path = tmp_path_factory.getbasetemp() / "t" / f"{name}{next(_NUMBERS)}"
    path.mkdir(mode=0o700, parents=True)
    return path


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """
    Nothing is remembered of stores by one test and for another; the directory is there once something is. A fixture for
    each of so many tests would take longer than all that it does.
    """
    directory = item.config._tmp_path_factory.getbasetemp() / "state" / str(next(_NUMBERS))  # type: ignore[attr-defined]
    os.environ["STATE_DIRECTORY"] = str(directory)  # each test sets it, so nothing puts it back
