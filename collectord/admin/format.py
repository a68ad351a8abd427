"""
Numbers and times as people read them, and hostile texts made safe to read.
"""

import re
from datetime import UTC, datetime
from itertools import pairwise

_SPANS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))

_UNSEEN = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202f"
    "\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\ud800-\udfff\U000e0000-\U000e0fff]"
)
"""Control characters, characters that turn the direction of a text or have no width, and code points that are none."""


def visible(text: str) -> str:
    """Return C{text} with characters that can't be seen written as C{⟨U+202E⟩}; line ends and tabs stay."""
    return _UNSEEN.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text.replace("\r\n", "\n"))


def count(number: float) -> str:
    """Write a number as C{1,234}."""
    return f"{number:,.0f}"


def rate(number: float) -> str:
    """Write a number with one decimal if it is below 100: C{0.4}, C{12.3}, C{1,234}."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.1f}"


def share(part: float, whole: float) -> str:
    """Write C{part} as a percentage of C{whole}: C{12.3 %}."""
    percent = 100 * part / whole if whole else 0.0
    return "< 0.1 %" if 0 < percent < 0.05 else f"{percent:.1f} %"


def span(seconds: float) -> str:
    """Write a number of seconds in its two greatest units: C{3 d 4 h}, C{12 min 5 s}, C{0 s}."""
    rest = max(0, round(seconds))
    for (length, name), (finer, unit) in pairwise(_SPANS):
        if rest >= length:
            more = rest % length // finer
            return f"{rest // length} {name}" + (f" {more} {unit}" if more else "")
    return f"{rest} s"


def milliseconds(number: float) -> str:
    """Write a number of milliseconds as C{0 ms}, C{44 ms}, C{0.8 s} or C{3 min 4 s}."""
    if number < 500:
        return f"{number:.0f} ms"
    return f"{number / 1000:.1f} s" if number < 60_000 else span(number / 1000)


def moment(at: float) -> str:
    """Write a time, given in seconds since the epoch, as C{2016-06-22 15:19:49} in UTC."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"


def time_of_day(at: float) -> str:
    """Write a time, given in seconds since the epoch, as C{15:19:49} in UTC."""
    return f"{datetime.fromtimestamp(at, UTC):%H:%M:%S}"


def age(seconds: float) -> str:
    """Write a number of seconds in its greatest unit alone: C{3 d}, C{12 min}, C{0 s}."""
    rest = max(0, int(seconds))
    return next((f"{rest // length} {name}" for length, name in _SPANS if rest >= length), "0 s")


def day(at: float) -> str:
    """Write the day of a time, given in seconds since the epoch, as C{22 Jun 2016}."""
    time = datetime.fromtimestamp(at, UTC)
    return f"{time.day} {time:%b %Y}"


def when(at: float, now: float) -> str:
    """Write a time as shortly as it can be told from others: C{15:19:49} of today, C{9 Jun 15:19} of this year."""
    time, today = datetime.fromtimestamp(at, UTC), datetime.fromtimestamp(now, UTC)
    if time.date() == today.date():
        return f"{time:%H:%M:%S}"
    return f"{time.day} {time:%b %H:%M}" if time.year == today.year else day(at)


def iso(at: float) -> str:
    """Write a time as C{2016-06-22T15:19:49Z}, for programs."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"


def number_of(number: float, name: str, names: str = "") -> str:
    """Write how many of something there are: C{1 crash}, C{2 crashes}."""
    return f"{count(number)} {name if number == 1 else names or f'{name}s'}"
