"""
The clock by which crashes age: a jump of the system's clock takes it along only slowly, also over a restart.
"""

from datetime import UTC, datetime, timedelta

import pytest
from attrs import define

from collectord.storage.filesystem.slowclock import SlowClock
from tests.unit.storage.stores import Rig, failing

NOW = datetime(2016, 6, 22, 15, 0, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


@define
class Clocks:
    """The system's clock, and how long the process has run."""

    now: datetime = NOW
    seconds: float = 0.0

    def pass_(self, time: timedelta) -> None:
        self.now += time
        self.seconds += time.total_seconds()

    def clock(self, rig: Rig) -> SlowClock:
        return SlowClock(rig.staging, lambda: self.now, lambda: self.seconds)


def test_it_goes_with_the_systems_clock(rig: Rig) -> None:
    clocks = Clocks()
    clock = clocks.clock(rig)
    for _ in range(3):
        assert clock.read() == clocks.now
        clocks.pass_(HOUR)


@pytest.mark.parametrize("after", ["a restart", "no restart"])
def test_a_jump_ahead_is_caught_up_slowly(rig: Rig, after: str) -> None:
    clocks = Clocks()
    clock = clocks.clock(rig)
    clock.read()
    clocks.now += 1000 * DAY
    if after == "a restart":
        clock = clocks.clock(rig)
    assert clock.read() == NOW
    clocks.pass_(4 * HOUR)
    assert clock.read() == NOW + DAY
    clocks.pass_(300 * DAY)
    assert clock.read() == clocks.now


def test_the_clock_is_put_right(rig: Rig) -> None:
    clocks = Clocks()
    clock = clocks.clock(rig)
    clock.read()
    clocks.now += 1000 * DAY
    clocks.pass_(HOUR)
    assert clock.read() == NOW + 6 * HOUR
    clocks.now = NOW + HOUR
    assert clock.read() == NOW + HOUR


def test_a_jump_back_and_forth_costs_nothing(rig: Rig) -> None:
    clocks = Clocks()
    clock = clocks.clock(rig)
    clock.read()
    clocks.now = datetime(1970, 1, 1, tzinfo=UTC)
    assert clock.read() == clocks.now
    clocks.now = NOW
    assert clock.read() == NOW


def test_at_the_first_start_it_begins_with_the_newest_day(rig: Rig) -> None:
    (rig.root / "20160502").mkdir()
    (rig.root / "20160401").mkdir()
    (rig.root / "20160599").mkdir()
    (rig.root / "20301231").mkdir()
    assert Clocks().clock(rig).read() == datetime(2016, 5, 3, tzinfo=UTC)
    (rig.root / "20160622").mkdir()
    assert Clocks().clock(rig).read() == datetime(2016, 5, 3, tzinfo=UTC)  # it was noted
    (rig.root / "retention.time").write_text("damaged")
    assert Clocks().clock(rig).read() == NOW


@pytest.mark.parametrize("noted", ["9999-12-31T23:59:59+00:00", "0001-01-01T00:00:00+14:00"])
def test_a_time_that_nobody_can_have_noted_does_not_stop_it(rig: Rig, noted: str) -> None:
    (rig.root / "retention.time").write_text(noted)
    clocks = Clocks()
    clock = clocks.clock(rig)
    for _ in range(3):
        assert clock.read() == clocks.now
        clocks.pass_(HOUR)


def test_a_full_disk_does_not_stop_it(rig: Rig) -> None:
    clocks = Clocks()
    clock = clocks.clock(rig)
    with failing(rig.root, "writev", 1, OSError(28, "full")):
        assert clock.read() == NOW
    clocks.pass_(HOUR)
    assert clock.read() == clocks.now
