"""
Makes the first page for all who look at it: each way to show it is made once a second, however many browsers ask.
"""

from collections.abc import Callable, Sequence
from functools import partial

from attrs import frozen
from twisted.internet.interfaces import IReactorTime

from collectord.admin.bugs import ORDERS
from collectord.admin.incoming import SPANS
from collectord.admin.overview import MAX_LAST, Choice, FromIndex, FromMemory, overview_page, span_of
from collectord.admin.quarantine import MAX_QUARANTINED, QUARANTINED
from collectord.concurrency.sharing import SingleFlight
from collectord.concurrency.threadpool import ThreadRunner
from collectord.errors import IndexUnavailable
from collectord.index.asking import Index
from collectord.index.values import IndexedCrash
from collectord.observe.status import Overview

KEPT_S = 1.0
"""For so long a page is good for all who ask for it."""


@frozen
class _Made:
    at: float
    page: bytes


class FirstPages:
    """
    Makes the first page, or gives the one of this second.

    @param overview: returns the present state of the daemon.
    @param in_thread: where a page is made of what is known.
    """

    def __init__(
        self, overview: Callable[[], Overview], index: Index, in_thread: ThreadRunner, clock: IReactorTime
    ) -> None:
        self._overview = overview
        self._index = index
        self._in_thread = in_thread
        self._clock = clock
        self._flights: dict[Choice, SingleFlight[_Made]] = {}
        self._made: dict[Choice, _Made] = {}

    async def page(self, choice: Choice) -> bytes:
        """Return the page as it is chosen."""
        made = self._made.get(choice)
        if made is None or self._clock.seconds() - made.at >= KEPT_S:
            flight = self._flights.setdefault(choice, SingleFlight(partial(self._make, choice)))
            made = self._made[choice] = await flight()
        return made.page

    async def _make(self, choice: Choice) -> _Made:
        at = self._clock.seconds()
        overview = self._overview()
        try:
            known = await self._ask(choice, overview)
        except IndexUnavailable as e:
            known, why_not = None, str(e)
        else:
            why_not = ""
        span, _, _ = SPANS[span_of(choice, overview)]
        counted = FromMemory(
            day=self._index.day(), intake_day=self._index.history("24h"), intake=self._index.history(span)
        )
        return _Made(at, await self._in_thread(lambda: overview_page(overview, choice, counted, known, why_not)))

    async def _ask(self, choice: Choice, overview: Overview) -> FromIndex:
        order, _ = ORDERS[choice.top]
        return FromIndex(
            top=await self._index.top(order),
            last=await self._index.last(MAX_LAST),
            products=await self._index.products(),
            quarantined=await self._quarantined(overview),
        )

    async def _quarantined(self, overview: Overview) -> Sequence[IndexedCrash]:
        if not any(store.quarantined for store in overview.stores):
            return ()
        return (await self._index.search(QUARANTINED, limit=MAX_QUARANTINED)).crashes
