"""
How often something happens a second.
"""

from collectord.observe.aggregate import total_in
from collectord.observe.rate import RecentRate


def test_the_mean_over_the_last_counts() -> None:
    rate = RecentRate()
    assert rate.per_s is None
    rate.note(0.0, 5.0)
    assert rate.per_s is None
    rate.note(2.0, 9.0)
    assert rate.per_s == 2.0
    for at in range(3, 14):
        rate.note(at, 9.0)
    assert rate.per_s == 0.0


def test_a_counter_in_what_a_worker_sends() -> None:
    snapshot = [["a", "counter", [["a_total", {}, 3.0], ["a_created", {}, 9.0]]], ["b", "gauge", [["b", {}, 1.0]]]]
    assert total_in(snapshot, "a") == 3.0
    assert total_in(snapshot, "c") == 0.0
