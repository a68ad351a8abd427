"""
Threads and open files of this process, so that a test sees what is left behind by something that was closed.
"""

import gc
import os
from collections import Counter
from contextlib import suppress
from threading import enumerate as all_threads
from typing import cast

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

_THREADS_OF_THE_REACTOR = "PoolThread-twisted.internet.reactor-"
"""In the names of the reactor's own threads, which look up host names and stay."""
_STEP_S = 0.01
_PATIENCE_S = 5.0

Held = Counter[str]
"""Threads, by their names, and open files, by what they lead to; with how many there are of each."""


def held_now() -> Held:
    """Return the threads and open files of this process at the moment."""
    held = Counter(f"thread {thread.name}" for thread in all_threads())
    for name in list(held):
        if _THREADS_OF_THE_REACTOR in name:
            del held[name]
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the one that lists the directory
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            held[f"file {path.partition(':[')[0]}"] += 1
    return held


async def assert_nothing_is_left(before: Held) -> None:
    """
    Fail unless this process holds no more than C{before}, now or in a few seconds: what was told to end takes a moment.

    What only waits for the garbage collector does not count, since it does not add up.

    To be called on the reactor thread.
    """
    from twisted.internet import reactor

    clock = cast(IReactorTime, reactor)
    give_up_at = clock.seconds() + _PATIENCE_S
    gc.collect()
    while (left := held_now() - before) and clock.seconds() < give_up_at:
        await deferLater(clock, _STEP_S)
        gc.collect()  # a thread may have let go of it only now
    assert not left, f"close() has left behind: {dict(left)}"
