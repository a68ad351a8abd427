"""
How late the reactor is.
"""

from twisted.internet.task import Clock

from collectord.concurrency.lateness import Lateness


def test_it_is_late_while_it_is_and_no_longer() -> None:
    clock = Clock()
    lateness = Lateness(clock)
    lateness.start()
    for _ in range(20):
        clock.advance(0.05)
    assert lateness.seconds < 0.001
    for _ in range(20):
        clock.advance(0.15)  # whatever takes so long, the next measurement is a tenth of a second late
    assert 0.09 < lateness.seconds < 0.11
    for _ in range(30):
        clock.advance(0.05)
    assert lateness.seconds < 0.001
    lateness.stop()
    assert clock.getDelayedCalls() == []
