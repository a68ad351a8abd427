"""
What every destination promises.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import pytest
from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from zope.interface.verify import verifyObject

from collectord.errors import StorageError
from collectord.interfaces import ICrashStorage
from collectord.model import RawCrash
from collectord.testing.crashes import DUMPS, make_crash
from collectord.testing.running import in_reactor


@frozen
class Kept:
    """What a destination keeps of a crash."""

    raw_crash: RawCrash
    dumps: Mapping[str, bytes]


@frozen
class Destination:
    """
    @ivar storage: what is tested; nothing is in it.
    @ivar kept: what it keeps of the crash of an id; None where it keeps no crash of that id. Who reads crashes has to
        see the same.
    @ivar streams: it reads dumps by C{Content.chunks}, and so meets an error in the middle of one.
    @ivar unreachable: one like it that can't keep anything; None: there is no such thing.
    """

    storage: ICrashStorage
    kept: Callable[[str], Awaitable[Kept | None]]
    streams: bool = True
    unreachable: ICrashStorage | None = None


class DestinationContract:
    """To be subclassed, with a fixture C{destination}."""

    @pytest.fixture
    def destination(self) -> Destination:
        raise NotImplementedError

    @in_reactor
    async def test_interface(self, destination: Destination) -> None:
        verifyObject(ICrashStorage, destination.storage)
        assert isinstance(destination.storage.name, str)

    @in_reactor
    async def test_check(self, destination: Destination) -> None:
        for _ in range(2):
            assert all(isinstance(value, int) for value in (await destination.storage.check()).values())

    @in_reactor
    async def test_a_crash_is_kept_whole(self, destination: Destination) -> None:
        await destination.storage.check()
        crash = make_crash(Comment='"ü\n\u2028💥', Empty="")
        assert await destination.storage.save(crash)
        assert await destination.kept(crash.crash_id) == Kept(crash.raw_crash, DUMPS)

    @in_reactor
    async def test_no_dumps(self, destination: Destination) -> None:
        await destination.storage.check()
        crash = make_crash(dumps={})
        await destination.storage.save(crash)
        assert await destination.kept(crash.crash_id) == Kept(crash.raw_crash, {})

    @in_reactor
    async def test_odd_dumps(self, destination: Destination) -> None:
        await destination.storage.check()
        dumps = {"upload_file_minidump": b"", "x": b"\0\r\n--\xff" * 1000, "a" * 30: bytes(range(256)) * 20_000}
        crash = make_crash(dumps=dumps)
        await destination.storage.save(crash)
        assert await destination.kept(crash.crash_id) == Kept(crash.raw_crash, dumps)

    @in_reactor
    async def test_once_more_does_no_harm(self, destination: Destination) -> None:
        await destination.storage.check()
        crash = make_crash()
        for _ in range(3):
            await destination.storage.save(crash)
        assert await destination.kept(crash.crash_id) == Kept(crash.raw_crash, DUMPS)

    @in_reactor
    async def test_many_at_once(self, destination: Destination) -> None:
        await destination.storage.check()
        crashes = [make_crash(Number=str(number)) for number in range(20)]
        await gatherResults(
            [Deferred.fromCoroutine(destination.storage.save(crash)) for crash in crashes], consumeErrors=True
        )
        for crash in crashes:
            assert await destination.kept(crash.crash_id) == Kept(crash.raw_crash, DUMPS)

    @in_reactor
    async def test_cancelled_it_is_whole_or_absent_and_can_be_saved_again(self, destination: Destination) -> None:
        await destination.storage.check()
        crash = make_crash(dumps={"upload_file_minidump": b"MDMP" * 500_000})
        saving = Deferred.fromCoroutine(destination.storage.save(crash))
        saving.cancel()
        with suppress(CancelledError, StorageError):
            await saving
        assert await destination.kept(crash.crash_id) in (
            None,
            Kept(crash.raw_crash, {"upload_file_minidump": b"MDMP" * 500_000}),
        )
        await destination.storage.save(crash)
        assert await destination.kept(crash.crash_id) is not None

    @in_reactor
    async def test_a_dump_that_can_t_be_read_keeps_nothing(self, destination: Destination) -> None:
        if not destination.streams:
            pytest.skip("it reads no chunks")
        await destination.storage.check()
        crash = make_crash(torn="upload_file_minidump")
        with pytest.raises(StorageError):
            await destination.storage.save(crash)
        assert await destination.kept(crash.crash_id) is None

    @in_reactor
    async def test_unreachable(self, destination: Destination) -> None:
        if destination.unreachable is None:
            pytest.skip("it is always there")
        with pytest.raises(StorageError):
            await destination.unreachable.check()
        with pytest.raises(StorageError):
            await destination.unreachable.save(make_crash())
