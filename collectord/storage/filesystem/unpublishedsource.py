"""
The ids that are still to be published as a source of crashes without dumps, which are delivered to one publisher.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from typing import TypeVar

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from collectord.concurrency.threadpool import ThreadRunner
from collectord.interfaces import ICrashSource
from collectord.model import Crash, NewCrash
from collectord.storage.filesystem.moving import MoveClaims
from collectord.storage.filesystem.staging import StagingDirectory
from collectord.storage.filesystem.steps import SourceSteps
from collectord.storage.filesystem.unpublished import UnpublishedIds, read_unpublished, remove_unpublished

T = TypeVar("T")


@implementer(ICrashSource)
class UnpublishedSource:
    """
    The ids for one publisher in the store at C{root}. Its methods are called on the reactor thread.

    The other parameters are those of L{SourceSteps}.

    @param publisher: its name.
    @param now: the time, in UTC.
    """

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
        self._claims = MoveClaims(staging, "publishing")
        self._do = SourceSteps(root, in_thread, clock, timeout, ready, staging, self._claims)
        self._publisher = publisher
        self._ids = UnpublishedIds(staging, now)

    def new_crashes(self) -> AsyncIterator[Sequence[NewCrash]]:
        return self._do.listed(self._ids.of(self._publisher))

    async def load(self, new: NewCrash) -> Crash | None:
        return await self._do(lambda: self._load(new))

    async def release(self, new: NewCrash) -> None:
        await self._do.release(new)

    async def is_gone(self, new: NewCrash, crash: Crash) -> bool:
        return False

    async def remember(self, new: NewCrash, crash: Crash, publisher: str) -> None:
        raise NotImplementedError

    async def remove(self, new: NewCrash, crash: Crash, *, keep: bool) -> None:
        await self._do(lambda: self._remove(new))

    async def quarantine(self, new: NewCrash, reason: str) -> None:
        await self._do(lambda: self._refuse(new))

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
