"""
How much waits in a store on a file system. It blocks, and never holds more than one slot in memory.
"""

import os
from contextlib import suppress
from datetime import UTC, datetime

from attrs import frozen

from collectord.storage.filesystem.layout import QUARANTINE


@frozen
class Waiting:
    """
    @ivar crashes: that wait to be moved.
    @ivar oldest: when the first of them was received, in seconds since the epoch; None: there is none.
    """

    crashes: int
    oldest: float | None


def count_waiting(root: str) -> Waiting:
    """
    By the date branch.

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
    Crashes that were put aside.

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
            return sum(not entry.name.startswith(".") for entry in entries)  # hidden: removed while it was open
    except FileNotFoundError:  # the crashmover was here
        return 0


def _time(day: str, hour: str, slot: str) -> float | None:
    with suppress(ValueError):
        return datetime.strptime(f"{day}{hour}{slot}", "%Y%m%d%H%M_%S").replace(tzinfo=UTC).timestamp()
    return None
