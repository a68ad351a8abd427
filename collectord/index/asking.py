"""
What can be asked of the index.
"""

from typing import Protocol

from collectord.index.day import DayCounts
from collectord.index.found import Found
from collectord.index.intake import IntakeHistory, Span
from collectord.index.values import (
    CrashNeighbours,
    FingerprintPage,
    IndexedCrash,
    ProductsSeen,
    TopFingerprints,
    TopOrder,
)


class Index(Protocol):
    """
    Answers questions about the crashes that are known.

    All but C{history} and C{day} look on a thread, and raise
    L{IndexUnavailable<collectord.errors.IndexUnavailable>} if they can't: the index is off by the settings, its file
    can't be used, or it takes too long.
    """

    async def top(self, order: TopOrder, limit: int = 12) -> TopFingerprints:
        """Return the first fingerprints in this order."""

    async def last(self, limit: int = 10) -> list[IndexedCrash]:
        """Return the crashes that were kept last, newest first."""

    async def products(self, limit: int = 8) -> ProductsSeen:
        """Return how often each version of each product was seen in the last 24 hours."""

    async def search(self, query: str, before: str = "", limit: int = 24) -> Found:
        """
        Search for crashes.

        @param query: words with blanks between them, all of which have to hold: C{name:value}, C{-name:value}, or a
            crash id or its beginning, with or without C{bp-}. A value with blanks is in quotation marks. With a C{*} at
            its end it means whatever begins so.
        @param before: C{older} of the page before this one; empty: the newest.
        """

    async def fingerprint(self, fingerprint: str, span: Span = "24h") -> FingerprintPage | None:
        """Return all that is known of a fingerprint; None: nothing is."""

    async def neighbours(self, crash_id: str, fingerprint: str, limit: int = 5) -> CrashNeighbours | None:
        """Return what is known of other crashes with the fingerprint of one; None: nothing is."""

    async def crash(self, crash_id: str) -> IndexedCrash | None:
        """Return a crash by its whole id; None: the index does not know it."""

    def history(self, span: Span) -> IntakeHistory:
        """Return what came in. This does not block."""

    def day(self) -> DayCounts:
        """
        Return what else was counted in the last 24 hours. This does not block.

        The series are C{("answer", status, reason)}, C{("rule", rule, result)}, and of destinations and publishers
        C{("given", name)}, C{("failed", name)} and C{("took", name, seconds)}: how many deliveries took no longer than
        that. There is one gauge, C{("waits", store)}: the crashes that wait to be moved.
        """
