"""
The delay before the next try: twice as long after each failure, up to a limit, and never in step with others.
"""

from collectord.concurrency.backoff import backoff_delay


def test_delays_grow_up_to_a_limit() -> None:
    delays = [backoff_delay(n, first=1.0, longest=60.0) for n in (1, 2, 3, 6, 7, 1000, 10**9)]
    assert delays == [1, 2, 4, 32, 60, 60, 60]


def test_delays_differ_by_chance() -> None:
    assert [backoff_delay(3, first=1.0, longest=60.0, chance=chance) for chance in (0.0, 0.5, 1.0)] == [3.0, 4.0, 5.0]
