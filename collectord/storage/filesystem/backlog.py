"""
How many crashes wait in a store. All of it blocks, and no more than one directory at a time is held in memory.
"""

import os
from contextlib import suppress
from datetime import UTC, datetime

from attrs import frozen

from collectord.storage.filesystem.layout import QUARANTINE


@frozen
class Waiting:
    """
    The crashes that wait to be moved.

    @ivar crashes: how many there are.
    @ivar oldest: when the oldest of them was received, in seconds since the epoch; None: none waits.
    """

    crashes: int
    oldest: float | None


def count_waiting(root: str) -> Waiting:
    """
    Count the crashes that wait to be moved, by the date branch.

    @raise OSError: the store can't be read.
    """
    crashes, oldest = 0, None
    for day in sorted(_directories(root)):
        if len(day) != 8 or not day.isdigit():
            continue
        for hour in sorted(_directories(f"{root}/{day}/date")):
            for slot in sorted(_directories(f"{root}/{day}/date/{hour}")):
                waiting = _entries(f"{root}/{day}/date/{hour}/{slot}")
                if waiting and oldest is None:
                    oldest = _time(day, hour, slot)
                crashes += waiting
    return Waiting(crashes, oldest)


def count_quarantined(root: str) -> int:
    """
    Count the crashes in the quarantine.

    @raise OSError: the store can't be read.
    """
    return len(_directories(f"{root}/{QUARANTINE}"))


def _directories(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def _entries(path: str) -> int:
    try:
        with os.scandir(path) as entries:
            return sum(not entry.name.startswith(".") for entry in entries)  # hidden: removed while open
    except FileNotFoundError:  # the crashmover removed it
        return 0


def _time(day: str, hour: str, slot: str) -> float | None:
    with suppress(ValueError):
        return datetime.strptime(f"{day}{hour}{slot}", "%Y%m%d%H%M_%S").replace(tzinfo=UTC).timestamp()
    return None
