"""
The breaker, and what it tells of its own changes.
"""

from collectord.storage.chain.breaker import TRIES, Breaker


def test_it_opens_after_three_failures_in_a_row() -> None:
    breaker = Breaker()
    assert TRIES == 3
    assert [breaker.failed() for _ in range(5)] == [False, False, True, False, False]
    assert breaker.open


def test_a_success_in_between_counts() -> None:
    breaker = Breaker()
    for _ in range(5):
        assert not breaker.failed()
        assert not breaker.failed()
        assert not breaker.succeeded()
    assert not breaker.open


def test_a_bad_failure_opens_it_at_once() -> None:
    breaker = Breaker()
    assert breaker.failed(fatal=True)
    assert breaker.open
    assert not breaker.failed(fatal=True)


def test_it_closes_and_starts_from_none() -> None:
    breaker = Breaker()
    breaker.failed(fatal=True)
    assert breaker.succeeded()
    assert not breaker.open
    assert [breaker.failed() for _ in range(3)] == [False, False, True]
