"""
How long the crashes of a store are kept.
"""

from datetime import datetime, timedelta

from attrs import frozen

from collectord.model import RawCrash


@frozen(kw_only=True)
class KeepLimits:
    """
    How long crashes are kept in a store.

    @ivar days: after so many days they are removed; 0: never.
    @ivar deferred_days: the same for crashes that a throttle rule deferred; 0: as the others.
    @ivar max_bytes: while all crashes together take more, the oldest is removed; 0: there is no limit.
    @ivar waiting: remove also crashes that wait to be moved.
    """

    days: int = 0
    deferred_days: int = 0
    max_bytes: int = 0
    waiting: bool = False

    def __bool__(self) -> bool:
        return bool(self.count_days or self.max_bytes)

    @property
    def count_days(self) -> bool:
        """Whether the age of a crash matters."""
        return bool(self.days or self.deferred_days)

    def days_of(self, raw_crash: RawCrash) -> int:
        """Return for how many days this crash is kept; 0: for ever."""
        is_deferred = raw_crash.get("legacy_processing") not in (None, 0, "0")
        return (is_deferred and self.deferred_days) or self.days


def is_over(day: str, days: int, now: datetime) -> bool:
    """Tell whether a day (C{yyyymmdd}) ended at least so many days ago."""
    try:
        ended = datetime.strptime(f"{day} +0000", "%Y%m%d %z") + timedelta(days=1)
        return ended + timedelta(days=days) <= now
    except (ValueError, OverflowError):
        return False
