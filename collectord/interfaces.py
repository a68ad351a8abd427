"""
The interfaces between the parts of collectord, and the ones that plugins implement.

What an implementation has to promise is written down here only, and not repeated in its docstrings.
"""

from collections.abc import AsyncIterator, Mapping, Sequence

from zope.interface import Attribute, Interface

from collectord.model import Content, Crash, NewCrash


class ICrashStorage(Interface):
    """
    A crash storage keeps crashes: it is a store of the collector, or a destination of the crashmover.

    A destination may be given a crash that it keeps already. It then keeps one crash of this id, as before.
    """

    name = Attribute("The name of this place in log lines and metrics: a text.")

    async def save(crash: Crash) -> str:
        """
        Save C{crash}, and return only once it is durable.

        Cancelling this abandons the crash. Then either the crash was durable already, and this returns as usual, or
        everything that was written of it is removed, however late a disk that hangs comes back.

        A destination that can't commit several files in one step (a bucket) may leave dumps behind when it fails, but
        never the raw crash: readers take a crash without its raw crash for absent.

        @return: the name of the store that keeps the crash, for logs.

        @raise StorageError: the crash is not kept, and nothing of it is left behind.
        """

    async def check() -> Mapping[str, int]:
        """
        Try whether a crash could be saved now.

        @return: figures for the operator, such as C{free_bytes}. A figure that is not known is left out.

        @raise StorageError: no crash could be saved; the text says why.
        """

    # It may also have these three:
    # place_of(crash_id: str) -> str tells where the raw crash of a crash that it keeps is, for the journal, such as
    # s3://bucket/v1/raw_crash/20160622/8f63752c-….
    # async fetch(crash_id: str) -> FetchedCrash | None reads a crash that it keeps, for the command "collectord fetch".
    # async erase(crash_id: str) -> bool erases a crash that it keeps, and tells whether there was anything, for the
    # command "collectord crashes erase".

    async def close() -> None:
        """
        Let go of everything that this has taken: threads, connections, open files, temporary files.

        It is called when a reload replaces this by another one, so what it forgets adds up. Nothing is saved or checked
        after it; closing once more does no harm. It is cancelled if it takes longer than a few seconds.
        """


class IStagedDump(Interface):
    """
    A staged dump is written to a store's disk while it is still being received, because it no longer fits into memory.

    No append is called before the one before it has returned.
    """

    async def append(pieces: Sequence[bytes]) -> None:
        """
        Add C{pieces} to the end of the dump. They need not be durable yet when this returns.

        @raise StorageError: the pieces can't be written anywhere, and the dump is lost.
        """

    def content() -> Content:
        """Return what was appended, to be passed to L{ICrashStorage.save}."""

    def discard() -> None:
        """Remove the dump's files, except those that a store has taken over for a crash that it keeps."""


class IDumpStaging(Interface):
    """A dump staging area takes the dumps that no longer fit into memory while they are received."""

    def new_dump() -> IStagedDump:
        """Make an empty dump. The disk is not touched before its first append."""

    def owns(content: Content) -> bool:
        """Tell whether C{content} lies in this staging area, so that this store can save it without a copy."""

    async def wait_for_discards() -> None:
        """Return once the files of every dump that has been discarded by now are removed."""

    async def is_shared_by(staging_ids: Sequence[str]) -> bool:
        """
        Tell whether one of C{staging_ids}, each the id of a store of this or of another process, stands for the
        directory of this store, by whatever path.
        """


class ICrashSource(Interface):
    """A crash source is a store that the crashmover moves crashes out of."""

    name = Attribute("The name of this place in log lines and metrics: a text.")

    def new_crashes() -> AsyncIterator[Sequence[NewCrash]]:
        """
        List the crashes that were not moved yet, oldest first, one slot of the date branch at a time.

        A slot is not listed before it is asked for, so that a pass over a large backlog can stop early.

        @raise StorageError: the source can't be listed now.
        """

    async def load(new: NewCrash) -> Crash | None:
        """
        Claim C{new}, so that no other process moves it; this one may have claimed it before. Then read its raw crash,
        and compare each of its dumps with the checksum that it was received with.

        The dumps that are returned are read from the disk when their content is asked for. The claim ends with
        L{remove}, L{quarantine} or L{release}, and with this process.

        @return: None if the crash is still being put in place, was removed in the meantime, or has another process's
            claim. Then nothing is claimed.

        @raise UnreadableCrash: the crash is broken, and can never be loaded.
        @raise StorageError: it can't be read now.
        """

    async def release(new: NewCrash) -> None:
        """Give up the claim of C{new}, which is not moved now. It never fails."""

    async def is_gone(new: NewCrash, crash: Crash) -> bool:
        """Tell whether somebody has removed C{crash}, or has put another one in its place, since it was loaded."""

    async def remember(new: NewCrash, crash: Crash, publisher: str) -> None:
        """
        Note durably that the id of C{crash} is still to be published by the publisher of that name, also once the crash
        is removed from here.

        @raise StorageError: it may not be noted.
        """

    async def remove(new: NewCrash, crash: Crash, *, keep: bool) -> None:
        """
        Remove C{crash}, which has been moved. Removing it once more does no harm.

        @param keep: leave its files where they are, and only make it no longer new.

        @raise StorageError: the crash may still be there. It stays claimed, so that only this process tries again.
        """

    async def quarantine(new: NewCrash, reason: str) -> None:
        """
        Put a crash that can't be read aside, with a note that says why.

        @raise StorageError: the crash is still where it was.
        @raise CrashGone: another process has removed it.
        """


class ICrashPublisher(Interface):
    """A crash publisher tells a queue which crashes there are to process."""

    name = Attribute("The name of this queue in log lines and metrics: a text.")

    async def publish(crash: Crash) -> None:
        """
        Send the bare id of C{crash}, and return once the queue has confirmed it. Sending it once more does no harm.

        Cancelling this only stops the waiting: the queue may get the id nevertheless.

        @raise PublishError: the queue has not confirmed the id. Nothing is published for a while then; but after an
            L{IdRefused<collectord.errors.IdRefused>}, which is about this one id, the others are.
        """

    # If it publishes to more than one place it may also have these two:
    # place_of(crash: Crash) -> str tells where the id of a crash is published, for the journal; empty: the usual place.
    # async publish_at(place: str, crash: Crash) publishes an id there again, for the command "collectord republish".

    async def check() -> None:
        """
        Try whether an id could be published now, without publishing one.

        @raise PublishError: no id could be published; the text says why.
        """

    async def close() -> None:
        """
        Let go of everything that this has taken: threads, connections, open files.

        It is called when a reload replaces this by another one, so what it forgets adds up. Nothing is published or
        checked after it; closing once more does no harm. It is cancelled if it takes longer than a few seconds.
        """
