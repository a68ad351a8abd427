"""
What was counted in the last 24 hours: by hours, and after a restart.
"""

import pytest

from collectord.index.day import CountedNow, DayCounts, DayRecorder, Series

NOW = 3600.0 * 400_000
"""An hour begins here."""
ANSWER = ("answer", "200", "kept")
WAITS = ("waits", "/a")


def noted(
    recorder: DayRecorder, at: float, counts: dict[Series, float], gauges: dict[Series, float] | None = None
) -> None:
    recorder.note(NOW + at, CountedNow(counters=counts, gauges=gauges or {}))


def test_what_was_counted_in_the_last_hours() -> None:
    recorder = DayRecorder()
    noted(recorder, 0, {ANSWER: 100.0}, {WAITS: 3})
    noted(recorder, 5, {ANSWER: 103.0, ("rule", "a", "ACCEPT"): 2.0}, {WAITS: 7})
    noted(recorder, 10, {ANSWER: 103.0, ("rule", "a", "ACCEPT"): 2.0}, {WAITS: 1})
    noted(recorder, 3600, {ANSWER: 104.0})
    day = recorder.day(NOW + 3600)
    assert day.counts == {ANSWER: 4.0, ("rule", "a", "ACCEPT"): 2.0}
    assert day.of("answer") == {("200", "kept"): 4.0}
    assert day.of("answer", "200") == {("kept",): 4.0}
    assert day.hourly == {WAITS: [*[None] * 22, 7, None]}
    assert day.seconds == 70  # the machine stood still between the last two
    assert recorder.day(NOW + 23 * 3600).counts[ANSWER] == 4.0
    assert recorder.day(NOW + 24 * 3600).counts == {ANSWER: 1.0}


def test_after_a_restart() -> None:
    recorder = DayRecorder()
    noted(recorder, 0, {ANSWER: 0.0}, {WAITS: 3})
    noted(recorder, 5, {ANSWER: 7.0}, {WAITS: 3})
    later = DayRecorder()
    later.read_json(recorder.to_json())
    noted(later, 100, {ANSWER: 0.0})
    noted(later, 105, {ANSWER: 1.0}, {WAITS: 2})
    day = later.day(NOW + 105)
    assert (day.counts, day.hourly[WAITS][-1], day.seconds) == ({ANSWER: 8.0}, 3, 10)


def test_old_hours_are_forgotten_also_if_the_clock_was_set_back() -> None:
    recorder = DayRecorder()
    noted(recorder, 100 * 3600, {ANSWER: 1.0})
    noted(recorder, 0, {ANSWER: 2.0})
    assert recorder.day(NOW).counts == {ANSWER: 1.0}
    assert recorder.day(NOW + 100 * 3600) == DayCounts()


def test_what_can_not_be_read() -> None:
    recorder = DayRecorder()
    for text in ("", "{}{", "[[1]]", "[[1, 2, 3, 4]]", '[[1, 2, [["a"]], []]]', "7"):
        with pytest.raises(ValueError, match=r"."):
            recorder.read_json(text)
    assert recorder.day(NOW) == DayCounts()
