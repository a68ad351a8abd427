"""
What the parts of collectord promise each other. A promise is spelled out here and nowhere else.
"""

from collections.abc import Mapping, Sequence

from zope.interface import Interface

from collectord.model import Content, Crash


class ICrashStorage(Interface):
    """A place that keeps crashes."""

    async def save(crash: Crash) -> str:
        """
        Keep C{crash}; return only once it is durable.

        Cancelling abandons the crash: either it was durable already, and this returns, or nothing of it will be left,
        however long the disk takes to come back.

        @return: the name of the store that keeps it, for logs.

        @raise StorageError: it is not kept, and nothing of it is left behind.
        """

    async def check() -> Mapping[str, int]:
        """
        Try whether a crash could be kept now.

        @return: figures for the operator, such as C{free_bytes}.

        @raise StorageError: it could not; the text says why.
        """


class IStagedDump(Interface):
    """A dump that is on its way in and no longer fits into memory. Its appends come one after the other."""

    async def append(pieces: Sequence[bytes]) -> None:
        """
        Add to the end. What was added need not be durable yet.

        @raise StorageError: there is no place for it; the dump is lost.
        """

    def content() -> Content:
        """What was appended, for L{ICrashStorage.save}."""

    def discard() -> None:
        """Leave nothing behind. What a store has taken over in the meantime stays."""


class IDumpStaging(Interface):
    """Takes the dumps that no longer fit into memory, while they are being received."""

    def new_dump() -> IStagedDump:
        """An empty one. Nothing touches the disk before its first append."""

    def holds(content: Content) -> bool:
        """Whether C{content} lies here, so that a crash saved beside it need not be copied."""
