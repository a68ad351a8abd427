"""
Splits the container in which Unreal Engine's CrashReportClient sends a report into its files.

It has a header (two names, a size, and the number of files), and then the files, each with a number, a name and a
length. It begins with C{CR1}, or, as engines before 4.25 write it, with a header that is not filled in; that one comes
again at the end.
"""

from collections.abc import Generator, Iterator
from enum import Enum, auto
from typing import Final, Literal

from collectord.errors import MalformedReport
from collectord.intake.bodyparser import PartEvent
from collectord.intake.partheaders import Part
from collectord.model import Note

BEGIN: Final = b"CR1"
"""The first bytes of a container, of which older engines have none."""

_INT: Final = 4
_LONGEST_NAME: Final = 4096
_MOST_FILES: Final = 1000
_TYPE: Final = "application/octet-stream"


class _State(Enum):
    BEGIN = auto()  # the header is next
    FILE = auto()  # the number, name and length of a file are next
    CONTENT = auto()  # in a file
    TRAILER = auto()  # in the header at the end of an old container
    END = auto()  # nothing should follow


class UnrealParser:
    """
    Splits a container into its files, fed with its bytes as they come.

    It is a L{BodyParser<collectord.intake.bodyparser.BodyParser>}.
    """

    structure = "unreal"

    def __init__(self) -> None:
        self._state = _State.BEGIN
        self._held = b""
        self._files = 0
        self._wanted_files: int | None = None  # None: the end says how many there are
        self._left = 0
        self._trailing = 0
        self.has_passed_over = False
        self.is_whole = True
        self.notes: list[Note] = []

    def parse(self, data: bytes) -> Iterator[PartEvent]:
        """
        Take the next bytes, and yield what is in them.

        @raise MalformedReport: C{bad_unreal}: it does not begin as a container does.
        """
        self._held += data
        while self._held:
            if self._state is _State.CONTENT:
                piece, self._held = self._held[: self._left], self._held[self._left :]
                yield from self._content(piece)
            elif self._state is _State.END:
                self._trailing += len(self._held)
                self._held = b""
            elif self._state is _State.TRAILER:
                if not self._end_of_old():
                    return
            elif self._state is _State.BEGIN:
                if not self._begin():
                    return
            else:
                started = yield from self._file()
                if not started:
                    return

    def close(self) -> Iterator[PartEvent]:
        """
        The body has ended: yield what is still to come, and complete the notes.

        @raise MalformedReport: C{bad_unreal}: no header or no file of it can be read.
        """
        if self._state is _State.BEGIN or (self._trailing and not self._files):
            raise MalformedReport("bad_unreal")
        if self._state is _State.CONTENT:
            yield None
        if self._trailing:
            self._note("left_out", f"{self._trailing} bytes that can't be read are left out after {self._files} files")
        elif self._state is not _State.END:
            self.is_whole = False
            self._note("repaired", "it is cut off; its end may be missing")

    def pass_over(self, *, but_for: bytes) -> None:
        """A container has few files."""

    def _begin(self) -> bool:
        """Take the header; False: all of it has not come."""
        is_new = self._held.startswith(BEGIN)
        if not is_new and BEGIN.startswith(self._held):
            return False
        header = _header(self._held, len(BEGIN) if is_new else 0)
        if header is None:
            return False
        end, files = header
        if files < 0:
            raise MalformedReport("bad_unreal")
        self._held = self._held[end:]
        self._wanted_files = files if is_new else None
        self._state = _State.END if self._wanted_files == 0 else _State.FILE
        return True

    def _file(self) -> Generator[PartEvent, None, bool]:
        """Take what comes before the bytes of a file; it returns whether all of that has come."""
        number = _int(self._held, 0)
        if number is None:
            return False
        if self._wanted_files is None and number != self._files:  # it is the length of the first name in the header
            self._state = _State.TRAILER
            return True
        try:
            name = _name(self._held, _INT)
            length = None if name is None else _int(self._held, name[1])
        except MalformedReport:
            length, name = -1, (b"", 0)
        if name is None or length is None:
            return False
        if length < 0 or self._files == _MOST_FILES:
            self._state = _State.END
            return True
        self._files += 1
        self._held = self._held[name[1] + _INT :]
        text = name[0].decode(errors="replace").encode().decode("latin-1")  # as the headers of a part are read
        yield Part(text, filename=text, content_type=_TYPE)
        self._state, self._left = _State.CONTENT, length
        yield from self._content(b"")
        return True

    def _content(self, piece: bytes) -> Iterator[PartEvent]:
        self._left -= len(piece)
        if piece:
            yield piece
        if not self._left:
            self._state = _State.END if self._files == self._wanted_files else _State.FILE
            yield None

    def _end_of_old(self) -> bool:
        """Take the header at the end, which says how many files there are; False: all of it has not come."""
        try:
            header = _header(self._held, 0)
        except MalformedReport:
            header = 0, self._files
        if header is None:
            return False
        self._held, self._state = self._held[header[0] :], _State.END
        if header[1] != self._files:
            self._note("repaired", f"it says that it has {header[1]} files, and has {self._files}")
        return True

    def _note(self, kind: Literal["left_out", "repaired"], text: str) -> None:
        self.notes.append(Note(kind, f"the container of Unreal Engine: {text}"))


def _int(data: bytes, at: int) -> int | None:
    """The number at a place; None if it has not come."""
    return int.from_bytes(data[at : at + _INT], "little", signed=True) if len(data) >= at + _INT else None


def _name(data: bytes, at: int) -> tuple[bytes, int] | None:
    """The name at a place, and where it ends; None if it has not come."""
    length = _int(data, at)
    if length is None:
        return None
    if not 0 <= length <= _LONGEST_NAME:
        raise MalformedReport("bad_unreal")
    end = at + _INT + length
    return (data[at + _INT : end].partition(b"\0")[0], end) if len(data) >= end else None


def _header(data: bytes, at: int) -> tuple[int, int] | None:
    """Where the header ends that begins at a place, and the number of files in it; None if it has not come."""
    for _ in ("directory", "file"):
        name = _name(data, at)
        if name is None:
            return None
        at = name[1]
    files = _int(data, at + _INT)
    return None if files is None else (at + 2 * _INT, files)
