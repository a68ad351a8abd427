"""
What the parts of collectord promise each other. A promise is spelled out here and nowhere else.
"""

from collections.abc import AsyncIterator, Mapping, Sequence

from zope.interface import Attribute, Interface

from collectord.model import Content, Crash, NewCrash


class ICrashStorage(Interface):
    """
    A place that keeps crashes. As a destination of the crashmover it may be given one that it keeps already: then it
    keeps it still, once.
    """

    name = Attribute("for logs, a text")

    async def save(crash: Crash) -> str:
        """
        Keep C{crash}; return only once it is durable.

        Cancelling abandons the crash: either it was durable already, and this returns, or nothing of it will be left,
        however long the disk takes to come back.

        A destination that has no such step as a commit (a bucket) may leave dumps behind; the raw crash never.

        @return: the name of the store that keeps it, for logs.

        @raise StorageError: it is not kept, and nothing of it is left behind.
        """

    async def check() -> Mapping[str, int]:
        """
        Try whether a crash could be kept now.

        @return: figures for the operator, such as C{free_bytes}; what is not known is not in it.

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

    def owns(content: Content) -> bool:
        """Whether C{content} lies here, so that a crash saved beside it need not be copied."""

    async def wait_for_discards() -> None:
        """Return once nothing is left of what was discarded by now."""

    async def is_shared_by(staging_ids: Sequence[str]) -> bool:
        """Whether one of the stores that bear C{staging_ids} is the same place, here or in another process."""


class ICrashSource(Interface):
    """A place that crashes are moved out of."""

    name = Attribute("for logs, a text")

    def new_crashes() -> AsyncIterator[Sequence[NewCrash]]:
        """
        Those that were not moved yet, oldest first, a slot at a time; no slot is listed before it is asked for.

        @raise StorageError: the source can't be listed now.
        """

    async def load(new: NewCrash) -> Crash | None:
        """
        Its raw crash, and its dumps to be read from where they lie; every one is what was received, by its checksum.

        @return: None where it is still being put in place, or was removed in the meantime.

        @raise UnreadableCrash: it never will be.
        @raise StorageError: it can't be read now.
        """

    async def remove(new: NewCrash, crash: Crash, *, keep: bool) -> None:
        """
        It was moved: forget it. Once more does no harm.

        @param keep: its files stay, and only it is not new any more.

        @raise StorageError: it may still be there, and is moved again.
        """

    async def quarantine(new: NewCrash, reason: str) -> None:
        """
        Put it aside, with the reason.

        @raise StorageError: it is still where it was.
        """


class ICrashPublisher(Interface):
    """A queue that is told which crashes there are to process."""

    name = Attribute("for logs, a text")

    async def publish(crash: Crash) -> None:
        """
        Tell the bare id; return once the queue has confirmed it. Once more does no harm.

        Cancelling stops the waiting; the id may be told nevertheless.

        @raise PublishError: it is not confirmed.
        """

    async def check() -> None:
        """
        Try whether an id could be published now, without publishing one.

        @raise PublishError: it could not; the text says why.
        """

    async def close() -> None:
        """Let go of the connection. Nothing is published afterwards."""
