"""
Which slots of the date branch are listed in a pass.
"""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from collectord.storage.filesystem import datebranch
from collectord.storage.filesystem.datebranch import DateBranch
from tests.unit.storage.stores import CRASH_ID

SLOT = "20160622/date/12/30_00"
BEGAN = datetime(2016, 6, 22, 12, 30, tzinfo=UTC)


class Scene:
    """
    A slot that is empty, and the branch.

    @ivar listed: the slots that were listed.
    """

    def __init__(self, root: Path) -> None:
        self.slot = root / SLOT
        self.slot.mkdir(parents=True)
        self.now = BEGAN
        self.listed: list[str] = []
        self.branch = DateBranch(str(root), lambda: self.now)

    def pass_after(self, seconds: float) -> list[str]:
        """The ids that a pass finds, so many seconds after the slot began."""
        self.now = BEGAN + timedelta(seconds=seconds)
        self.listed.clear()
        return [new.crash_id for batch in self.branch.new_crashes() for new in batch]

    def keep(self) -> None:
        (self.slot / CRASH_ID).symlink_to("nowhere")


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    made = Scene(tmp_path)

    def listing(path: str, errors: list[OSError] | None = None) -> list[str]:
        if path == str(made.slot):
            made.listed.append(path)
        return os.listdir(path)

    monkeypatch.setattr(datebranch, "list_directory", listing)
    return made


def test_a_slot_that_is_fresh_is_listed_in_each_pass(scene: Scene) -> None:
    for seconds in (1, 1.1, 9.9):
        assert scene.pass_after(seconds) == []
        assert scene.listed
    scene.keep()
    assert scene.pass_after(9.9) == [CRASH_ID]


def test_an_empty_slot_that_is_older_is_listed_now_and_then(scene: Scene) -> None:
    passes = [60 + number / 2 for number in range(30)]
    listed = [seconds for seconds in passes if scene.pass_after(seconds) or scene.listed]
    assert listed == [60, 64, 68, 72]


def test_a_crash_that_comes_late_is_found_a_little_later(scene: Scene) -> None:
    scene.pass_after(60)
    scene.keep()
    assert [scene.pass_after(seconds) for seconds in (60.9, 61.8, 62.7, 63.6)] == [[]] * 4
    assert scene.pass_after(64) == [CRASH_ID]
    assert scene.pass_after(64.1) == [CRASH_ID]  # one that is not empty is listed in each pass


def test_in_quiet_times_a_crash_that_comes_late_is_found_at_once(scene: Scene) -> None:
    scene.pass_after(60)
    scene.keep()
    assert scene.pass_after(61) == [CRASH_ID]


def test_a_clock_that_is_set_back_hides_nothing_for_long(scene: Scene) -> None:
    scene.pass_after(240)
    scene.keep()
    scene.pass_after(60)
    assert scene.pass_after(60.1) == [CRASH_ID]


def test_a_slot_that_could_not_be_listed_does_not_count_as_empty(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: str, errors: list[OSError] | None = None) -> list[str]:
        if path != str(scene.slot):
            return os.listdir(path)
        assert errors is not None
        errors.append(OSError(5, "Input/output error"))
        return []

    with monkeypatch.context() as patched:
        patched.setattr(datebranch, "list_directory", broken)
        with pytest.raises(OSError, match="Input/output"):
            scene.pass_after(60)
    scene.keep()
    assert scene.pass_after(60.1) == [CRASH_ID]
