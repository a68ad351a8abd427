"""
Notices that a destination or publisher does not answer, long before the time limit of a delivery is over.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from collectord.concurrency.timeouts import as_coroutine, with_timeout
from collectord.errors import TimedOut

T = TypeVar("T")

_SILENT_S = 2.0
"""After so many seconds in which nothing was confirmed, the other side is asked whether it is there."""
_ANSWER_S = 3.0
"""Seconds in which it should answer that. A big dump on a slow link takes longer, but not a check."""
NOTIFY_S = _SILENT_S + _ANSWER_S
"""After so many seconds without an answer the sink is notified."""
_SILENT = f"nothing for {NOTIFY_S:g} s"
_AGAIN_S = 30.0
"""Seconds until it is asked again while still nothing is confirmed."""


class AnswerWatch:
    """
    Watches the deliveries to one destination or publisher.

    @param check: asks it whether it is there.
    @param notify: is called with what is wrong, in words, if it does not answer.
    @ivar under_way: deliveries that have begun and are not over.
    """

    def __init__(
        self, check: Callable[[], Awaitable[object]], notify: Callable[[str], object], clock: IReactorTime
    ) -> None:
        self._check = check
        self._notify = notify
        self._clock = clock
        self._call: IDelayedCall | None = None
        self._asking: Deferred[None] | None = None
        self._heard = 0.0
        self.under_way = 0

    def asked(self) -> None:
        """Note that a delivery begins."""
        if not self.under_way:
            self._heard = self._clock.seconds()
            self._call = self._clock.callLater(_SILENT_S, self._look)
        self.under_way += 1

    def answered(self) -> None:
        """Note that a delivery was confirmed."""
        self._heard = self._clock.seconds()

    def over(self) -> None:
        """Note that a delivery is over, confirmed or not."""
        self.under_way -= 1
        if self.under_way:
            return
        call, self._call = self._call, None
        if call is not None and call.active():
            call.cancel()
        if self._asking is not None:
            self._asking.cancel()

    def _look(self) -> None:
        silent = self._clock.seconds() - self._heard
        if silent < _SILENT_S:
            self._call = self._clock.callLater(_SILENT_S - silent, self._look)
            return
        self._call = self._clock.callLater(_AGAIN_S, self._look)
        self._asking = Deferred.fromCoroutine(self._ask())

    async def _ask(self) -> None:
        try:
            await with_timeout(self._check(), _ANSWER_S, self._clock, "it")
        except CancelledError:
            pass
        except TimedOut:
            self._notify(_SILENT)
        except Exception as e:
            self._notify(str(e))
        finally:
            self._asking = None

    async def watched(self, work: Awaitable[T]) -> T:
        """Return what C{work} returns. If that takes long, notify the sink meanwhile."""
        call = self._clock.callLater(NOTIFY_S, self._notify, _SILENT)
        try:
            return await as_coroutine(work)
        finally:
            if call.active():
                call.cancel()
