"""
The date branch of a store: C{<yyyymmdd>/date/<hh>/<mm_ss>/<id>}, a link for each crash that is new.

Going through it also removes the directories that moved crashes leave empty. All of it blocks.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from collectord.crashid import is_crash_id
from collectord.model import NewCrash
from collectord.storage.filesystem.fsops import list_directory

_DAY = re.compile(r"\d{8}")
_HOUR = re.compile(r"\d\d")
_SLOT = re.compile(r"\d\d_\d\d")
_SETTLED = timedelta(minutes=5)
"""A slot that is older hardly ever gets another crash. While it is younger, a process may count on its directory."""
_FRESH = timedelta(seconds=10)
"""
Most crashes are kept within so much time. A slot that is older, and was seen empty, is not listed in each pass while
these follow each other quickly.
"""
_QUICKLY = timedelta(seconds=1)
"""That is within so much time."""
_LOOK_AGAIN = timedelta(seconds=4)
"""After so much time the slot is listed again."""
_PRUNED = timedelta(days=2)
"""A day that is older is searched for empty directories."""
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_NEVER = datetime.max.replace(tzinfo=UTC)


class DateBranch:
    """
    The new crashes of the store at C{root}, and the empty directories there.

    @param now: the time, in UTC.
    """

    def __init__(self, root: str, now: Callable[[], datetime]) -> None:
        self._root = root
        self._now = now
        self._prune_at: dict[str, datetime] = {}  # by day
        self._empty: dict[str, datetime] = {}  # when slots were seen empty that are not settled
        self._began = _LONG_AGO

    def new_crashes(self) -> Iterator[Sequence[NewCrash]]:
        """
        The crashes that are new, oldest first, one slot at a time. A slot is listed only when it is asked for.

        @raise OSError: some directories can't be listed. It is raised at the end, after the crashes of all others.
        """
        failed: list[OSError] = []
        before = self._empty if abs(self._now() - self._began) < _QUICKLY else {}
        self._empty, self._began = {}, self._now()
        for day in _names(self._root, _DAY):
            dates = f"{self._root}/{day}/date"
            for hour in _names(dates, _HOUR, failed):
                hours = f"{dates}/{hour}"
                now = self._now()
                fresh, settled = _text_of(now - _FRESH), _text_of(now - _SETTLED)
                for slot in _names(hours, _SLOT, failed):
                    path, at = f"{hours}/{slot}", f"{day}{hour}{slot}"
                    if path in before and at < fresh and abs(now - before[path]) < _LOOK_AGAIN:
                        self._empty[path] = before[path]
                        continue
                    new = [NewCrash(name, path) for name in sorted(list_directory(path, failed)) if is_crash_id(name)]
                    if new:
                        yield new
                    elif at < settled:
                        self._remove_empty(path)
                    elif not failed:
                        self._empty[path] = now
                if f"{day}{hour}59_59" < settled:
                    self._remove_empty(hours)
            if f"{day}0000_00" < _text_of(self._now() - _PRUNED):
                self._prune_in_turn(day)
        if failed:
            raise failed[0]

    def _prune_in_turn(self, day: str) -> None:
        """Remove the empty directories of a day, up to 65,792: once, and again later if some changed of late."""
        if self._prune_at.get(day, _LONG_AGO) > self._now():
            return
        self._prune_at[day] = _NEVER
        if any(list(self.prune(day))):
            self._prune_at[day] = self._now() + _SETTLED

    def prune(self, day: str) -> Iterator[bool]:
        """Remove the empty directories of a day, one at a time, and tell of each whether it was left as too young."""
        for directory, _, _ in os.walk(f"{self._root}/{day}", topdown=False):
            yield not self._remove_empty(directory)

    def _remove_empty(self, path: str) -> bool:
        """
        Remove a directory if it is empty.

        @return: False if it was left because it changed of late: whoever copies a backup here makes directories first.
        """
        with suppress(OSError):  # it is not empty, or gone
            if self.changed_within(_SETTLED.total_seconds(), path):
                return False
            os.rmdir(path)
        return True

    def changed_within(self, seconds: float, *paths: str) -> bool:
        """Whether one of these files changed in the last C{seconds}, by the one file time that nobody can set."""
        for path in paths:
            with suppress(FileNotFoundError):
                if abs(self._now().timestamp() - os.lstat(path).st_ctime) < seconds:
                    return True
        return False


def _text_of(when: datetime) -> str:
    """The name of a slot, with its day and hour. These sort like their times."""
    return f"{when.astimezone(UTC):%Y%m%d%H%M_%S}"


def _names(path: str, pattern: re.Pattern[str], failed: list[OSError] | None = None) -> list[str]:
    return sorted(filter(pattern.fullmatch, list_directory(path, failed)))
