"""Fixtures of the tests of the command."""

from pathlib import Path

import pytest

from tests.support.fakereactor import threads_at_once

__all__ = ["threads_at_once"]


@pytest.fixture(autouse=True)
def _no_settings(no_settings: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nor does it matter where the tests run."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Of a store; it is the one of the settings, since ./crashes is."""
    path = tmp_path / "crashes"
    path.mkdir()
    return path
