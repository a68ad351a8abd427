"""
A crash id is a uuid4 whose last seven characters say how deep the crash is stored and on which day it was received.

C{8f63752c-57c6-4e5d-b2cf-cabde2160622}, for example, has the depth 2 and the day 2016-06-22 (UTC).
"""

import re
from datetime import date
from functools import lru_cache

DEPTH = 2
"""The depth in every id that is made here: see L{depth_of}."""

_SHAPE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{5}[0-4][0-9]{6}")


def make_crash_id(random: bytes, day: date) -> str:
    """
    Make the crash id of a report that was received on C{day} (UTC).

    @param random: 16 bytes.
    """
    digits = random.hex()  # to make a UUID of them takes four times as long
    variant = "89ab"[random[8] >> 4 & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:25]}{_end(day)}"


@lru_cache(maxsize=2)
def _end(day: date) -> str:
    return f"{DEPTH}{day:%y%m%d}"


def is_crash_id(text: str) -> bool:
    """Tell whether C{text} has the shape of a crash id and ends with a day of the calendar."""
    if _SHAPE.fullmatch(text) is None:
        return False
    try:
        day_of(text)
    except ValueError:
        return False
    return True


def day_of(crash_id: str) -> date:
    """
    Return the day (UTC) on which the crash was received, as its id says.

    @raise ValueError: there is no such day.
    """
    return date(2000 + int(crash_id[-6:-4]), int(crash_id[-4:-2]), int(crash_id[-2:]))


def depth_of(crash_id: str) -> int:
    """
    Return how many directories, each named by two characters of the id, lead to the crash: C{8f/63} is depth 2.

    Other collectors make ids that say 0. Socorro has always read this as 4, the depth that it used first.
    """
    return int(crash_id[-7]) or 4
