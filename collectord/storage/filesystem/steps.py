"""
What the sources of a store have in common: each step runs on a thread and in a limited time, and what is loaded is
claimed, so that no other process moves it.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from collectord.concurrency.threadpool import ThreadRunner
from collectord.concurrency.timeouts import with_timeout
from collectord.errors import StorageError
from collectord.model import NewCrash
from collectord.storage.filesystem.checks import describe_error
from collectord.storage.filesystem.moving import MoveClaims
from collectord.storage.filesystem.staging import StagingDirectory

T = TypeVar("T")


class SourceSteps:
    """
    Runs the steps of a source of the store at C{root}. Its methods are called on the reactor thread.

    @param in_thread: runs blocking work on threads of its own; a hung mount must not hold up those that save crashes.
    @param timeout: how many seconds one step may take, such as reading a crash.
    @param ready: returns once the store can be used; nothing is listed before.
    @param staging: of this process in the same store.
    @param claims: of what the source loads.
    """

    _log = Logger()

    def __init__(
        self,
        root: str,
        in_thread: ThreadRunner,
        clock: IReactorTime,
        timeout: float,
        ready: Callable[[], Awaitable[object]],
        staging: StagingDirectory,
        claims: MoveClaims,
    ) -> None:
        self._root = root
        self._in_thread = in_thread
        self._clock = clock
        self._timeout = timeout
        self._ready = ready
        self._is_ready = False
        self._staging = staging
        self._claims = claims

    async def __call__(self, work: Callable[[], T]) -> T:
        """
        Run one step on a thread.

        @raise StorageError: it failed, or took too long, or another store is in the place of this one.
        """

        def checked() -> T:
            self._staging.refuse_other()
            return work()

        try:
            return await with_timeout(self._in_thread(checked), self._timeout, self._clock, self._root)
        except OSError as e:
            raise StorageError(describe_error(self._root, e)) from e

    async def release(self, new: NewCrash) -> None:
        """Give up a claim. It never fails."""
        try:
            await self(lambda: self._claims.drop(new.crash_id))
        except StorageError as e:
            self._log.warn("{crash_id} stays claimed: {why}", crash_id=new.crash_id, why=e)

    async def listed(self, walk: Iterator[Sequence[NewCrash]]) -> AsyncIterator[Sequence[NewCrash]]:
        """Give what C{walk} does, which runs on a thread, once the store can be used."""
        if not self._is_ready:
            # Until its store has a staging directory, a destination can't find out that it is the same store.
            await self._ready()
            self._is_ready = True
        while batch := await self(lambda: next(walk, None)):
            yield batch
