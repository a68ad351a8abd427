"""
What a parser of forms yields, in the same words whether a part came at once or in pieces.
"""

from collections.abc import Iterable, Iterator

from collectord.intake.formdata import Field
from collectord.intake.partheaders import Part


def in_pieces(events: Iterable[Field | Part | bytes | None]) -> Iterator[Part | bytes | None]:
    """The events, with its beginning, its content and its end in place of each field."""
    for event in events:
        if isinstance(event, Field):
            yield Part(event.name)
            if event.content:
                yield event.content
            yield None
        else:
            yield event
