"""
Waiting for what another process does in its own time.
"""

import time
from collections.abc import Callable


def until(condition: Callable[[], object], timeout: float = 30) -> None:
    """
    Wait until C{condition} holds.

    @param timeout: in seconds.
    @raise TimeoutError: it does not in time.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not so after {timeout} s")
        time.sleep(0.02)
