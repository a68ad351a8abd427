from datetime import UTC, datetime
from pathlib import Path

import pytest

from collectord.storage.filesystem.backlog import Waiting, count_quarantined, count_waiting


def link(root: Path, day: str, hour: str, slot: str, name: str) -> None:
    directory = root / day / "date" / hour / slot
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).symlink_to("../../../name/aa/bb")


def test_waiting(tmp_path: Path) -> None:
    for name in "abc":
        link(tmp_path, "20261124", "15", "19_49", name)
    link(tmp_path, "20261124", "09", "00_01", "d")
    link(tmp_path, "20261125", "00", "00_00", "e")
    (tmp_path / "20261123" / "date" / "11" / "00_00").mkdir(parents=True)
    (tmp_path / "20261123" / "name").mkdir()
    (tmp_path / "staging").mkdir()
    oldest = datetime(2026, 11, 24, 9, 0, 1, tzinfo=UTC).timestamp()
    assert count_waiting(str(tmp_path)) == Waiting(5, oldest)


def test_nothing_waits(tmp_path: Path) -> None:
    assert count_waiting(str(tmp_path)) == Waiting(0, None)
    assert count_waiting(str(tmp_path / "absent")) == Waiting(0, None)


def test_what_is_no_time(tmp_path: Path) -> None:
    link(tmp_path, "20261399", "99", "xx", "a")
    assert count_waiting(str(tmp_path)) == Waiting(1, None)


def test_a_store_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="Not a directory"):
        count_waiting(str(tmp_path / "file"))


def test_quarantine(tmp_path: Path) -> None:
    assert count_quarantined(str(tmp_path)) == 0
    for name in "ab":
        (tmp_path / "quarantine" / name).mkdir(parents=True)
    assert count_quarantined(str(tmp_path)) == 2
