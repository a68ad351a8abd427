from pathlib import Path

import pytest

from collectord.daemon.drainfile import INTERVAL_S, DrainFileWatch
from tests.support.fakereactor import FakeReactor, let_threads_hang

pytestmark = pytest.mark.usefixtures("threads_at_once")


def test_while_the_file_is_there(tmp_path: Path) -> None:
    notified: list[bool] = []
    clock, file = FakeReactor(), tmp_path / "drain"
    watch = DrainFileWatch(lambda: file, notified.append, clock)
    watch.startService()
    assert notified == [False]
    file.touch()
    clock.advance(INTERVAL_S)
    file.unlink()
    clock.advance(INTERVAL_S)
    assert notified == [False, True, False]
    watch.stopService()
    assert clock.getDelayedCalls() == []


def test_without_a_file(tmp_path: Path) -> None:
    notified: list[bool] = []
    watch = DrainFileWatch(lambda: None, notified.append, FakeReactor())
    watch.startService()
    assert notified == [False]
    watch.stopService()


def test_a_disk_that_hangs_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notified: list[bool] = []
    clock = FakeReactor()
    watch = DrainFileWatch(lambda: tmp_path, notified.append, clock)
    watch.startService()
    assert notified == [True]
    let_threads_hang(monkeypatch)
    for _ in range(3):
        clock.advance(INTERVAL_S)
    assert notified == [True]
    watch.stopService()
