"""
A whole form in the place of a file: Chromium and old Electrons on Linux keep a crash as the form that they will send,
and some send that as the minidump in another form.
"""

import re
from collections.abc import Iterator
from typing import Final

from collectord.intake.formdata import Field, FormDataParser
from collectord.intake.partheaders import Part
from collectord.model import Note

FORM_BEGIN: Final = b"--"
LONGEST_BEGIN: Final = 512
"""Bytes by which one knows such a form."""

_BEGIN: Final = re.compile(rb"--([!-~]{1,256})\r?\ncontent-disposition[ \t]*:", re.IGNORECASE)


def boundary_shown_by(begin: bytes) -> bytes | None:
    """Return the boundary of a form that begins with C{begin}, L{LONGEST_BEGIN} bytes; None if it is none."""
    found = _BEGIN.match(begin)
    return found and found[1]


class InnerForm:
    """Gives the parts of a form, fed with its bytes as they come."""

    def __init__(self, boundary: bytes) -> None:
        self._parser = FormDataParser(boundary)

    def feed(self, data: bytes) -> Iterator[Field | Part | bytes | None]:
        """Give what is in the next bytes."""
        return self._parser.parse(data)

    def finish(self) -> Iterator[Field | Part | bytes | None]:
        """It has ended: give what is still to come."""
        return self._parser.close()

    def note(self) -> Note | None:
        """Return a note on what is wrong with it, after its end; None if nothing is."""
        return next(iter(self._parser.notes), None)

    def pass_over(self, *, but_for: bytes) -> None:
        """Pass over parts that are too many."""
        self._parser.pass_over(but_for=but_for)
