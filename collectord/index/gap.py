"""
Reads what the index lacks: from the journal, and then from the stores, since lines of a journal may be missing, too.

All of it blocks. It is done in steps that take some 10 ms, so that whoever makes them can pause.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from itertools import islice

from attrs import define, field, frozen

from collectord.model import CrashEvent

_EVENTS = 300
"""Events of the journal that are read at once."""
_LOOKED_UP = 5000
"""Crashes of the stores that are looked up at once: the index is read through for them."""
_FOUND = 200
"""Crashes or directories of the stores that are found at once."""
_READ = 50
"""Crashes of the stores that are read at once."""


@frozen
class StoredCrash:
    """
    A crash that lies in a store.

    @ivar read: returns what would have been told of it, or raises OSError or ValueError.
    """

    crash_id: str
    read: Callable[[], Sequence[CrashEvent]]


def _no_stores(since: float) -> Iterator[StoredCrash | None]:
    return iter(())


@frozen
class IndexSources:
    """
    Where the index reads what it lacks.

    @ivar events_since: reads what has happened since a time from the journal, the newest days first. It may raise
        OSError at any step.
    @ivar stored_since: finds the crashes in the stores of the day of a time and of all later ones. It may yield None,
        so that no step takes long.
    """

    events_since: Callable[[float], Iterator[CrashEvent]]
    stored_since: Callable[[float], Iterator[StoredCrash | None]] = _no_stores


@define
class Gap:
    """
    What has happened since a time, as far as it is not in the index.

    @ivar since: in seconds since the epoch.
    @ivar before: crashes in the stores that were kept later are not read: whoever keeps them tells of them.
    @ivar with_stores: False: the journal is known to have it all.
    @ivar is_of_all: whether it reaches back as far as the index keeps crashes.
    @ivar known: returns those of some crashes that are in the index.
    @ivar events: how many events the journal had so far.
    @ivar stored: how many crashes came from the stores so far.
    """

    sources: IndexSources
    since: float
    before: float
    with_stores: bool
    is_of_all: bool
    known: Callable[[Collection[str]], Collection[str]]
    events: int = 0
    stored: int = 0
    _steps: Iterator[Sequence[CrashEvent]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._steps = self._all()

    def step(self) -> Sequence[CrashEvent] | None:
        """
        Read a little; None: there is no more.

        @raise OSError: it can't be read. All of it has to be read again.
        """
        return next(self._steps, None)

    def _all(self) -> Iterator[Sequence[CrashEvent]]:
        journal = self.sources.events_since(self.since)
        while events := list(islice(journal, _EVENTS)):
            self.events += len(events)
            yield events
        if self.with_stores:
            yield from self._in_stores()

    def _in_stores(self) -> Iterator[Sequence[CrashEvent]]:
        found: dict[str, StoredCrash] = {}
        for number, crash in enumerate(self.sources.stored_since(self.since), 1):
            if crash is not None:
                found[crash.crash_id] = crash
            if len(found) >= _LOOKED_UP:
                yield from self._unknown(found)
                found = {}
            if number % _FOUND == 0:
                yield ()
        yield from self._unknown(found)

    def _unknown(self, found: dict[str, StoredCrash]) -> Iterator[Sequence[CrashEvent]]:
        """Read those of the crashes that are not in the index."""
        unknown = iter(found.keys() - set(self.known(found.keys())))
        yield ()
        while some := list(islice(unknown, _READ)):
            events: list[CrashEvent] = []
            for crash_id in some:
                with suppress(OSError, ValueError):  # it was removed meanwhile, or nobody can read it
                    told = found[crash_id].read()
                    if told[0].at < self.before:
                        events += told
                        self.stored += 1
            yield events
