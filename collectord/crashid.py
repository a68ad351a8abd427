"""
Crash ids: a uuid4 whose last seven characters say how deep it is stored and on which day it came.

C{8f63752c-57c6-4e5d-b2cf-cabde2160622}: depth 2, 2016-06-22 (UTC).
"""

import re
from datetime import date
from uuid import UUID

DEPTH = 2

_SHAPE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{5}[0-4][0-9]{6}")


def make_crash_id(uuid: UUID, day: date) -> str:
    """The crash id for a report that came on C{day} (UTC)."""
    return f"{str(uuid)[:-7]}{DEPTH}{day:%y%m%d}"


def is_crash_id(text: str) -> bool:
    """Whether C{text} has the shape of a crash id and ends with a day of the calendar."""
    if _SHAPE.fullmatch(text) is None:
        return False
    try:
        day_of(text)
    except ValueError:
        return False
    return True


def day_of(crash_id: str) -> date:
    """
    The day (UTC) on which the crash came.

    @raise ValueError: there is no such day.
    """
    return date(2000 + int(crash_id[-6:-4]), int(crash_id[-4:-2]), int(crash_id[-2:]))


def depth_of(crash_id: str) -> int:
    """
    How many pairs of its first characters name directories.

    Ids of other collectors may say 0, which Socorro has always read as its oldest depth, 4.
    """
    return int(crash_id[-7]) or 4
