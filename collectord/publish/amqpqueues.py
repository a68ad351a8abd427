"""
Remembers which queues of a broker refuse messages, so that these do not hold up the ids for other queues.
"""

from collections.abc import Callable, Iterator, Mapping

from attrs import define
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from collectord.concurrency.backoff import backoff_delay

_IN_A_ROW = 3
"""A queue that has refused so many messages, and taken none in between, gets no more for a while."""
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0


@define
class _Refusals:
    """
    The refusals of one queue since it took a message.

    @ivar is_missing: whether there was no such queue when it was looked for.
    @ivar until: before this time it gets no message.
    @ivar is_told: whether the log says so.
    """

    why: str
    count: int = 0
    is_missing: bool = False
    until: float = 0.0
    is_told: bool = False


class RefusingQueues:
    """
    The queues that refuse messages. All of it runs on the reactor thread.

    @param publisher: its name, for the log.
    @param chance: returns a random number from 0 to 1.
    """

    _log = Logger()

    def __init__(self, publisher: str, clock: IReactorTime, chance: Callable[[], float]) -> None:
        self._publisher = publisher
        self._clock = clock
        self._chance = chance
        self._refusing: dict[str, _Refusals] = {}

    def refused(self, queue: str, why: str) -> None:
        """Note that a queue has refused a message."""
        self._count(queue, why, is_missing=False)

    def are_missing(self, found: Mapping[str, str]) -> None:
        """
        Note which queues are not there, now that all were looked for.

        @param found: what the broker says of each.
        """
        for queue in [queue for queue, each in self._refusing.items() if each.is_missing and queue not in found]:
            self.took(queue)
        for queue, why in found.items():
            self._count(queue, why, is_missing=True)

    def _count(self, queue: str, why: str, *, is_missing: bool) -> None:
        each = self._refusing.setdefault(queue, _Refusals(why))
        each.why, each.is_missing = why, is_missing
        each.count += 1
        if not each.is_told and (is_missing or each.count == _IN_A_ROW):
            each.is_told = True
            self._log.error("{name}: {problem}", name=self._publisher, problem=_in_words(queue, each))
        failures = each.count if is_missing else each.count - _IN_A_ROW + 1
        if failures > 0 and self._clock.seconds() >= each.until:
            chance = self._chance()
            pause = backoff_delay(failures, first=_FIRST_PAUSE_S, longest=_LONGEST_PAUSE_S, chance=chance)
            each.until = self._clock.seconds() + pause

    def took(self, queue: str) -> None:
        """Note that a queue has taken a message, or is there again."""
        refusals = self._refusing.pop(queue, None)
        if refusals is not None and refusals.is_told:
            self._log.info("{name}: the queue {queue} takes ids again", name=self._publisher, queue=queue)

    def why_not(self, queue: str) -> str:
        """Return why a queue gets no message now; empty: it does."""
        each = self._refusing.get(queue)
        return _in_words(queue, each) if each is not None and self._clock.seconds() < each.until else ""

    def is_missing(self, queue: str) -> bool:
        """Tell whether a queue was not there when it was looked for."""
        each = self._refusing.get(queue)
        return each is not None and each.is_missing

    def in_words(self) -> Iterator[str]:
        """Describe each queue that refuses messages, in a sentence."""
        for queue, each in self._refusing.items():
            yield _in_words(queue, each)


def _in_words(queue: str, refusals: _Refusals) -> str:
    if refusals.is_missing:
        return f"there is no queue {queue}: {refusals.why}"
    return f"the queue {queue} refuses ids: {refusals.why}"
