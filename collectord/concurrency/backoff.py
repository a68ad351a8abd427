"""
How long to wait before something that has failed is tried again.
"""

_JITTER = 0.25


def backoff_delay(failures: int, *, first: float, longest: float, chance: float = 0.5) -> float:
    """
    Return how many seconds to wait after so many failures in a row: twice as many after each.

    @param failures: 1 or more.
    @param first: the seconds after the first failure.
    @param longest: the most seconds, however many failures there were.
    @param chance: a random number from 0 to 1, which makes the delay up to a quarter shorter or longer, so that those
        that failed together do not try again together. With 0.5 it stays as it is.
    """
    return min(longest, first * 2.0 ** min(failures - 1, 30)) * (1 + _JITTER * (2 * chance - 1))
