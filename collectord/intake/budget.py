"""
The memory that unfinished uploads may take: beyond a limit dumps are spilled to a disk, and clients are paused.
"""

from typing import Protocol

from attrs import define, field

from collectord.errors import AllStoresFailed

ANNOTATIONS = 128 * 1024 * 1024
"""Bytes that all unfinished uploads may take for what can't be spilled: annotations, and the windows of decoders."""


class Pausable(Protocol):
    """An upload that can be paused. Pauses are counted: it goes on once each of them was taken back."""

    def pause(self) -> None:
        """Read nothing more from the client."""

    def resume(self) -> None:
        """Take one pause back."""


class Spillable(Protocol):
    """A dump that may be moved out of memory."""

    def spill(self) -> None:
        """Begin to move what is in memory to a disk."""


@define(eq=False)
class MemoryBudget:
    """
    The bytes of unfinished uploads that are in memory. It is used on the reactor thread only.

    @ivar limit: with more bytes in memory, the oldest dumps are spilled. While more than so many bytes wait for a disk,
        every client that sends more is paused: so a slow disk slows down its clients, and does not fill the memory.
    @ivar used: how many bytes of dumps are in memory.
    @ivar flushing: how many of these wait for a disk.
    @ivar annotations: how many bytes that can't be spilled are in memory, besides.
    """

    limit: int
    used: int = 0
    flushing: int = 0
    annotations: int = 0
    _candidates: dict[Spillable, None] = field(factory=dict, repr=False)  # the oldest first
    _paused: dict[Pausable, None] = field(factory=dict, repr=False)

    def reserve(self, size: int) -> None:
        """Count C{size} more bytes of a dump as in memory, and spill the oldest dumps if that is too much."""
        self.used += size
        while self.used - self.flushing > self.limit and self._candidates:
            oldest = next(iter(self._candidates))
            self.remove_candidate(oldest)
            oldest.spill()

    def start_flush(self, size: int) -> None:
        """Count C{size} of the bytes in memory as waiting for a disk."""
        self.flushing += size

    def finish_flush(self, size: int) -> None:
        """Note that C{size} of the bytes that waited for a disk are out of memory now; paused uploads may go on."""
        self.flushing -= size
        self.used -= size
        if self.flushing <= self.limit and self._paused:
            paused, self._paused = self._paused, {}
            for upload in paused:
                upload.resume()

    def release(self, size: int) -> None:
        """Note that C{size} bytes that did not wait for a disk are out of memory now."""
        self.used -= size

    def reserve_annotations(self, size: int) -> None:
        """
        Count C{size} more bytes that can't be spilled as in memory.

        @raise AllStoresFailed: they are too many, and have to be released as well.
        """
        self.annotations += size
        if self.annotations > ANNOTATIONS:
            raise AllStoresFailed("the annotations and decoders of unfinished uploads take too much memory")

    def release_annotations(self, size: int) -> None:
        """Note that C{size} bytes that can't be spilled are out of memory now."""
        self.annotations -= size

    def add_candidate(self, dump: Spillable) -> None:
        """Let C{dump} be spilled when memory is short: it has enough in memory to be worth it."""
        self._candidates[dump] = None

    def remove_candidate(self, dump: Spillable) -> None:
        """Let C{dump} not be spilled any more."""
        self._candidates.pop(dump, None)

    def pause_if_crowded(self, upload: Pausable) -> None:
        """Pause an upload if too many bytes wait for a disk. It is resumed once they are fewer."""
        if self.flushing > self.limit and upload not in self._paused:
            upload.pause()
            self._paused[upload] = None
