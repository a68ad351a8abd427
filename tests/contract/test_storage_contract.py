"""
What every store promises: in memory, on a file system, and a chain of either.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from collectord.errors import StorageError
from collectord.interfaces import ICrashStorage, IDumpStaging, IStagedDump
from collectord.model import MINIDUMP, InMemory
from collectord.storage.chain.backend import Backend
from collectord.storage.chain.chain import FallbackCrashStorage
from collectord.storage.chain.waitingroom import WaitingRoom
from collectord.storage.filesystem.store import FilesystemCrashStorage
from collectord.testing.memory import MemoryCrashStorage
from tests.support.disk import StoredCrash, problems, stored_crashes
from tests.unit.storage.stores import (
    CRASH_ID,
    DUMPS,
    NEIGHBOUR,
    STRANGER,
    bytes_of,
    everything,
    in_reactor,
    make_crash,
    make_store,
    spilling_done,
    started,
)

pytestmark = pytest.mark.timeout(60)


@frozen
class Subject:
    """
    A store, and a way to look into it.

    @ivar kept: what lies in it.
    @ivar until_idle: waits until nothing is under way in it any more.
    @ivar left_over: what lies in it that is no part of a crash.
    """

    name: str
    storage: Any
    kept: Callable[[], Awaitable[Mapping[str, StoredCrash]]]
    until_idle: Callable[[], Awaitable[object]]
    left_over: Callable[[], list[str]]


def memory(store: MemoryCrashStorage) -> Subject:
    async def kept() -> Mapping[str, StoredCrash]:
        return {
            crash_id: StoredCrash(crash.raw_crash, {dump.name: await bytes_of(dump.content) for dump in crash.dumps})
            for crash_id, crash in store.crashes.items()
        }

    async def until_idle() -> None:
        pass

    return Subject(store.name, store, kept, until_idle, list)


def filesystem(store: FilesystemCrashStorage) -> Subject:
    root = Path(store.name)

    async def kept() -> Mapping[str, StoredCrash]:
        return stored_crashes(root)

    async def until_idle() -> None:
        await store.save(make_crash(STRANGER))  # one thread commits in the order in which they came
        for path in everything(root):
            if STRANGER in path:
                (root / path).unlink()
        await spilling_done(store)

    return Subject(store.name, store, kept, until_idle, lambda: problems(root))


def chained(first: Subject, second: Subject) -> Subject:
    backends = [Backend(name=s.name, storage=s.storage, staging=s.storage, timeout=10.0) for s in (first, second)]
    clock = Clock()
    chain = FallbackCrashStorage(backends, clock, WaitingRoom(clock, seconds=10.0, limit=0))
    return Subject(first.name, chain, first.kept, first.until_idle, first.left_over)


STORES: dict[str, Callable[[Path], Subject]] = {
    "memory": lambda path: memory(MemoryCrashStorage()),
    "files": lambda path: filesystem(make_store(path / "one")),
    "whole file system": lambda path: filesystem(make_store(path / "one", whole_filesystem=True)),
    "chain of memory": lambda path: chained(memory(MemoryCrashStorage("one")), memory(MemoryCrashStorage("two"))),
    "chain of files": lambda path: chained(filesystem(make_store(path / "one")), filesystem(make_store(path / "two"))),
}


@pytest.fixture(params=STORES)
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Subject:
    return STORES[request.param](tmp_path)


@in_reactor
async def test_interfaces(subject: Subject) -> None:
    verifyObject(ICrashStorage, subject.storage)
    verifyObject(IDumpStaging, subject.storage)
    verifyObject(IStagedDump, subject.storage.new_dump())


@in_reactor
async def test_check(subject: Subject) -> None:
    for _ in range(2):
        figures = await subject.storage.check()
        assert all(isinstance(name, str) and isinstance(figure, int) for name, figure in figures.items())
    assert await subject.kept() == {}
    assert subject.left_over() == []


@in_reactor
async def test_what_is_kept_is_exactly_the_crash(subject: Subject) -> None:
    await subject.storage.check()
    crash = make_crash(Comment="\u00fc \U0001f4a5 \"'\\", Empty="")
    assert await subject.storage.save(crash) == subject.name
    assert await subject.kept() == {CRASH_ID: StoredCrash(crash.raw_crash, DUMPS)}
    assert subject.left_over() == []


@pytest.mark.parametrize("dumps", [{}, {MINIDUMP: b""}, {f"attachment_{n}": b"%d" % n for n in range(20)}])
@in_reactor
async def test_any_number_of_dumps(subject: Subject, dumps: Mapping[str, bytes]) -> None:
    await subject.storage.check()
    await subject.storage.save(make_crash(dumps=dumps))
    assert (await subject.kept())[CRASH_ID].dumps == dumps
    assert subject.left_over() == []


@in_reactor
async def test_many_at_once(subject: Subject) -> None:
    await subject.storage.check()
    dumps = {f"{n:04x}{CRASH_ID[4:]}": {MINIDUMP: b"%d" % n} for n in range(50)}
    saves = [started(subject.storage.save(make_crash(crash_id, dumps[crash_id]))) for crash_id in dumps]
    assert await gatherResults(saves) == [subject.name] * 50
    assert {crash_id: crash.dumps for crash_id, crash in (await subject.kept()).items()} == dumps
    assert subject.left_over() == []


@in_reactor
async def test_a_spilled_dump_is_kept(subject: Subject) -> None:
    await subject.storage.check()
    dump = subject.storage.new_dump()
    big = bytes(range(256)) * 5000
    for pieces in ([b"one ", b"two "], [b"three "], [big]):
        await dump.append(pieces)
    content = b"one two three " + big
    assert subject.storage.owns(dump.content())
    assert await bytes_of(dump.content()) == content
    dumps = {"small": b"in memory", MINIDUMP: content}
    assert await subject.storage.save(make_crash(dumps=dumps, places={MINIDUMP: dump.content()})) == subject.name
    dump.discard()
    await subject.until_idle()
    assert (await subject.kept())[CRASH_ID].dumps == dumps
    assert subject.left_over() == []


@in_reactor
async def test_it_holds_its_own_only(subject: Subject) -> None:
    assert not subject.storage.owns(InMemory([b"x"]))
    assert not subject.storage.owns(MemoryCrashStorage().new_dump().content())


@in_reactor
async def test_discard_leaves_nothing(subject: Subject) -> None:
    await subject.storage.check()
    untouched, appended, waiting = (subject.storage.new_dump() for _ in range(3))
    await appended.append([b"one"])
    await waiting.append([b"one"])
    late = started(waiting.append([b"two"]))
    for dump in (untouched, appended, waiting, appended):
        dump.discard()
    with suppress(StorageError):  # there may be no place for it any more
        await late
    await subject.until_idle()
    assert subject.left_over() == []
    assert await subject.kept() == {}


@pytest.mark.parametrize("spilled", [False, True])
@in_reactor
async def test_cancelled(subject: Subject, spilled: bool) -> None:
    """It was kept already, or nothing of it is left."""
    await subject.storage.check()
    dump = subject.storage.new_dump()
    await dump.append([b"spilled"])
    crash = make_crash(
        dumps={"small": b"in memory", MINIDUMP: b"spilled"}, places={MINIDUMP: dump.content()} if spilled else {}
    )
    saving: Deferred[str] = started(subject.storage.save(crash))
    saving.cancel()
    try:
        kept = await saving == subject.name
    except CancelledError:
        kept = False
    dump.discard()
    await subject.storage.save(make_crash(NEIGHBOUR))
    await subject.until_idle()
    assert (await subject.kept()).keys() == {NEIGHBOUR, *([CRASH_ID] if kept else [])}
    assert subject.left_over() == []
