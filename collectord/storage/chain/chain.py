"""
A chain of stores: a crash that one store fails to save is saved, all of it, in the next one.

The stores are tried in order. The breaker of a store that keeps failing opens, and the store is skipped at no cost,
until a probe, which is made every second, finds it healthy again. If all stores fail, the crash waits, and all of them
are tried again: see L{collectord.storage.chain.waitingroom}.
"""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NoReturn, TypeVar
from weakref import WeakSet

from attrs import evolve
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from collectord.concurrency.tasks import gather
from collectord.concurrency.timeouts import with_timeout
from collectord.errors import AllStoresFailed, CrashRejectedByStore, StorageError, TimedOut
from collectord.interfaces import ICrashStorage, IDumpStaging, IStagedDump
from collectord.metrics import BROKEN_COPIES, STORE_FAILURES
from collectord.model import Content, Crash, Dump
from collectord.storage.chain.backend import CHECK_S, Backend, BackendState
from collectord.storage.chain.pressure import ChainPressure
from collectord.storage.chain.staged import FallbackStagedDump, UploadStaging
from collectord.storage.chain.waitingroom import Waiter, WaitingRoom

T = TypeVar("T")

_CHECK_EVERY = 10
"""One in so many probes of a healthy store is a full check; the others are quick checks."""


@implementer(ICrashStorage, IDumpStaging)
class FallbackCrashStorage:
    """
    This store saves each crash in the first store of a chain that can, and spills dumps to it in the same way.

    All of it runs on the reactor thread.

    @param backends: the stores in order, the primary first.
    @ivar waiting_room: where crashes wait when all stores have failed.
    @ivar pressure: whether the stores are nearly full.
    @ivar doubtful: spilled dumps whose sync may have failed. They have to be read back, compared with their checksum
        and copied to new files; they can't be kept as they are.
    """

    _log = Logger()

    def __init__(self, backends: Sequence[Backend], clock: IReactorTime, waiting_room: WaitingRoom) -> None:
        self.backends = backends
        self.name = " or ".join(backend.name for backend in backends)
        self.waiting_room = waiting_room
        self.pressure = ChainPressure(backends)
        self._clock = clock
        self.doubtful: WeakSet[Content] = WeakSet()

    @property
    def takes_crashes(self) -> bool:
        """Whether some store can save crashes, as far as is known without trying one now."""
        # A store may pass every probe and fail with every crash, so refusals count as well.
        return not all(backend.breaker.open for backend in self.backends) and not self.waiting_room.refuses

    async def save(self, crash: Crash) -> str:
        """
        Save C{crash} in the first store that can: see L{ICrashStorage.save}.

        @raise AllStoresFailed: every store failed, for as long as they were tried.
        """
        began = self._clock.seconds() if crash.began is None else crash.began
        return await self.first_available(lambda backend: self._save(backend, crash), self._waiter(crash.dumps, began))

    def _waiter(self, dumps: Sequence[Dump], began: float) -> Waiter:
        return Waiter(began, lambda: sum(dump.size for dump in dumps if not self.owns(dump.content)))

    @contextmanager
    def waiting(self, dumps: Sequence[Dump], began: float) -> Iterator[Callable[[float], Awaitable[bool]]]:
        """
        Let a report wait for something else than a store, by the same rules, as a context manager.

        @param began: when its client began to send it.

        @return: a function that waits for so many seconds at most, and returns whether it was allowed to.
        """
        waiter = self._waiter(dumps, began)
        try:
            yield partial(self.waiting_room.pause, waiter)
        finally:
            self.waiting_room.leave(waiter)

    async def _save(self, backend: Backend, crash: Crash) -> str:
        spilled = [dump.content for dump in crash.dumps if self.owns(dump.content)]
        if not spilled:
            return await backend.storage.save(crash)
        copies: list[IStagedDump] = []
        try:
            dumps = [await self._copy_into(backend, dump, copies) for dump in crash.dumps]
            # If this save fails, a sync may have failed: then the dumps are not on the disk, though they can be read.
            self.doubtful.update(spilled)
            return await backend.storage.save(evolve(crash, dumps=dumps))
        finally:
            for copy in copies:
                copy.discard()

    async def _copy_into(self, backend: Backend, dump: Dump, copies: list[IStagedDump]) -> Dump:
        """
        Copy C{dump} to the store C{backend} if it was spilled to another one, or if it is doubtful; else return it.

        @param copies: gets the copy, which the caller has to discard in the end.

        @raise AllStoresFailed: the spilled dump no longer has the content that was received.
        """
        content = dump.content
        if not self.owns(content) or (backend.staging.owns(content) and content not in self.doubtful):
            return dump
        copy = backend.staging.new_dump()
        copies.append(copy)
        digest = hashlib.sha256()
        async for piece in self.read_spilled(content):
            digest.update(piece)
            await self.timed(backend, copy.append([piece]))
        if digest.hexdigest() != dump.sha256:
            self._refuse(dump, digest.hexdigest())
        return evolve(dump, content=copy.content())

    def _refuse(self, dump: Dump, found: str) -> NoReturn:
        home = self._home(dump.content)
        BROKEN_COPIES.labels(home.name).inc()
        why = f"what was spilled to {home.name} has the checksum {found}; it was received with {dump.sha256}"
        self._log.error("the dump {name} is lost, and its crash refused: {why}", name=dump.name, why=why)
        raise AllStoresFailed(why)

    async def check(self) -> Mapping[str, int]:
        states = await self.check_each()
        if all(state.problem for state in states):
            raise StorageError("; ".join(state.problem for state in states))
        return {"stores": len(states), "healthy": sum(not state.problem for state in states)}

    async def check_each(self) -> list[BackendState]:
        """Check all stores at the same time, and open or close their breakers by what is found."""
        return await gather(self._check(backend) for backend in self.backends)

    async def _check(self, backend: Backend) -> BackendState:
        try:
            figures = await self.timed(backend, backend.storage.check(), CHECK_S)
        except StorageError as e:
            self._open_breaker(backend, e, fatal=True)
            return BackendState(backend.name, str(e), {}, backend.cautions())
        self.pressure.note(backend, figures.get("free_bytes"))
        if backend.breaker.succeeded():
            self._log.info("{store} works again", store=backend.name)
        return BackendState(backend.name, "", figures, backend.cautions())

    async def probe_backend(self, backend: Backend, times: int) -> None:
        """
        Find out whether a store whose breaker is open is healthy again, or whether a healthy one has begun to fail.

        @param times: how often the store was probed before.
        """
        if backend.breaker.open or times % _CHECK_EVERY == _CHECK_EVERY - 1:
            await self._check(backend)
        elif backend.quick_check is not None:
            try:
                free = await self.timed(backend, backend.quick_check(), CHECK_S)
            except StorageError as e:
                self._open_breaker(backend, e, fatal=True)
            else:
                self.pressure.note(backend, free)

    async def probe(self) -> None:
        """Check all stores whose breakers are open."""
        await gather(self._check(backend) for backend in self.backends if backend.breaker.open)

    async def close(self) -> None:
        await gather(backend.storage.close() for backend in self.backends)

    def new_dump(self) -> IStagedDump:
        return FallbackStagedDump(self, self._clock.seconds())

    def staging_for(self, began: float) -> IDumpStaging:
        """Return a staging area for the dumps of one upload, whose client began to send it at this time."""
        return UploadStaging(self, began)

    def owns(self, content: Content) -> bool:
        return any(backend.staging.owns(content) for backend in self.backends)

    async def is_shared_by(self, staging_ids: Sequence[str]) -> bool:
        return any(
            await gather(
                self.timed(backend, backend.staging.is_shared_by(staging_ids), CHECK_S)
                for backend in self.backends
                if not backend.breaker.open
            )
        )

    async def has(self, crash_id: str) -> bool:
        """Tell whether a crash is in one of the stores. It is not if it is in one that does not work now."""
        for backend in (*self.backends, self.backends[0]):  # it may move home to the primary meanwhile
            if backend.has is not None and not backend.breaker.open:
                try:
                    if await self.timed(backend, backend.has(crash_id), CHECK_S):
                        return True
                except StorageError as e:
                    self._log.warn("it is not known whether {crash_id} is there: {why}", crash_id=crash_id, why=str(e))
        return False

    async def was_erased(self, crash_id: str) -> bool:
        """Tell whether a crash was erased lately; also if that can't be found out, since a store does not work."""
        for backend in self.backends:
            if backend.was_erased is None:
                continue
            try:
                if backend.breaker.open or await self.timed(backend, backend.was_erased(crash_id), CHECK_S):
                    return True
            except StorageError as e:
                self._log.warn("it is not known whether {crash_id} was erased: {why}", crash_id=crash_id, why=str(e))
                return True
        return False

    async def wait_for_discards(self) -> None:
        await gather(backend.staging.wait_for_discards() for backend in self.backends)

    async def read_spilled(self, content: Content) -> AsyncIterator[bytes]:
        """
        Read a spilled dump back, in pieces. Its store may have failed since.

        @raise AllStoresFailed: the dump can't be read, or not in time.
        """
        home = self._home(content)
        pieces = content.chunks()
        while True:
            try:
                piece = await self.timed(home, anext(pieces, None))
            except StorageError as e:
                raise AllStoresFailed(f"what was spilled to {home.name} can't be read back") from e
            if piece is None:
                return
            yield piece

    def _home(self, content: Content) -> Backend:
        """Return the store that C{content} was spilled to."""
        return next(backend for backend in self.backends if backend.staging.owns(content))

    async def first_available(self, act: Callable[[Backend], Awaitable[T]], waiter: Waiter) -> T:
        """
        Call C{act} with each store in turn until one succeeds, and return the result.

        Stores whose breakers are open are skipped. If all fail, all are tried again after a pause.

        @param waiter: decides how long all are tried again.

        @raise AllStoresFailed: every store failed, for as long as they were tried.
        """
        try:
            while True:
                for backend in self.backends:
                    if backend.breaker.open:
                        continue
                    try:
                        done = await act(backend)
                    except AllStoresFailed:  # a dump is lost, which is not the fault of this store
                        raise
                    except StorageError as e:
                        self.failed(backend, e)
                    else:
                        backend.breaker.succeeded()
                        self.waiting_room.succeeded()
                        return done
                await self.waiting_room.wait(waiter)
        finally:
            self.waiting_room.leave(waiter)

    def failed(self, backend: Backend, error: StorageError) -> None:
        """Count and log that C{backend} has failed with a crash or a spilled dump; this may open its breaker."""
        STORE_FAILURES.labels(backend.name).inc()
        self._log.error("a store failed: {why}", why=str(error))
        if not isinstance(error, CrashRejectedByStore):  # the store works, and other crashes may use it
            self._open_breaker(backend, error, fatal=isinstance(error, TimedOut))

    def _open_breaker(self, backend: Backend, error: StorageError, *, fatal: bool) -> None:
        """Note a failure, and log it if the breaker opens: if the failure is fatal, or one of several in a row."""
        if not backend.breaker.failed(fatal=fatal):
            return
        why = str(error).removeprefix(f"{backend.name}: ")
        self._log.error("{store} is not used until it works again; last: {why}", store=backend.name, why=why)

    async def timed(self, backend: Backend, work: Awaitable[T], seconds: float | None = None) -> T:
        """
        Wait for C{work} of a store, within the time limit of the store.

        @param seconds: another time limit.

        @raise TimedOut: it took longer, and was cancelled.
        """
        return await with_timeout(work, seconds or backend.timeout, self._clock, backend.name)
