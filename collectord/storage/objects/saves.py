"""
What a bucket has got of crashes that were not saved whole, so that it is not sent again.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

from attrs import define, field

_MOST = 1000
"""The most crashes that are remembered; the oldest are forgotten."""
_LOOK_S = 0.1


@define(eq=False)
class _Save:
    """
    An unfinished save of a crash.

    @ivar stored: the checksums of the objects that are in the bucket, in hex, by their keys.
    @ivar in_use: held by the thread that saves it now.
    """

    stored: dict[str, str] = field(factory=dict)
    in_use: Lock = field(factory=Lock)


class Saves:
    """
    The unfinished saves of crashes in one bucket. For threads.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._saves: OrderedDict[str, _Save] = OrderedDict()

    @contextmanager
    def of(self, crash_id: str, proceed: Callable[[], None]) -> Iterator[dict[str, str]]:
        """
        Give the checksums of the objects of a crash that are in the bucket by now, by their keys; to be added to.

        Of the same crash only one is saved at a time: one that was given up may still be sending an object, which need
        not be sent twice. If the body of the C{with} does not raise, the crash is forgotten.

        @param proceed: is called while this waits.
        """
        with self._lock:
            save = self._saves.setdefault(crash_id, _Save())
            self._saves.move_to_end(crash_id)
            if len(self._saves) > _MOST:
                self._saves.popitem(last=False)
        while not save.in_use.acquire(timeout=_LOOK_S):
            proceed()
        try:
            yield save.stored
        finally:
            save.in_use.release()
        with self._lock:
            self._saves.pop(crash_id, None)
