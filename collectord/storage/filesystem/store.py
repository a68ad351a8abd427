"""
Crashes on a file system, in Socorro's layout, durable before they are kept.
"""

import errno
import os
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import takewhile
from math import inf

from attrs import field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from collectord.concurrency.threadpool import CallFromThread, ThreadPool
from collectord.concurrency.timeouts import SingleFlight, with_timeout
from collectord.errors import CrashRejectedByStore, StorageError, StoreTimeout
from collectord.interfaces import ICrashStorage, IDumpStaging
from collectord.metrics import SWEEP_FAILURES
from collectord.model import Content, Crash
from collectord.storage.content import NotAsReceived
from collectord.storage.filesystem.capabilities import Capabilities, probe, try_out
from collectord.storage.filesystem.committer import GroupCommit, Outcomes
from collectord.storage.filesystem.existing import Existing, look_at
from collectord.storage.filesystem.identity import ConfirmedSync, StoreIdentity
from collectord.storage.filesystem.known import KnownStores
from collectord.storage.filesystem.layout import Place, place_of
from collectord.storage.filesystem.mounted import cautions_at, mount_of, unsynced_by_syncfs
from collectord.storage.filesystem.space import refuse_full
from collectord.storage.filesystem.spill import StagedFile, StagingArea
from collectord.storage.filesystem.staging import Modes, StagingDirectory
from collectord.storage.filesystem.sweep import Swept, sweep
from collectord.storage.filesystem.sync import Sync, SyncFilesystem, sync_each
from collectord.storage.filesystem.transaction import CommitLatch, CrashTransaction

_SWEEP_AGAIN_S = 60.0
"""After a sweep that left something: what was open may be closed by then."""

_NO_LOCKS = "no locks work here: what an unclean stop leaves is swept only after a day"
_NO_DIRECTORY_SYNC = "directories can't be synced here: a power cut may lose crashes that were acknowledged"


@frozen(kw_only=True)
class FilesystemSettings:
    """
    Of one store.

    @ivar root: absolute path.
    @ivar min_free_bytes: with less the store counts as full.
    @ivar timeout: seconds that a crash may take.
    @ivar others: stores that this one must not be, by another path: their names, by their markers.
    @ivar whole_filesystem: sync all of it at once, instead of each file.
    @ivar threads: that spill dumps, and read them back, at the same time.
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
    done: Deferred[None]
    deadline: float


@implementer(ICrashStorage, IDumpStaging)
class FilesystemCrashStorage:
    """
    @ivar name: the root.
    @ivar staging_id: by which others know that they have the same root.
    @ivar cautions: what is not promised here, in plain sentences; known once it was checked.
    """

    _log = Logger()

    def __init__(self, settings: FilesystemSettings, call_from_thread: CallFromThread, clock: IReactorTime) -> None:
        self._clock = clock
        self._timeout = settings.timeout
        self.name = root = settings.root
        self._min_free_bytes = settings.min_free_bytes
        self._call_from_thread = call_from_thread
        self._others = settings.others
        self.cautions: Sequence[str] = ()
        self._capabilities: Capabilities | None = None
        identity = StoreIdentity(root, settings.known, settings.require_mount)
        self._directory = StagingDirectory(root, settings.modes, identity)
        self.staging_id = self._directory.staging_id
        self._workers = ThreadPool(f"spill {root}", settings.threads, call_from_thread)
        self._checker = ThreadPool(f"check {root}", 1, call_from_thread)
        # One at a time: a hung mount holds one thread, however often it is asked for.
        self._checked = SingleFlight(lambda: self._checker(self._check))
        self._glanced = SingleFlight(lambda: self._checker(self._glance))
        self._doubted = True  # what its file system can do is not known, or no longer
        self._prepared = SingleFlight(lambda: self._checker(self._prepare))
        self._sweep_at = -inf
        self._sweeps_told: set[str] = set()
        self._waiting: dict[CommitLatch, _Waiting] = {}
        self._timer: IDelayedCall | None = None
        self._hung_in = -1  # the round of the committing thread in which a crash was given up
        self._staging = StagingArea(self._directory, self._workers, self._refuse_full, self.doubt)
        self._whole = SyncFilesystem(root) if settings.whole_filesystem else None
        sync: Sync = ConfirmedSync(self._whole or sync_each, self._directory.refuse_other, identity.remember)
        self._commit = GroupCommit(root, self._directory, sync, self._refuse_full, self._on_resolved)

    @property
    def directory(self) -> StagingDirectory:
        """The staging directory of this process."""
        return self._directory

    def new_dump(self) -> StagedFile:
        return self._staging.new_dump()

    def owns(self, content: Content) -> bool:
        return self._staging.owns(content)

    async def is_shared_by(self, staging_ids: Sequence[str]) -> bool:
        return await self._staging.is_shared_by(staging_ids)

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
        latch = CommitLatch()
        done: Deferred[None] = Deferred(lambda done: self._abandon(latch, done))
        self._waiting[latch] = _Waiting(done, self._clock.seconds() + self._timeout)
        if self._timer is None:
            self._timer = self._clock.callLater(self._timeout, self._expire)
        self._commit.submit(CrashTransaction(crash, place, latch, existing))
        await done
        return self.name

    async def _look_at(self, place: Place) -> Existing:
        """What is there already; not on the committing thread, for it may be big, and others wait for that."""
        try:
            return await with_timeout(self._workers(partial(look_at, place)), self._timeout, self._clock, self.name)
        except OSError as e:
            raise StorageError(self._told(e)) from e

    def _abandon(self, latch: CommitLatch, done: Deferred[None]) -> None:
        latch.abandon()
        self._waiting.pop(latch, None)
        if latch.kept:  # a moment ago
            done.callback(None)

    def _expire(self) -> None:
        """Give up the crashes that wait too long. One timer serves all: they wait in the order of their deadlines."""
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
                waiting.done.errback(StoreTimeout(f"{self.name}: nothing for {self._timeout:g} s"))

    def _on_resolved(self, group: Outcomes) -> None:
        self._call_from_thread(self._tell, group)

    def _tell(self, group: Outcomes) -> None:
        for latch, error in group:
            waiting = self._waiting.pop(latch, None)
            if waiting is None:
                continue
            if error is None:
                waiting.done.callback(None)
            else:
                self.doubt()
                kind = CrashRejectedByStore if isinstance(error, NotAsReceived) else StorageError
                waiting.done.errback(kind(self._told(error)))

    def doubt(self) -> None:
        """Something failed here: the next check finds out anew what its file system can do."""
        self._doubted = True

    async def check(self) -> Mapping[str, int]:
        if self._hung_in == self._commit.rounds:  # a probe that passes would send more crashes after it
            raise StorageError(f"{self.name}: its committing thread hangs")
        try:
            free = await self._checked()
            return {} if free is None else {"free_bytes": free}
        except OSError as e:
            raise StorageError(self._told(e)) from e

    async def prepare(self) -> None:
        """
        Return once crashes can be moved out of it, which a store that is full needs most.

        @raise StorageError: they can't.
        """
        try:
            await self._prepared()
        except OSError as e:
            raise StorageError(self._told(e)) from e

    def _prepare(self) -> None:
        """Make the staging area where it is missing, and see that it is no other store's; on a thread of its own."""
        try:
            self._directory.make()
        except OSError as e:
            if e.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self._sweep()  # it may be what an unclean stop left that fills it
            self._directory.make()
        if self._whole is not None:
            self._whole.watch()
        self._refuse_itself()

    def _refuse_itself(self) -> None:
        """
        What is moved from a store to the same one by another path would be taken for there already, and be removed.

        It shows as soon as the other one has its staging area, so before anything is moved out of that.
        """
        for staging_id, name in self._others.items():
            if self._directory.is_shared_by(staging_id):
                raise OSError(errno.EINVAL, f"this is the store {name}, by another path")

    def _check(self) -> int | None:
        """Prepare it, and try it; on the same thread."""
        try:
            return self._try_out()
        except BaseException:
            self.doubt()
            raise

    def _try_out(self) -> int | None:
        if self._doubted:
            self._caution()
        self._prepare()
        if self._clock.seconds() >= self._sweep_at:
            self._sweep()
        free = self._refuse_full()
        if self._doubted:
            self._doubted = False
            self._get_to_know()
        else:
            try_out(self._directory.path, self._directory.capabilities)
        return free

    def _get_to_know(self) -> None:
        if self._whole is not None and (problem := unsynced_by_syncfs(mount_of(self.name))):
            raise OSError(errno.EINVAL, problem)
        found = probe(self._directory.path, self._capabilities)
        if found != self._capabilities and found.missing:
            self._log.info("{store}: it does without {missing}", store=self.name, missing=", ".join(found.missing))
        self._capabilities = self._directory.capabilities = found
        self._caution()

    def _caution(self) -> None:
        """Say what is not promised here; of a store that can't be used, too."""
        cautions = [*cautions_at(self.name)]
        if self._capabilities is not None and not self._capabilities.directory_sync:
            cautions.append(_NO_DIRECTORY_SYNC)
        if not self._directory.peers.locks:
            cautions.append(_NO_LOCKS)
        for caution in cautions:
            if caution not in self.cautions:
                self._log.warn("{store}: {caution}", store=self.name, caution=caution)
        self.cautions = cautions

    def _sweep(self) -> None:
        """Clear what others left; what can't be cleared costs space and no more."""
        try:
            swept = sweep(self._directory)
        except OSError as e:
            swept = Swept(0, [e])
        self._sweep_at = self._clock.seconds() + _SWEEP_AGAIN_S if swept.failed else inf
        if swept.files:
            self._log.warn(
                "{store}: swept what an unclean stop left: {files} files", store=self.name, files=swept.files
            )
        for crash_id in swept.crashes:
            self._log.info(
                "{crash_id}: its rest is removed from {store}: it was not acknowledged, or was moved, when that was "
                "cut off",
                crash_id=crash_id,
                store=self.name,
            )
        for error in swept.failed:
            self._sweep_failed("what an unclean stop left could not be swept", error)

    def _remove_staging(self) -> None:
        # Until then others have to see there what may be undone.
        self._commit.wait_until_closed()
        if self._whole is not None:
            self._whole.close()
        try:
            self._directory.remove()
        except OSError as e:
            self._sweep_failed("the staging directory could not be removed; the next start tries again", e)

    def _sweep_failed(self, what: str, error: OSError) -> None:
        SWEEP_FAILURES.labels(self.name).inc()
        if (why := self._told(error)) not in self._sweeps_told:
            self._sweeps_told.add(why)
            self._log.warn("{what}: {why}", what=what, why=why)

    async def glance(self) -> None:
        """
        Look whether it is full, read-only or away. Unlike L{check} it writes nothing.

        @raise StorageError: it is.
        """
        try:
            await self._glanced()
        except OSError as e:
            raise StorageError(self._told(e)) from e

    def _glance(self) -> None:
        self._refuse_full()
        found = os.statvfs(self._directory.path)
        if found.f_flag & os.ST_RDONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        if found.f_blocks and not found.f_bavail:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _told(self, error: OSError) -> str:
        what = error.strerror or str(error)
        where = "" if error.filename in (None, self.name) else f" ({error.filename})"
        return f"{self.name}: {what}{where}"

    def _refuse_full(self) -> int | None:
        self._directory.refuse_other()
        self._refuse_itself()
        return refuse_full(self.name, self._min_free_bytes)
