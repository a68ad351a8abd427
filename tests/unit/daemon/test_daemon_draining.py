from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from collectord.daemon.draining import INTERVAL_S, DrainFileWatch


class Reactor(Clock):
    callFromThread = None


class Threads:
    """Does at once what is given to a thread; or never, where it hangs."""

    hangs = False

    def __init__(self, name: str, count: int, call_from_thread: object) -> None:
        self.name = name

    def __call__(self, work: Callable[[], Any]) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        if not self.hangs:
            done.callback(work())
        return done


@pytest.fixture(autouse=True)
def threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collectord.daemon.draining.ThreadPool", Threads)


def test_while_the_file_is_there(tmp_path: Path) -> None:
    told: list[bool] = []
    clock, file = Reactor(), tmp_path / "drain"
    watch = DrainFileWatch(lambda: file, told.append, clock)
    watch.startService()
    assert told == [False]
    file.touch()
    clock.advance(INTERVAL_S)
    file.unlink()
    clock.advance(INTERVAL_S)
    assert told == [False, True, False]
    watch.stopService()
    assert clock.getDelayedCalls() == []


def test_without_a_file(tmp_path: Path) -> None:
    told: list[bool] = []
    watch = DrainFileWatch(lambda: None, told.append, Reactor())
    watch.startService()
    assert told == [False]
    watch.stopService()


def test_a_disk_that_hangs_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[bool] = []
    clock = Reactor()
    watch = DrainFileWatch(lambda: tmp_path, told.append, clock)
    watch.startService()
    assert told == [True]
    monkeypatch.setattr(Threads, "hangs", True)
    for _ in range(3):
        clock.advance(INTERVAL_S)
    assert told == [True]
    watch.stopService()
