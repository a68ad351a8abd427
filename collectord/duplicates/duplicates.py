"""
Tells whether a report is a duplicate: the same report was kept lately, or is being saved at this moment.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from itertools import count
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from collectord.concurrency.backoff import backoff_delay
from collectord.duplicates.digest import digest_of, when_deferred
from collectord.duplicates.table import KeptTable
from collectord.model import CrashReport, Dump

_FIRST_PAUSE_S = 0.01
_LONGEST_PAUSE_S = 1.0
_FILL_S = 10.0

Waiting = Callable[[Sequence[Dump], float], AbstractContextManager[Callable[[float], Awaitable[bool]]]]
"""
Lets a report wait, given its dumps and when its client began to send it, by the rules for those that wait for a store.
The context is a function that waits for so many seconds, or returns False if the report may wait no longer.
"""


class KeptCrashes(Protocol):
    """What is asked of the stores about a crash that is known."""

    async def has(self, crash_id: str) -> bool:
        """Tell whether a store has the crash now."""

    async def was_erased(self, crash_id: str) -> bool:
        """Tell whether the crash was erased, or may have been."""


class Duplicates:
    """
    Recognizes duplicates among the reports that the processes of a daemon receive. It is for the reactor thread.

    What is not known is no duplicate. So it may forget, but must never know of a crash that is not durable. A crash
    that is not in its store any more, and was not moved, is lost or was removed by hand: its report is stored again. So
    is that of a crash that was erased wherever it was moved to.

    @ivar window: for how many seconds a report is remembered; 0: there are no duplicates.
    @param stores: know which crashes are there now.
    @param waiting: lets a duplicate wait while the same report is being saved.
    @param now: the current time, in seconds since the epoch.
    """

    def __init__(
        self,
        table: KeptTable,
        window: float,
        stores: KeptCrashes,
        waiting: Waiting,
        clock: IReactorTime,
        now: Callable[[], float],
    ) -> None:
        self.window = window
        self._table = table
        self._stores = stores
        self._waiting = waiting
        self._clock = clock
        self._now = now

    def digest_of(self, report: CrashReport) -> bytes | None:
        """As L{collectord.duplicates.digest.digest_of}; also None if there are to be no duplicates."""
        return digest_of(report) if self.window else None

    async def look_up(self, digest: bytes, report: CrashReport, began: float) -> tuple[str | None, bool]:
        """
        Look for the crash of a report, and claim the report: others that look for the same one wait until L{release}.

        If such a report is being saved now, this waits until it is kept, or has failed, or until it may wait no longer.

        @param began: when the client began to send it.

        @return: the id of the crash, which is durable; None: the report is not known, and should be saved. And whether
            the report is claimed, and has to be released.
        """
        claimed = self._table.claim(digest)
        try:
            # This comes after the claim, since whoever held the claim before may have kept the report just now.
            known = await self._known(digest, report)
            if not claimed and known is None:
                with self._waiting(report.dumps, began) as pause:
                    for tries in count(1):
                        if not await pause(backoff_delay(tries, first=_FIRST_PAUSE_S, longest=_LONGEST_PAUSE_S)):
                            break
                        claimed = self._table.claim(digest)
                        known = await self._known(digest, report)
                        if claimed or known is not None:
                            break
        except BaseException:
            if claimed:
                self._table.release(digest)
            raise
        return known, claimed

    def release(self, digest: bytes) -> None:
        """Let others look for the report, which was claimed: it is kept, or has failed."""
        self._table.release(digest)

    async def _known(self, digest: bytes, report: CrashReport) -> str | None:
        now = self._now()
        for each in (digest, when_deferred(digest, report)):
            crash_id = self._table.crash_id_of(each, now - self.window, now + self.window)
            if crash_id is not None and await self._is_kept(crash_id):
                return crash_id
        return None

    async def _is_kept(self, crash_id: str) -> bool:
        was_moved = self._table.was_moved
        if not was_moved(crash_id):
            if await self._stores.has(crash_id):
                return True
            if not was_moved(crash_id):  # it may have been moved while its store was looked at
                return False
        return not await self._stores.was_erased(crash_id)

    def kept(self, digest: bytes, report: CrashReport, crash_id: str, *, is_deferred: bool) -> bytes:
        """Remember that the crash of a report is kept, and durable; return the digest that tells so."""
        remembered = when_deferred(digest, report) if is_deferred else digest
        self._table.add(remembered, crash_id, self._now())
        return remembered

    async def filled(self) -> None:
        """Wait until what is known of earlier processes is in the table, but no longer than 10 s."""
        deadline = self._clock.seconds() + _FILL_S
        while not self._table.is_filled and self._clock.seconds() < deadline:
            await deferLater(self._clock, _FIRST_PAUSE_S)
