"""
The disk pressure of a chain of stores: that of the store with the most room, among those that take crashes.
"""

from collections.abc import Sequence

from twisted.logger import Logger

from collectord.pressure import IN_WORDS, PressureLevel
from collectord.storage.chain.backend import Backend
from collectord.units import size_in_words


class ChainPressure:
    """Knows how full the stores are, and tells the log when that begins to matter or ends."""

    _log = Logger()

    def __init__(self, backends: Sequence[Backend]) -> None:
        self._backends = backends
        self._told = PressureLevel.NONE

    @property
    def level(self) -> PressureLevel:
        """
        The level now. While one store takes crashes and has room, nothing is left out: it gets those that do not fit
        into the others.
        """
        levels = [backend.room.level for backend in self._backends if not backend.breaker.open]
        return min(levels, default=PressureLevel.NONE)

    def note(self, backend: Backend, free: int | None) -> None:
        """Note how many bytes are free in the store of C{backend}; None: nobody knows."""
        backend.room.note(free)
        level = self.level
        if level > self._told:
            self._log.error(
                "DISK PRESSURE: {what}; {room} are free in {store}",
                what=IN_WORDS[level],
                room="?" if free is None else size_in_words(free),
                free=free,
                store=backend.name,
            )
        elif level < self._told:
            what = IN_WORDS[level] or "new crashes are kept whole again"
            self._log.warn("disk pressure falls: {what}", what=what)
        self._told = level
