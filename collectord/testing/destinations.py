"""
The contract of every destination, as tests.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress

import pytest
import pytest_twisted  # type: ignore[import-untyped]
from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred

from collectord.concurrency.tasks import gather
from collectord.errors import StorageError
from collectord.interfaces import ICrashStorage
from collectord.model import RawCrash
from collectord.testing.crashes import DUMPS, make_crash
from collectord.testing.leaks import assert_nothing_is_left, held_now
from collectord.testing.running import assert_implements, assert_raises, in_reactor

_CHECKED = "check() returns a mapping of figures, which are integers, such as {'free_bytes': 1}; it may be empty"
_WHOLE = "save() has returned, so a reader sees the crash whole: its raw crash, and every dump, byte by byte"
_AGAIN = "a crash may be saved more than once; the destination then keeps one crash of this id, whole"


@frozen
class Kept:
    """
    What a destination keeps of a crash.

    @ivar dumps: the bytes of the dumps, by their names.
    """

    raw_crash: RawCrash
    dumps: Mapping[str, bytes]


@frozen
class Destination:
    """
    The destination to test, as the author of the tests describes it.

    @ivar make: makes a storage with the settings to test. It is called several times, as reloads do; all storages lead
        to the same place, which is empty at first. The tests close them.
    @ivar kept: returns what that place keeps of the crash with an id, as readers of crashes see it; None if there is no
        crash with that id.
    @ivar streams: whether it reads dumps by C{Content.chunks}, so that an error in the middle of one can be tested.
    @ivar unreachable: makes a storage that can't keep anything, such as one whose server is not there; None if the
        destination is always there.
    """

    make: Callable[[], ICrashStorage]
    kept: Callable[[str], Awaitable[Kept | None]]
    streams: bool = True
    unreachable: Callable[[], ICrashStorage] | None = None


class DestinationContract:
    """
    The tests that every destination has to pass.

    Make a subclass for your destination, and override the fixture C{destination} in it.
    """

    @pytest.fixture
    def destination(self) -> Destination:
        """The destination to test."""
        raise NotImplementedError(
            "override the fixture 'destination' in your subclass of DestinationContract: it returns"
            " collectord.testing.Destination(make=…, kept=…), see docs/plugins.rst"
        )

    @pytest.fixture
    def storage(self, destination: Destination) -> Iterator[ICrashStorage]:
        """Make one storage, and close it at the end of the test."""
        storage = destination.make()
        yield storage
        pytest_twisted.blockon(Deferred.fromCoroutine(storage.close()))

    @in_reactor
    async def test_interface(self, storage: ICrashStorage) -> None:
        assert_implements(ICrashStorage, storage)

    @in_reactor
    async def test_check(self, storage: ICrashStorage) -> None:
        for _ in range(2):
            figures = await storage.check()
            assert isinstance(figures, Mapping), f"{_CHECKED}. It returned {figures!r}."
            assert all(isinstance(value, int) for value in figures.values()), f"{_CHECKED}. It returned {figures!r}."

    @in_reactor
    async def test_a_crash_is_kept_whole(self, destination: Destination, storage: ICrashStorage) -> None:
        await storage.check()
        crash = make_crash(Comment='"ü\n\u2028💥', Empty="")
        where = await storage.save(crash)
        assert isinstance(where, str), f"save() returns the name of the store that keeps the crash, not {where!r}"
        assert await destination.kept(crash.crash_id) == Kept(crash.raw_crash, DUMPS), _WHOLE

    @in_reactor
    async def test_no_dumps(self, destination: Destination, storage: ICrashStorage) -> None:
        await storage.check()
        crash = make_crash(dumps={})
        await storage.save(crash)
        assert await destination.kept(crash.crash_id) == Kept(crash.raw_crash, {}), _WHOLE

    @in_reactor
    async def test_odd_dumps(self, destination: Destination, storage: ICrashStorage) -> None:
        await storage.check()
        dumps = {"upload_file_minidump": b"", "x": b"\0\r\n--\xff" * 1000, "a" * 30: bytes(range(256)) * 20_000}
        crash = make_crash(dumps=dumps)
        await storage.save(crash)
        assert await destination.kept(crash.crash_id) == Kept(crash.raw_crash, dumps), _WHOLE

    @in_reactor
    async def test_once_more_does_no_harm(self, destination: Destination, storage: ICrashStorage) -> None:
        await storage.check()
        crash = make_crash()
        for _ in range(3):
            await storage.save(crash)
        assert await destination.kept(crash.crash_id) == Kept(crash.raw_crash, DUMPS), _AGAIN

    @in_reactor
    async def test_many_at_once(self, destination: Destination, storage: ICrashStorage) -> None:
        await storage.check()
        crashes = [make_crash(Number=str(number)) for number in range(20)]
        await gather(storage.save(crash) for crash in crashes)
        for crash in crashes:
            assert await destination.kept(crash.crash_id) == Kept(crash.raw_crash, DUMPS), _WHOLE

    @in_reactor
    async def test_cancelled_it_is_whole_or_absent_and_can_be_saved_again(
        self, destination: Destination, storage: ICrashStorage
    ) -> None:
        await storage.check()
        crash = make_crash(dumps={"upload_file_minidump": b"MDMP" * 500_000})
        saving = Deferred.fromCoroutine(storage.save(crash))
        saving.cancel()
        with suppress(CancelledError, StorageError):
            await saving
        assert await destination.kept(crash.crash_id) in (
            None,
            Kept(crash.raw_crash, {"upload_file_minidump": b"MDMP" * 500_000}),
        ), "a reader sees a crash whose save() was cancelled whole, or not at all: write last what readers look for"
        await storage.save(crash)
        assert await destination.kept(crash.crash_id) is not None, _AGAIN

    @in_reactor
    async def test_a_dump_that_can_t_be_read_keeps_nothing(
        self, destination: Destination, storage: ICrashStorage
    ) -> None:
        if not destination.streams:
            pytest.skip("it reads no chunks")
        await storage.check()
        crash = make_crash(torn="upload_file_minidump")
        await assert_raises(StorageError, storage.save(crash), "chunks() raises StorageError, and save() lets it pass")
        assert await destination.kept(crash.crash_id) is None, (
            "a reader sees nothing of a crash whose save() has failed: write last what readers look for"
        )

    @in_reactor
    async def test_unreachable(self, destination: Destination) -> None:
        if destination.unreachable is None:
            pytest.skip("it is always there")
        unreachable = destination.unreachable()
        promise = "of a destination that can't be reached, {}() raises StorageError, with a text for the operator"
        await assert_raises(StorageError, unreachable.check(), promise.format("check"))
        await assert_raises(StorageError, unreachable.save(make_crash()), promise.format("save"))
        await unreachable.close()

    @in_reactor
    async def test_closed_twice(self, storage: ICrashStorage) -> None:
        await storage.close()
        await storage.close()

    @in_reactor
    async def test_closed_it_leaves_no_thread_and_no_open_file(self, destination: Destination) -> None:
        async def use_one() -> None:
            storage = destination.make()
            await storage.check()
            await storage.save(make_crash())
            await storage.close()

        await use_one()  # what is made once in a process, and stays, is there now
        before = held_now()
        for _ in range(3):
            await use_one()
        await assert_nothing_is_left(before)
