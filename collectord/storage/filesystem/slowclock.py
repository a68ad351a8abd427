"""
A clock that does not follow a jump: time passes for it only while a daemon runs, though it may hurry to catch up.

The age of crashes counts by it. If the system's clock were years ahead for an hour, as it may be until it is set, a
daemon that believed it would remove every crash as too old. All of it blocks.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from collectord.storage.files import sync_and_close
from collectord.storage.filesystem.finder import crash_days
from collectord.storage.filesystem.fsops import unlink_if_there
from collectord.storage.filesystem.staging import StagingDirectory

HURRY = 6.0
"""It catches up so many days a day. So a daemon that was off for a month has caught up after five days."""
_FILE = "retention.time"
"""Where a store has it, in the root: a line in ISO 8601."""


class SlowClock:
    """
    The clock of one store. It is never ahead of the system's, and goes on after a restart where it was.

    At the very first start it begins with the newest day of which the store has crashes: so far time has passed.

    @param now: what the system's clock says, in UTC.
    @param seconds: the time, in seconds since any moment; nobody sets it.
    """

    def __init__(self, staging: StagingDirectory, now: Callable[[], datetime], seconds: Callable[[], float]) -> None:
        self._staging = staging
        self._now = now
        self._seconds = seconds
        self._time: datetime | None = None
        self._at = 0.0

    def read(self) -> datetime:
        """
        Return the time, and note it in the store.

        @raise OSError: the store can't be read. If it can't be written, the next start goes on from an earlier time.
        """
        now, seconds = self._now(), self._seconds()
        if self._time is None:
            time = self._noted() or self._newest_day(now)
        else:
            # It may be ahead, even at the end of all times, if somebody has changed the file.
            time = min(self._time, now) + timedelta(seconds=HURRY * (seconds - self._at))
        self._at = seconds
        # The system's clock may be behind for a while, too. That is no reason to begin again from there.
        self._time = max(min(time, now), self._time or time)
        self._note(self._time)
        return min(self._time, now)

    def _noted(self) -> datetime | None:
        try:
            with open(self._path, encoding="ascii") as file:
                return datetime.fromisoformat(file.read().strip()).astimezone(UTC)
        except (FileNotFoundError, ValueError, OverflowError):
            return None

    def _newest_day(self, now: datetime) -> datetime:
        for day in reversed(crash_days(self._staging.root)):
            with suppress(ValueError):  # it is no day
                begun = datetime.strptime(f"{day} +0000", "%Y%m%d %z")
                if begun <= now:
                    return begun + timedelta(days=1)
        return now

    def _note(self, time: datetime) -> None:
        try:
            unlink_if_there(f"{self._staging.path}/{_FILE}")
            path, fd = self._staging.write(_FILE, [time.isoformat().encode()])
            sync_and_close(fd)
            os.rename(path, self._path)
        except OSError:  # this goes on without its file, for a full disk needs old crashes removed
            return

    @property
    def _path(self) -> str:
        return f"{self._staging.root}/{_FILE}"
