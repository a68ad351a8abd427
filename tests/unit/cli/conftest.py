"""Fixtures of the tests of the command."""

import os
from pathlib import Path

import pytest

from collectord.settings import loading as config
from collectord.settings.schema import PREFIX


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever this machine has, in its environment or in /etc, and wherever it runs."""
    for variable in list(os.environ):
        if variable.upper().startswith(PREFIX):
            monkeypatch.delenv(variable)
    monkeypatch.setattr(config, "DEFAULT_PATH", tmp_path / "none.toml")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Of a store; it is the one of the settings, since ./crashes is."""
    path = tmp_path / "crashes"
    path.mkdir()
    return path
