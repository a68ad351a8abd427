"""
What splits the body of a report into its parts, whatever kind of body it is.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

from collectord.intake.formdata import Field
from collectord.intake.partheaders import Part
from collectord.model import Note

PartEvent = Field | Part | bytes | None
"""What there is in a body: for each part a L{Field}; or a L{Part}, its bytes in pieces, then C{None}."""


class BodyParser(Protocol):
    """Splits a body into its parts, fed with its bytes as they come."""

    @property
    def structure(self) -> str:
        """What the body is, in a word."""

    @property
    def notes(self) -> Sequence[Note]:
        """What of the body was passed over or put right, once it is closed."""

    @property
    def is_whole(self) -> bool:
        """Whether all of it has come. It is known when it is closed."""

    @property
    def has_passed_over(self) -> bool:
        """Whether L{pass_over} was called."""

    def parse(self, data: bytes) -> Iterator[PartEvent]:
        """Take the next bytes, and yield what is in them."""

    def close(self) -> Iterator[PartEvent]:
        """The body has ended: yield what is still to come."""

    def pass_over(self, *, but_for: bytes) -> None:
        """Pass over the rest of this part, and over those that have not C{but_for} in their headers."""
