"""
Crashes on a file system, in Socorro's layout, durable before they are acknowledged.
"""

import os
from collections.abc import Awaitable, Mapping, Sequence
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import TypeVar

from attrs import field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from collectord.concurrency.sharing import SingleFlight
from collectord.concurrency.threadpool import CallFromThread, ThreadPool
from collectord.concurrency.timeouts import with_timeout
from collectord.errors import CrashRejectedByStore, StorageError, TimedOut
from collectord.interfaces import ICrashStorage, IDumpStaging
from collectord.model import Content, Crash, FetchedCrash
from collectord.storage.content import NotAsReceived
from collectord.storage.filesystem.aborted import AbortedJournal
from collectord.storage.filesystem.checks import StoreChecks, describe_error
from collectord.storage.filesystem.committer import GroupCommit, Outcomes
from collectord.storage.filesystem.erasing import erase
from collectord.storage.filesystem.existing import Existing, look_at
from collectord.storage.filesystem.finder import find_crash
from collectord.storage.filesystem.identity import ConfirmedSync, StoreIdentity, read_mark
from collectord.storage.filesystem.known import KnownStores
from collectord.storage.filesystem.layout import Place, place_in, place_of
from collectord.storage.filesystem.receipts import ErasedReceipts
from collectord.storage.filesystem.spill import StagedFile, StagingArea
from collectord.storage.filesystem.staging import Modes, StagingDirectory
from collectord.storage.filesystem.sync import Sync, SyncFilesystem, sync_each
from collectord.storage.filesystem.transaction import CommitLatch, CrashTransaction

T = TypeVar("T")


@frozen(kw_only=True)
class FilesystemSettings:
    """
    The settings of one store.

    @ivar root: absolute path.
    @ivar min_free_bytes: with fewer free bytes the store counts as full.
    @ivar whole_filesystem: sync the whole file system at once, instead of each file.
    @ivar threads: how many threads spill dumps and read them back.
    @ivar timeout: how many seconds it may take to keep a crash.
    @ivar modes: the permissions of files and directories.
    @ivar others: the names of the stores that this one must not be, by their staging ids.
    @ivar known: what is remembered of stores outside of them; None: nothing is.
    @ivar require_mount: as L{collectord.storage.filesystem.devices.refuse_unmounted} has it.
    """

    root: str
    min_free_bytes: int = 0
    whole_filesystem: bool = False
    threads: int = 4
    timeout: float = 10.0
    modes: Modes = field(factory=Modes)
    others: Mapping[str, str] = field(factory=dict)
    known: KnownStores | None = None
    require_mount: bool | str = False


@frozen
class _Waiting:
    """
    Somebody waits for a crash to be kept.

    @ivar done: fires when it is.
    @ivar deadline: by the reactor's clock.
    """

    done: Deferred[None]
    deadline: float


@implementer(ICrashStorage, IDumpStaging)
class FilesystemCrashStorage:
    """
    One store on a file system. It is used on the reactor thread; what blocks runs on threads of its own.

    @ivar name: the root.
    @ivar staging_id: by it, other processes and hosts find out that their store is this one.
    """

    def __init__(self, settings: FilesystemSettings, call_from_thread: CallFromThread, clock: IReactorTime) -> None:
        self._clock = clock
        self._timeout = settings.timeout
        self.name = root = settings.root
        self._call_from_thread = call_from_thread
        identity = StoreIdentity(root, settings.known, settings.require_mount)
        self._directory = StagingDirectory(root, settings.modes, identity)
        self.staging_id = self._directory.staging_id
        self._erased = ErasedReceipts(root, self._directory.refuse_other)
        self._workers = ThreadPool(f"spill {root}", settings.threads, call_from_thread)
        self._checker = ThreadPool(f"check {root}", 1, call_from_thread)
        whole = SyncFilesystem(root) if settings.whole_filesystem else None
        self._checks = StoreChecks(self._directory, whole, settings.min_free_bytes, settings.others, clock.seconds)
        # One of each at a time: a hung mount holds one thread, however often it is asked for.
        self._checked = SingleFlight(lambda: self._checker(self._checks.check))
        self._quick_checked = SingleFlight(lambda: self._checker(self._checks.quick_check))
        self._prepared = SingleFlight(lambda: self._checker(self._checks.prepare))
        self._waiting: dict[CommitLatch, _Waiting] = {}  # in the order of their deadlines
        self._timer: IDelayedCall | None = None
        self._hung_in = -1  # the round of the committing thread in which a crash was given up
        self._staging = StagingArea(self._directory, self._workers, self._checks.refuse_full, self.doubt)
        refusals = [self._directory.refuse_other, AbortedJournal(self._directory.path).refuse]
        sync: Sync = ConfirmedSync(whole or sync_each, refusals, identity.remember)
        self._commit = GroupCommit(root, self._directory, sync, self._checks.refuse_full, self._on_resolved)

    @property
    def directory(self) -> StagingDirectory:
        """The staging directory of this process."""
        return self._directory

    @property
    def cautions(self) -> Sequence[str]:
        """What this store can't promise, in plain sentences; known once it was checked."""
        return self._checks.cautions

    @property
    def waited_s(self) -> float:
        """For how many seconds the oldest crash has waited that is being saved now."""
        oldest = next(iter(self._waiting.values()), None)
        return 0.0 if oldest is None else self._clock.seconds() - oldest.deadline + self._timeout

    def new_dump(self) -> StagedFile:
        return self._staging.new_dump()

    def owns(self, content: Content) -> bool:
        return self._staging.owns(content)

    async def is_shared_by(self, staging_ids: Sequence[str]) -> bool:
        return await self._staging.is_shared_by(staging_ids)

    async def has(self, crash_id: str) -> bool:
        """
        Tell whether a crash is kept here, by whether its raw crash is in its place.

        @raise StorageError: that can't be found out now.
        """
        raw_crash = place_in(self.name, crash_id, date_dir="").raw_crash
        return await self._result_of(self._workers(partial(os.path.lexists, raw_crash)))

    async def was_erased(self, crash_id: str) -> bool:
        """
        Tell whether a crash was erased lately, as far as this store knows.

        @raise StorageError: that can't be found out now.
        """
        return await self._result_of(self._workers(partial(self._erased.has, crash_id)))

    async def _result_of(self, work: Awaitable[T]) -> T:
        """Wait for C{work}, and raise its OSError as a L{StorageError} that names this store."""
        try:
            return await work
        except OSError as e:
            raise StorageError(describe_error(self.name, e)) from e

    async def wait_for_discards(self) -> None:
        await self._staging.wait_for_discards()

    async def close(self) -> None:
        self._commit.close()
        self._workers.close()
        removed = self._checker(self._remove_staging)
        self._checker.close()
        await removed

    async def save(self, crash: Crash) -> str:
        try:
            place = place_of(self.name, crash)
        except (LookupError, ValueError) as e:
            raise CrashRejectedByStore(f"{self.name}: {crash.crash_id} has no time to place it by: {e!r}") from e
        existing = None if crash.fresh else await self._look_at(place)
        try:
            self._commit.start()
        except OSError as e:
            raise StorageError(describe_error(self.name, e)) from e
        latch = CommitLatch()
        done: Deferred[None] = Deferred(lambda done: self._abandon(latch, done))
        self._waiting[latch] = _Waiting(done, self._clock.seconds() + self._timeout)
        if self._timer is None:
            self._timer = self._clock.callLater(self._timeout, self._expire)
        self._commit.submit(CrashTransaction(crash, place, latch, existing))
        await done
        return self.name

    async def _look_at(self, place: Place) -> Existing:
        """Read what is there already; not on the committing thread, for it may be big, and others wait for that."""
        return await self._result_of(
            with_timeout(self._workers(partial(look_at, place)), self._timeout, self._clock, self.name)
        )

    def _abandon(self, latch: CommitLatch, done: Deferred[None]) -> None:
        latch.abandon()
        self._waiting.pop(latch, None)
        if latch.kept:  # the committing thread was a moment faster
            done.callback(None)

    def _expire(self) -> None:
        """Give up the crashes that wait too long. As they wait in the order of their deadlines, one timer is enough."""
        self._timer = None
        now = self._clock.seconds()
        late = list(takewhile(lambda item: item[1].deadline <= now, self._waiting.items()))
        oldest = next((w.deadline for w in self._waiting.values() if w.deadline > now), None)
        if oldest is not None:
            self._timer = self._clock.callLater(oldest - now, self._expire)
        for latch, waiting in late:
            if latch.abandon():
                del self._waiting[latch]
                self._hung_in = self._commit.rounds
                self.doubt()
                waiting.done.errback(TimedOut(f"{self.name}: nothing for {self._timeout:g} s"))

    def _on_resolved(self, group: Outcomes) -> None:
        self._call_from_thread(self._notify, group)

    def _notify(self, group: Outcomes) -> None:
        for latch, error in group:
            waiting = self._waiting.pop(latch, None)
            if waiting is None:
                continue
            if error is None:
                waiting.done.callback(None)
            else:
                self.doubt()
                kind = CrashRejectedByStore if isinstance(error, NotAsReceived) else StorageError
                waiting.done.errback(kind(describe_error(self.name, error)))

    def doubt(self) -> None:
        """Something failed here, so the next check finds out again what the file system can do."""
        self._checks.doubt()

    async def check(self) -> Mapping[str, int]:
        if self._hung_in == self._commit.rounds:  # a check has other threads, and would pass while all crashes wait
            raise StorageError(f"{self.name}: its committing thread hangs")
        try:
            self._commit.start()
            free = await self._checked()
            return {} if free is None else {"free_bytes": free}
        except OSError as e:
            raise StorageError(describe_error(self.name, e)) from e

    async def fetch(self, crash_id: str) -> FetchedCrash | None:
        """
        Read a crash that this keeps.

        @return: None if it keeps no crash of that id, or only in its quarantine.

        @raise StorageError: it can't be read.
        """
        return await self._result_of(self._workers(partial(_fetch, self.name, crash_id)))

    async def erase(self, crash_id: str) -> bool:
        """
        Erase a crash that this keeps, also from its quarantine; return whether there was anything.

        @raise StorageError: some of it may still be there.
        """
        await self.prepare()
        return await self._result_of(self._workers(partial(erase, crash_id, self._directory)))

    async def prepare(self) -> None:
        """
        Return once crashes can be moved out of this store. It may be full: then it needs that most.

        @raise StorageError: they can't be moved out of it.
        """
        await self._result_of(self._prepared())

    async def quick_check(self) -> int | None:
        """
        Look whether the store is full, read-only or away. Unlike L{check} it writes nothing.

        @return: how many bytes are free; None: nobody knows.

        @raise StorageError: it is; the text says what.
        """
        return await self._result_of(self._quick_checked())

    def _remove_staging(self) -> None:
        # As long as the committing thread may roll a crash back, the others have to see its intent record.
        self._commit.wait_until_closed()
        self._checks.remove_staging()


def _fetch(root: str, crash_id: str) -> FetchedCrash | None:
    found = find_crash(root, crash_id)
    if found is None and read_mark(root) is None:
        raise StorageError(f"{root}: no daemon has used it yet, or its file system is not mounted")
    if found is None or found.reason:
        return None
    dumps = {name: Path(path).read_bytes() for name, path in found.dumps.items()}
    return FetchedCrash(raw_crash=Path(found.raw_crash).read_bytes(), dumps=dumps)
