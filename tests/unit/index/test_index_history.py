"""
The history of what came in: in slots, with gaps, and after a restart.
"""

import pytest

from collectord.index.history import IntakeRecorder
from collectord.index.intake import IntakeCounts
from tests.support.cases import for_each

NOW = 21600.0 * 80_000
"""A slot of each span begins here."""


def came(seconds: float) -> IntakeCounts:
    """Two reports a second, one of which is kept."""
    return IntakeCounts(received=2 * seconds, kept=seconds, bytes_in=100 * seconds)


def recorded(seconds: int, since: float = NOW, every: float = 5.0) -> IntakeRecorder:
    recorder = IntakeRecorder()
    number = 0
    while number * every <= seconds:
        recorder.note(since + number * every, came(number * every))
        number += 1
    return recorder


@for_each("since", [0.0, 1.5, 4.999])
def test_slots_have_what_came_in_their_time(since: float) -> None:
    history = recorded(60, NOW + since).history("10min", NOW + 60 + since)
    whole = [slot for slot in history.slots if slot is not None][1:-1]
    assert len(whole) >= 10
    for slot in whole:
        assert slot.seconds == pytest.approx(5.0)
        assert slot.rates.received == pytest.approx(2.0)
    assert (len(history.slots), history.step_s) == (120, 5)
    assert [history.sums.received, history.sums.kept] == pytest.approx([120.0, 60.0])
    assert history.mean.received == pytest.approx(2.0)
    assert history.most.kept == pytest.approx(1.0)
    assert history.now.received == pytest.approx(2.0)


def test_the_present_slot_may_be_the_one_with_the_most() -> None:
    """The chart shows it, too."""
    history = recorded(10).history("24h", NOW + 10)
    assert history.most.received == pytest.approx(2.0)


def test_now_is_the_mean_of_ten_seconds() -> None:
    recorder = recorded(60)
    recorder.note(NOW + 65, came(60))
    assert recorder.history("24h", NOW + 65).now.received == pytest.approx(1.0)
    recorder.note(NOW + 70, came(60))
    assert recorder.history("24h", NOW + 70).now.received == 0.0


def test_what_is_too_long_ago_is_forgotten() -> None:
    recorder = recorded(1200)
    assert recorder.history("10min", NOW + 1200).sums.received == pytest.approx(1190)
    assert recorder.history("24h", NOW + 1200).sums.received == pytest.approx(2400)


def test_a_gap_is_a_gap_after_a_restart() -> None:
    before = recorded(60)
    after = IntakeRecorder()
    after.read_json(before.to_json())
    for number in range(13):
        after.note(NOW + 120 + 5 * number, came(5.0 * number))
    history = after.history("10min", NOW + 180)
    there = [slot is not None for slot in history.slots]
    assert there[-37:] == [True] * 12 + [False] * 12 + [True] * 12 + [False]
    assert history.mean.received == pytest.approx(2.0)
    assert history.sums.received == pytest.approx(240)


def test_a_machine_that_stood_still_has_a_gap() -> None:
    recorder = recorded(60)
    recorder.note(NOW + 3660, came(120))
    history = recorder.history("24h", NOW + 3660)
    assert sum(slot is None for slot in history.slots[-5:]) == 3
    assert history.sums.received == pytest.approx(240)


def test_counters_that_fall_count_nothing() -> None:
    recorder = recorded(60)
    recorder.note(NOW + 65, IntakeCounts())
    assert recorder.history("30d", NOW + 65).sums.received == pytest.approx(120)


@for_each("text", ["", "{}", "[]", '{"10min": [[1]], "24h": [], "30d": []}', "null"])
def test_what_is_damaged_is_forgotten(text: str) -> None:
    recorder = recorded(60)
    with pytest.raises(ValueError, match=r".*"):
        recorder.read_json(text)
    assert recorder.history("10min", NOW + 60).sums.received == pytest.approx(120)
