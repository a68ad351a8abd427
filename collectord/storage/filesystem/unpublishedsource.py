"""
The ids that are still to be published as a source of crashes without dumps, which are delivered to one publisher.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from typing import TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from collectord.concurrency.threadpool import ThreadRunner
from collectord.concurrency.timeouts import with_timeout
from collectord.errors import StorageError
from collectord.interfaces import ICrashSource
from collectord.model import Crash, NewCrash
from collectord.storage.filesystem.checks import describe_error
from collectord.storage.filesystem.moving import MoveClaims
from collectord.storage.filesystem.staging import StagingDirectory
from collectord.storage.filesystem.unpublished import UnpublishedIds, read_unpublished, remove_unpublished

T = TypeVar("T")


@implementer(ICrashSource)
class UnpublishedSource:
    """
    The ids for one publisher in the store at C{root}. Its methods are called on the reactor thread.

    @param publisher: its name.
    @param in_thread: runs blocking work on threads.
    @param now: the time, in UTC.
    @param timeout: how many seconds one step may take.
    @param ready: returns once the store can be used.
    @param staging: of this process in the same store.
    """

    _log = Logger()

    def __init__(
        self,
        root: str,
        publisher: str,
        in_thread: ThreadRunner,
        clock: IReactorTime,
        now: Callable[[], datetime],
        timeout: float,
        ready: Callable[[], Awaitable[object]],
        staging: StagingDirectory,
    ) -> None:
        self.name = root
        self._publisher = publisher
        self._in_thread = in_thread
        self._clock = clock
        self._timeout = timeout
        self._ready = ready
        self._is_ready = False
        self._staging = staging
        self._ids = UnpublishedIds(staging, now)
        self._claims = MoveClaims(staging, "publishing")

    async def new_crashes(self) -> AsyncIterator[Sequence[NewCrash]]:
        if not self._is_ready:
            await self._ready()
            self._is_ready = True
        ids = self._ids.of(self._publisher)
        while batch := await self._do(lambda: next(ids, None)):
            yield batch

    async def load(self, new: NewCrash) -> Crash | None:
        return await self._do(lambda: self._load(new))

    async def release(self, new: NewCrash) -> None:
        try:
            await self._do(lambda: self._claims.drop(new.crash_id))
        except StorageError as e:
            self._log.warn("{crash_id} stays claimed: {why}", crash_id=new.crash_id, why=e)

    async def is_gone(self, new: NewCrash, crash: Crash) -> bool:
        return False

    async def remember(self, new: NewCrash, crash: Crash, publisher: str) -> None:
        raise NotImplementedError

    async def remove(self, new: NewCrash, crash: Crash, *, keep: bool) -> None:
        await self._do(lambda: self._remove(new))

    async def quarantine(self, new: NewCrash, reason: str) -> None:
        await self._do(lambda: self._refuse(new))

    async def _do(self, work: Callable[[], T]) -> T:
        def checked() -> T:
            self._staging.refuse_other()
            return work()

        try:
            return await with_timeout(self._in_thread(checked), self._timeout, self._clock, self.name)
        except OSError as e:
            raise StorageError(describe_error(self.name, e)) from e

    # What follows runs on threads.

    def _load(self, new: NewCrash) -> Crash | None:
        if not self._claims.take(new.crash_id):
            return None
        try:
            return Crash(crash_id=new.crash_id, raw_crash=read_unpublished(new), dumps=[])
        except FileNotFoundError:  # another process has published it
            self._claims.drop(new.crash_id)
            return None

    def _remove(self, new: NewCrash) -> None:
        remove_unpublished(new)
        self._claims.drop(new.crash_id)

    def _refuse(self, new: NewCrash) -> None:
        self._ids.refuse(new)
        self._claims.drop(new.crash_id)
