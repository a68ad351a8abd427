"""
The files of one report while they are received: their names, and which of them are kept if all are too many bytes.
"""

from collections.abc import Callable, Sequence
from typing import Final

from attrs import define, field

from collectord.errors import TooLarge
from collectord.intake.buffer import DumpBuffer
from collectord.intake.names import DumpNames
from collectord.model import MINIDUMP, MINIDUMP_BEGIN, Dump, Note

LONGEST_TEXT: Final = 255
"""Characters that are kept of a file name or a type."""


@define(eq=False, kw_only=True)
class ReceivedFile:
    """
    One file while it is received.

    @ivar grow: is told that it has grown by so many bytes, or that it is complete if there are none.
    @ivar size: bytes received, whether they are kept or not.
    @ivar is_left_out: it is too large to be kept. What was received of it is gone.
    """

    buffer: DumpBuffer = field(repr=False)
    filename: str | None
    content_type: str | None
    grow: Callable[["ReceivedFile", int], None] = field(repr=False)
    size: int = 0
    is_left_out: bool = False
    _begin: bytes = b""

    def write(self, data: bytes) -> None:
        """
        Add to its end.

        @raise TooLarge: the minidump alone is larger than what is kept of a report.
        """
        if self.size < len(MINIDUMP_BEGIN):
            self._begin += data[: len(MINIDUMP_BEGIN) - self.size]
        self.size += len(data)
        if data and not self.is_left_out:
            self.buffer.write(data)
            self.grow(self, len(data))

    def end(self) -> None:
        """
        Note that it is complete.

        @raise TooLarge: as L{write}.
        """
        if not self.is_left_out:
            self.buffer.end()
            self.grow(self, 0)

    def leave_out(self) -> None:
        """Leave this file out of the report: its bytes are forgotten."""
        self.is_left_out = True
        self.buffer.release()

    @property
    def is_minidump(self) -> bool:
        """Whether this file is a minidump, by its name or by its first bytes."""
        return self.buffer.name == MINIDUMP or self._begin == MINIDUMP_BEGIN

    async def finish(self) -> Dump:
        """
        Return the whole dump.

        @raise CollectordError: it could not be spilled to a disk, so it is lost.
        """
        return await self.buffer.finish(self.filename, self.content_type, is_minidump=self.is_minidump)


class ReceivedFiles:
    """
    The files of one report. All of it is for the reactor thread.

    If they become larger than the limit, the largest attachments are left out, and a minidump only if nothing else is
    there. The one that is called L{MINIDUMP} never is. What begins as a minidump but is not called so (nor
    C{upload_file_minidump_browser}, or the like) is a minidump as long as that has not come, and an attachment then.

    Of a file that is still growing it is not known whether it becomes the largest. So meanwhile all files together may
    have twice as many bytes.

    @param new_buffer: makes a buffer for a dump of that name.
    @param most: bytes that all files together may have.
    """

    def __init__(self, new_buffer: Callable[[str], DumpBuffer], most: int) -> None:
        self._new_buffer = new_buffer
        self._most = most
        self._kept = 0
        # When a growing file has so many bytes, it may have become the largest, and is looked at.
        self._looked_at_from = len(MINIDUMP_BEGIN)
        self._names = DumpNames()
        self._files: list[ReceivedFile] = []

    def begin(self, sent_name: str, filename: str | None, content_type: str | None) -> ReceivedFile:
        """
        Return a new file, whose C{buffer.name} is the name of its dump.

        @param sent_name: the client's own name for it; it may be empty.
        """
        file = ReceivedFile(
            buffer=self._new_buffer(self._names.choose(sent_name)),
            filename=filename and filename[:LONGEST_TEXT],
            content_type=content_type and content_type[:LONGEST_TEXT],
            grow=self._grow,
        )
        self._files.append(file)
        return file

    def _grow(self, file: ReceivedFile, size: int) -> None:
        self._kept += size
        if not size:
            self._looked_at_from = len(MINIDUMP_BEGIN)
        if self._kept > self._most and (not size or file.size >= self._looked_at_from):
            self._leave_out_largest(file if size else None)

    def _leave_out_largest(self, growing: ReceivedFile | None) -> None:
        there = [file for file in self._files if not file.is_left_out]
        named = next((file for file in there if file.buffer.name == MINIDUMP), None)
        last = named or next((file for file in there if file.is_minidump), None)

        def goes_late(file: ReceivedFile) -> bool:
            return file.is_minidump and (named is None or file.buffer.name.startswith(MINIDUMP))

        attachments = [file for file in there if file is not last]
        for file in sorted(attachments, key=lambda file: (goes_late(file), -file.size)):
            if growing in attachments and file is not growing and goes_late(file) == goes_late(growing):
                self._looked_at_from = file.size  # at that size it is the largest
                return
            self._leave_out(file)
            if self._kept <= self._most:
                return
        if last is named or last is None:
            raise TooLarge
        self._leave_out(last)

    def _leave_out(self, file: ReceivedFile) -> None:
        file.leave_out()
        self._kept -= file.size

    @property
    def has_minidump(self) -> bool:
        """Whether one is among those that have come and are kept."""
        return any(file.is_minidump and not file.is_left_out for file in self._files)

    @property
    def has_filled_minidump(self) -> bool:
        """Whether one of those that are kept is not empty."""
        return any(file.is_minidump and file.size and not file.is_left_out for file in self._files)

    def notes(self) -> list[Note]:
        """Return a note on each file that was left out."""
        return [
            Note("left_out", f"{file.buffer.name}: {file.size} bytes, left out: the report is too large")
            for file in self._files
            if file.is_left_out
        ]

    async def finish(self) -> Sequence[Dump]:
        """
        Return the dumps that are kept. To be called after the last byte.

        @raise TooLarge: there was a minidump, and none can be kept.
        @raise CollectordError: one could not be spilled to a disk, so it is lost.
        """
        if not self.has_minidump and any(file.is_minidump for file in self._files):
            raise TooLarge
        return [await file.finish() for file in self._files if not file.is_left_out]

    def release(self) -> None:
        """Forget all of them, because the report is saved or given up."""
        for file in self._files:
            file.buffer.release()
        self._files.clear()
