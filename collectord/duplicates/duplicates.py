"""
Tells whether a report is a duplicate: the same report was kept lately, or is being saved at this moment.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from itertools import count

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from collectord.concurrency.backoff import backoff_delay
from collectord.duplicates.fingerprint import fingerprint_of, when_deferred
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


class Duplicates:
    """
    Recognizes duplicates among the reports that the processes of a daemon receive. It is for the reactor thread.

    What is not known is no duplicate. So it may forget, but must never know of a crash that is not durable.

    @ivar window: for how many seconds a report is remembered; 0: there are no duplicates.
    @param waiting: lets a duplicate wait while the same report is being saved.
    @param now: the current time, in seconds since the epoch.
    """

    def __init__(
        self, table: KeptTable, window: float, waiting: Waiting, clock: IReactorTime, now: Callable[[], float]
    ) -> None:
        self.window = window
        self._table = table
        self._waiting = waiting
        self._clock = clock
        self._now = now

    def fingerprint_of(self, report: CrashReport) -> bytes | None:
        """As L{collectord.duplicates.fingerprint.fingerprint_of}; also None if there are to be no duplicates."""
        return fingerprint_of(report) if self.window else None

    @asynccontextmanager
    async def look_up(self, fingerprint: bytes, report: CrashReport, began: float) -> AsyncIterator[str | None]:
        """
        Look for the crash of a report, as a context manager: within it, others wait that look for the same report.

        If such a report is being saved now, this waits until it is kept, or has failed, or until it may wait no longer.

        @param began: when the client began to send it.

        @return: the id of the crash, which is durable; None: the report is not known, and should be saved.
        """
        claimed, known = self._try(fingerprint, report)
        if not claimed and known is None:
            claimed, known = await self._wait(fingerprint, report, began)
        try:
            yield known
        finally:
            if claimed:
                self._table.release(fingerprint)

    async def _wait(self, fingerprint: bytes, report: CrashReport, began: float) -> tuple[bool, str | None]:
        with self._waiting(report.dumps, began) as pause:
            for tries in count(1):
                may_wait = await pause(backoff_delay(tries, first=_FIRST_PAUSE_S, longest=_LONGEST_PAUSE_S))
                claimed, known = self._try(fingerprint, report)
                if claimed or known is not None or not may_wait:
                    break
        return claimed, known

    def _try(self, fingerprint: bytes, report: CrashReport) -> tuple[bool, str | None]:
        """Claim the report if nobody else has claimed it; also return the id of its crash if it is known."""
        claimed = self._table.claim(fingerprint)
        # Looked up after the claim: who had it before may just have kept it.
        return claimed, self._known(fingerprint) or self._known(when_deferred(fingerprint, report))

    def _known(self, fingerprint: bytes) -> str | None:
        now = self._now()
        return self._table.crash_id_of(fingerprint, now - self.window, now + self.window)

    def kept(self, fingerprint: bytes, report: CrashReport, crash_id: str, *, is_deferred: bool) -> bytes:
        """Remember that the crash of a report is kept, and durable; return the fingerprint that tells so."""
        remembered = when_deferred(fingerprint, report) if is_deferred else fingerprint
        self._table.add(remembered, crash_id, self._now())
        return remembered

    async def filled(self) -> None:
        """Wait until what is known of earlier processes is in the table, but no longer than 10 s."""
        deadline = self._clock.seconds() + _FILL_S
        while not self._table.is_filled and self._clock.seconds() < deadline:
            await deferLater(self._clock, _FIRST_PAUSE_S)
