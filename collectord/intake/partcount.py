"""
Counts the parts of one report, and tells which are kept if there are too many.
"""

from collections.abc import Sequence

from collectord.intake.files import ReceivedFiles
from collectord.intake.partheaders import Part
from collectord.intake.room import LeftOut
from collectord.model import MINIDUMP, Note

_FAR = 10
"""Beyond so many times the parts that are kept, no part is looked at but what seems to be called as the minidump is."""


class PartCount:
    """
    The number of parts of one report, of which the first are kept. Of those after them the minidump is.

    @ivar most: parts that are kept.
    @ivar count: parts that have come.
    @ivar has_named_minidump: whether a file came that is called as the minidump is.
    @ivar has_minidump: whether any minidump came. It is known once there are too many parts.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.has_named_minidump = False
        self.has_minidump = False
        self.count = 0
        self._left_out = LeftOut()

    @property
    def are_too_many(self) -> bool:
        """Whether the last part is none of those that are kept."""
        return self.count > self.most

    @property
    def are_far_too_many(self) -> bool:
        """Whether the parts from now on are to be passed over."""
        return self.count >= _FAR * self.most

    @property
    def are_enough(self) -> bool:
        """Whether the minidump need not be looked for any longer."""
        return self.has_named_minidump or self.count >= 2 * _FAR * self.most

    def may_be_the_minidump(self, part: Part, files: ReceivedFiles) -> bool:
        """Tell whether C{part}, the last one, may be kept although there are too many."""
        if self.count == self.most + 1:
            self.has_minidump = files.has_minidump
        if part.name == MINIDUMP:
            return not self.has_named_minidump
        return not self.has_minidump and self.count <= _FAR * self.most

    def leave_out(self, name: str) -> None:
        """Note that a part is left out."""
        self._left_out.add(name)

    def notes(self, *, at_least: bool) -> Sequence[Note]:
        """
        Return a note on what is left out.

        @param at_least: there may have been more parts than were counted.
        """
        if not self.are_too_many:
            return ()
        parts = f"{self.count} parts or more" if at_least else f"{self.count} parts"
        text = f"there are {parts}; after {self.most} only the minidump is kept"
        if self._left_out.count:
            text += f", and these are left out: {self._left_out.names}"
        return (Note("left_out", text),)
