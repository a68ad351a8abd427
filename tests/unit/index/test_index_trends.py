"""
How often a fingerprint was seen in the last ten minutes, in slots of five seconds.
"""

import pytest

from collectord.index import trends
from collectord.index.trends import RecentTrends
from collectord.index.values import SeenKept

NOW = 1_700_000_000.0
"""A slot begins here."""


def shown(recent: RecentTrends, now: float, fingerprint: str = "1:a") -> list[SeenKept | None]:
    return [slot.counts for slot in recent.trend(now, fingerprint)]


def test_slots() -> None:
    recent = RecentTrends(NOW - 11)
    recent.note(NOW, ([["1:a", "App", "1", 10, 3], ["1:a", "App", "2", 1, 1], ["", "", "", 5, 5]], []))
    recent.note(NOW + 2, ([["1:a", "App", "1", 10, 10], ["1:b", "App", "1", 1, 0]], []))
    none = SeenKept()
    assert shown(recent, NOW + 2)[-5:] == [None, none, none, SeenKept(11 + 6, 4 + 6), SeenKept(4, 4)]
    assert shown(recent, NOW + 2, "1:b")[-2:] == [SeenKept(1, 0), none]
    trend = recent.trend(NOW + 2, "1:a")
    assert (len(trend), trend[-1].at, trend[0].at) == (120, NOW, NOW - 595)
    assert shown(recent, NOW + 700) == [none] * 120


def test_with_too_many_fingerprints_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trends, "_MOST", 3)
    recent = RecentTrends(NOW - 1000)
    for number in range(4):
        recent.note(NOW + 5 * number, ([["1:a", "", "", 1, 1], [f"1:{number}", "", "", 1, 1]], []))
    assert shown(recent, NOW + 15)[-3:] == [None, SeenKept(1, 1), SeenKept()]
