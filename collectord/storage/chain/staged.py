"""
A dump that is spilled to a chain of stores, and is copied to the next store when the one that has it fails.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Protocol, TypeVar
from weakref import WeakSet

from attrs import frozen
from zope.interface import implementer

from collectord.errors import StorageError
from collectord.interfaces import IDumpStaging, IStagedDump
from collectord.model import Content
from collectord.storage.chain.backend import Backend
from collectord.storage.chain.waitingroom import Waiter

T = TypeVar("T")


class Chain(Protocol):
    """The part of a chain of stores that a dump needs which is spilled to it."""

    doubtful: WeakSet[Content]

    async def first_available(self, act: Callable[[Backend], Awaitable[T]], waiter: Waiter) -> T:
        """Call C{act} with each store in turn until one succeeds, and return the result."""

    async def timed(self, backend: Backend, work: Awaitable[T]) -> T:
        """Wait for C{work} of a store for its time limit."""

    def read_spilled(self, content: Content) -> AsyncIterator[bytes]:
        """Read a spilled dump back, in pieces."""

    def failed(self, backend: Backend, error: StorageError) -> None:
        """Note that C{backend} has failed."""

    def owns(self, content: Content) -> bool:
        """As L{IDumpStaging.owns}."""

    async def wait_for_discards(self) -> None:
        """As L{IDumpStaging.wait_for_discards}."""

    async def is_shared_by(self, staging_ids: Sequence[str]) -> bool:
        """As L{IDumpStaging.is_shared_by}."""


@implementer(IStagedDump)
class FallbackStagedDump:
    """
    A dump that is spilled to one store of a chain, and to the next one when that store fails.

    @param began: when its client began to send the upload that it is part of.
    """

    def __init__(self, chain: Chain, began: float) -> None:
        self._chain = chain
        self._began = began
        self._backend: Backend | None = None
        self._dump: IStagedDump | None = None

    async def append(self, pieces: Sequence[bytes]) -> None:
        if self._dump is not None and self._backend is not None:
            try:
                await self._chain.timed(self._backend, self._dump.append(pieces))
                return
            except StorageError as e:
                self._chain.failed(self._backend, e)
        waiter = Waiter(self._began, lambda: sum(map(len, pieces)))
        await self._chain.first_available(lambda backend: self._begin(backend, pieces), waiter)

    async def _begin(self, backend: Backend, pieces: Sequence[bytes]) -> None:
        dump = backend.staging.new_dump()
        try:
            if self._dump is not None:
                self._chain.doubtful.add(dump.content())  # what is copied now is compared with the checksum only later
                async for piece in self._chain.read_spilled(self._dump.content()):
                    await self._chain.timed(backend, dump.append([piece]))
            await self._chain.timed(backend, dump.append(pieces))
        except BaseException:
            dump.discard()
            raise
        self.discard()
        self._backend, self._dump = backend, dump

    def content(self) -> Content:
        assert self._dump is not None
        return self._dump.content()

    def discard(self) -> None:
        if self._dump is not None:
            self._dump.discard()


@implementer(IDumpStaging)
@frozen
class UploadStaging:
    """The staging area of a chain, for the dumps of one upload: they wait for a store as long as its crash does."""

    _chain: Chain
    _began: float

    def new_dump(self) -> IStagedDump:
        return FallbackStagedDump(self._chain, self._began)

    def owns(self, content: Content) -> bool:
        return self._chain.owns(content)

    async def wait_for_discards(self) -> None:
        await self._chain.wait_for_discards()

    async def is_shared_by(self, staging_ids: Sequence[str]) -> bool:
        return await self._chain.is_shared_by(staging_ids)
