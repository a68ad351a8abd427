"""What all tests share."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("tests.support")

# Noisy machines: time is no promise of a unit test, and examples are the same in every run.
settings.register_profile("here", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("here")


@pytest.fixture(autouse=True)
def state_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is remembered of stores by one test and for another; the directory is there once something is."""
    directory = tmp_path_factory.getbasetemp() / "state" / tmp_path_factory.mktemp("state").name
    monkeypatch.setenv("STATE_DIRECTORY", str(directory))
    return directory
