"""
Disk pressure: what is left out of new crashes while disks are nearly full, so that the most of them can be kept.

Crashes that are acknowledged are never touched by it.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from enum import IntEnum

from attrs import evolve

from collectord.model import CrashReport, Note

_MARGIN = 1.05
"""A level ends only when so many times as much is free as where it begins, so that it does not begin and end all the
time."""
_REMEMBERED = 65_536


class PressureLevel(IntEnum):
    """How much is left out. Each level does what those below it do, too."""

    NONE = 0
    NO_ATTACHMENTS = 1
    FIRST_ONLY = 2


IN_WORDS: Mapping[PressureLevel, str] = {
    PressureLevel.NONE: "",
    PressureLevel.NO_ATTACHMENTS: "disks are nearly full: attachments are left out of new crashes",
    PressureLevel.FIRST_ONLY: "disks are nearly full: only the first new crash of each fingerprint is kept, and no "
    "attachments",
}


class RoomGauge:
    """
    Tells the level of pressure of one store by the bytes that are free there.

    Below C{low} attachments are left out; below the middle between C{low} and C{full} also crashes whose like was kept.
    Below C{full} the store takes no crashes.

    @param low: 0: there is never any pressure.
    @ivar level: as of the last L{note}.
    """

    def __init__(self, low: int, full: int) -> None:
        self._low = low
        self._middle = (low + full) / 2 if low else 0
        self.level = PressureLevel.NONE

    def note(self, free: int | None) -> None:
        """Note how many bytes are free; None: nobody knows."""
        if free is None:
            self.level = PressureLevel.NONE
        elif self._is_below(free, self._middle, PressureLevel.FIRST_ONLY):
            self.level = PressureLevel.FIRST_ONLY
        elif self._is_below(free, self._low, PressureLevel.NO_ATTACHMENTS):
            self.level = PressureLevel.NO_ATTACHMENTS
        else:
            self.level = PressureLevel.NONE

    def _is_below(self, free: int, mark: float, level: PressureLevel) -> bool:
        return free < mark * (_MARGIN if self.level >= level else 1.0)


class Pressure:
    """
    What the collector has to leave out now.

    @param level: returns the level now.
    """

    def __init__(self, level: Callable[[], PressureLevel]) -> None:
        self._level = level
        self._seen: OrderedDict[str, None] = OrderedDict()

    @property
    def level(self) -> PressureLevel:
        """The level now."""
        return self._level()

    def lightened(self, report: CrashReport) -> CrashReport:
        """
        Return a report as it can be kept now: whole, or without its attachments.

        Those are all dumps but minidumps, and, if it has no minidump, but the documents that stand for the crash.
        """
        if self.level < PressureLevel.NO_ATTACHMENTS:
            return report
        documents = () if report.has_minidump else report.documents
        notes = list(report.notes)
        dumps = []
        for dump in report.dumps:
            if dump.is_minidump or dump.name in documents:
                dumps.append(dump)
            else:
                notes.append(Note("left_out", f"{dump.name}: {dump.size} bytes, left out: the disk is nearly full"))
        return evolve(report, dumps=dumps, notes=notes)

    def refuses(self, fingerprint: str) -> bool:
        """
        Tell whether a crash has to be left out because one with the same fingerprint was kept since this level began.

        One that is not left out counts as kept from now on; if it is not, C{forget} it. At most 65,536 fingerprints are
        remembered, and what is forgotten is kept once more.
        """
        if self.level < PressureLevel.FIRST_ONLY:
            self._seen.clear()
            return False
        if fingerprint in self._seen:
            self._seen.move_to_end(fingerprint)
            return True
        self._seen[fingerprint] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return False

    def forget(self, fingerprint: str) -> None:
        """Note that a crash with this fingerprint could not be kept after all."""
        self._seen.pop(fingerprint, None)


NO_PRESSURE = Pressure(lambda: PressureLevel.NONE)
"""Nothing is ever left out."""
