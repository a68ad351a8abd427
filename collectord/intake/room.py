"""
The memory that one report takes besides the bytes of its files, and the room that there is for its annotations.
"""

from collections.abc import Sequence
from typing import Final

from collectord.intake.budget import MemoryBudget
from collectord.model import Note

_NAMED: Final = 20
"""Of more that is left out, only the number is noted."""

OF_FILE: Final = 1024
OF_TEXT: Final = 384
"""Bytes of memory of a file and of an annotation besides what they hold, roughly: a report may have many small ones."""


class LeftOut:
    """Counts what is left out, and keeps the names of the first."""

    def __init__(self) -> None:
        self.count = 0
        self._names: list[str] = []

    def add(self, name: str) -> None:
        """Count one more."""
        self.count += 1
        if len(self._names) < _NAMED:
            self._names.append(shown(name))

    @property
    def names(self) -> str:
        """The names of the first, as notes show them."""
        return ", ".join(self._names) + (" …" if self.count > len(self._names) else "")


class AnnotationRoom:
    """
    The room for the annotations of one report. What it takes is also counted in the memory of all uploads.

    @param most: bytes of all annotations together, names and values.
    @ivar left: how many of these are left.
    """

    def __init__(self, budget: MemoryBudget, most: int) -> None:
        self.left = most
        self._budget = budget
        self._held = 0
        self._left_out = LeftOut()

    def take(self, size: int) -> int:
        """Take room for C{size} bytes, or as many as there is room for, and return how many."""
        taken = min(size, self.left)
        self.left -= taken
        self.hold(taken)
        return taken

    def take_text(self, size: int) -> bool:
        """Take room for a whole annotation of C{size} bytes, and tell whether there is that much."""
        if size > self.left:
            return False
        self.left -= size
        self._held += size + OF_TEXT
        self._budget.reserve_annotations(size + OF_TEXT)
        return True

    def give_back(self, size: int) -> None:
        """Give C{size} bytes back."""
        self.left += size
        self.hold(-size)

    def hold(self, size: int) -> None:
        """Count C{size} bytes of memory that have nothing to do with the room, until L{release}."""
        self._held += size
        self._budget.reserve_annotations(size)

    def leave_out(self, name: str) -> None:
        """Note that there is no room for the annotation C{name}."""
        self._left_out.add(name)

    def notes(self) -> Sequence[Note]:
        """Return a note on what there was no room for."""
        left_out = self._left_out
        if not left_out.count:
            return ()
        text = f"{left_out.count} annotations are left out, since all together are too large: {left_out.names}"
        return (Note("left_out", text),)

    def release(self) -> None:
        """Give all the room back that was taken."""
        self._budget.release_annotations(self._held)
        self._held = 0


def shown(name: str) -> str:
    """Return C{name} as notes show it: they are not made longer by a client."""
    if not name:
        return "a part without a name"
    return name if len(name) <= 100 else f"{name[:100]}…"
