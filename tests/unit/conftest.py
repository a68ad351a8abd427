"""What all unit tests share."""

import os
from pathlib import Path
from typing import Final

import pytest
from prometheus_client import Gauge

from collectord import metrics
from collectord.settings import loading
from collectord.settings.schema import PREFIX

_GAUGES: Final = [each.metric for each in metrics.declared() if isinstance(each.metric, Gauge) and not each.labels]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """The gauges of this process are as in one that has just begun, whatever the test before has left in them."""
    for gauge in _GAUGES:
        gauge.set(0)


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever this machine has of settings, in its environment or in /etc, is not there."""
    for variable in list(os.environ):
        if variable.upper().startswith(PREFIX):
            monkeypatch.delenv(variable)
    monkeypatch.setattr(loading, "DEFAULT_PATH", tmp_path / "none.toml")
