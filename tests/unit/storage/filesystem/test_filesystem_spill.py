"""
Dumps that are spilled while they come: appended to, read back, and discarded, whatever comes in between.
"""

import os
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from threading import Semaphore
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent
from zope.interface.verify import verifyObject

from collectord.errors import StorageError
from collectord.interfaces import IDumpStaging, IStagedDump
from collectord.storage.filesystem.spill import StagedFile, StagingArea
from tests.unit.storage.stores import Rig, bytes_of, everything, failing, watched


@define(eq=False)
class ByHand:
    """Threads that do their work when they are told to."""

    waiting: list[tuple[Callable[[], Any], Deferred[Any]]] = field(factory=list)

    def __call__(self, work: Callable[[], Any], /) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.waiting.append((work, done))
        return done

    def turn(self, which: int = 0) -> None:
        """Do one of what waits, and tell."""
        work, done = self.waiting.pop(which)
        try:
            result = work()
        except OSError as error:
            done.errback(error)
        else:
            done.callback(result)


@pytest.fixture
def threads() -> ByHand:
    return ByHand()


@pytest.fixture(params=[0, 2], ids=["synced", "held"])
def area(rig: Rig, threads: ByHand, request: pytest.FixtureRequest) -> Iterator[StagingArea]:
    """Its dumps are synced by each append, or held open; in the end all are given back."""
    area = StagingArea(rig.staging, threads, lambda: 0, lambda: None, held=request.param)
    made: list[StagedFile] = []
    new_dump = area.new_dump

    def noted() -> StagedFile:
        made.append(new_dump())
        return made[-1]

    area.new_dump = noted  # type: ignore[method-assign]
    yield area
    for dump in made:
        dump.remove()
    assert left_in(area.to_hold) == request.param


def left_in(semaphore: Semaphore) -> int:
    """How often it can be acquired."""
    acquired = 0
    while semaphore.acquire(blocking=False):
        acquired += 1
    for _ in range(acquired):
        semaphore.release()
    return acquired


def append(dump: StagedFile, threads: ByHand, *pieces: bytes) -> None:
    done = Deferred.fromCoroutine(dump.append(pieces))
    threads.turn()
    assert done.called


def failure_of(work: Deferred[Any]) -> BaseException | None:
    failed: list[BaseException | None] = []
    work.addErrback(lambda failure: failed.append(failure.value))
    return failed[0] if failed else None


def test_interfaces(area: StagingArea) -> None:
    verifyObject(IDumpStaging, area)
    verifyObject(IStagedDump, area.new_dump())


def test_appended_and_read_back(area: StagingArea, threads: ByHand) -> None:
    dump = area.new_dump()
    big = os.urandom(2**20 + 1)
    for pieces in ([b"a", b"b"], [b"c"], [big, b"d"], []):
        append(dump, threads, *pieces)
    read = Deferred.fromCoroutine(bytes_of(dump.content()))
    for _ in range(2):
        threads.turn()
    assert read.result == b"abc" + big + b"d"
    assert max(map(len, pieces_of(dump, threads))) <= 2**20
    dump.discard()
    threads.turn()


def pieces_of(dump: StagedFile, threads: ByHand) -> list[bytes]:
    async def pieces() -> list[bytes]:
        return [piece async for piece in dump.chunks()]

    done = Deferred.fromCoroutine(pieces())
    while threads.waiting:
        threads.turn()
    assert isinstance(done.result, list)
    return done.result


def test_it_is_examined_on_a_thread(area: StagingArea, threads: ByHand) -> None:
    dump = area.new_dump()
    Deferred.fromCoroutine(dump.append([b"abc", b"def"]))
    threads.turn()
    examined = Deferred.fromCoroutine(dump.content().examine(lambda file: (file.read_at(2, 3), file.read_at(5, 9))))
    assert not examined.called
    threads.turn()
    assert examined.result == (b"cde", b"f")
    os.unlink(dump.path)
    gone = Deferred.fromCoroutine(dump.content().examine(lambda file: file.read_at(0, 1)))
    threads.turn()
    gone.addErrback(lambda failure: failure.trap(StorageError))
    assert gone.result is StorageError


def test_nothing_touches_the_disk_before_the_first_append(rig: Rig, area: StagingArea, threads: ByHand) -> None:
    with watched(rig.root, ["open", "unlink"], lambda seen, name, do: do()) as disk:
        dump = area.new_dump()
        assert pieces_of(dump, threads) == []
        dump.discard()
    assert (disk.seen, threads.waiting) == (0, [])


def test_it_holds_its_own(rig: Rig, area: StagingArea, threads: ByHand) -> None:
    dump = area.new_dump()
    assert area.owns(dump.content())
    assert not StagingArea(rig.staging, threads, lambda: 0, lambda: None).owns(dump.content())


def test_each_has_a_file_of_its_own(rig: Rig, area: StagingArea, threads: ByHand) -> None:
    dumps = [area.new_dump() for _ in range(3)]  # one more than are held
    for n, dump in enumerate(dumps):
        append(dump, threads, b"%d" % n)
    assert [pieces_of(dump, threads) for dump in dumps] == [[b"0"], [b"1"], [b"2"]]
    dumps[1].discard()
    threads.turn()
    assert pieces_of(dumps[2], threads) == [b"2"]
    assert len(everything(rig.root)) == 2


@pytest.mark.parametrize("operation", ["open", "writev", "close"])
def test_no_place_for_it(rig: Rig, area: StagingArea, threads: ByHand, operation: str) -> None:
    dump = area.new_dump()
    append(dump, threads, b"first")
    with failing(rig.root, operation, 1, OSError(28, "No space left on device")):
        done = Deferred.fromCoroutine(dump.append([b"second"]))
        threads.turn()
    error = failure_of(done)
    assert isinstance(error, StorageError)
    assert str(error) == f"{dump.path}: No space left on device"
    assert pieces_of(dump, threads) == [b"first"]  # so that the next store can have it
    dump.discard()
    threads.turn()
    assert everything(rig.root) == []


def test_a_store_that_counts_as_full(rig: Rig, threads: ByHand) -> None:
    def refuse_full() -> int:
        raise OSError(28, "min_free_bytes")

    dump = StagingArea(rig.staging, threads, refuse_full, lambda: None).new_dump()
    done = Deferred.fromCoroutine(dump.append([b"first"]))
    threads.turn()
    assert "min_free_bytes" in str(failure_of(done))
    assert everything(rig.root) == []


@pytest.mark.parametrize("left", [0, 1, 5, 2**20, 2**20 + 2])
def test_what_is_shorter_than_it_was_is_no_content(area: StagingArea, threads: ByHand, left: int) -> None:
    dump = area.new_dump()
    append(dump, threads, bytes(2**20 + 3))
    os.truncate(dump.path, left)
    read = Deferred.fromCoroutine(bytes_of(dump.content()))
    while threads.waiting:
        threads.turn()
    assert isinstance(failure_of(read), StorageError)


def test_what_is_gone_is_no_content(area: StagingArea, threads: ByHand) -> None:
    dump = area.new_dump()
    append(dump, threads, b"first")
    os.unlink(dump.path)
    read = Deferred.fromCoroutine(bytes_of(dump.content()))
    threads.turn()
    assert isinstance(failure_of(read), StorageError)


def test_half_an_append_is_not_read_back(rig: Rig, area: StagingArea, threads: ByHand) -> None:
    dump = area.new_dump()
    append(dump, threads, b"first")
    late = Deferred.fromCoroutine(dump.append([b"second"]))
    late.cancel()
    threads.turn()
    failure_of(late)
    assert Path(dump.path).read_bytes() == b"firstsecond"
    assert pieces_of(dump, threads) == [b"first"]


# Discarding.


@pytest.mark.parametrize("order", [(0, 0), (1, 0)], ids=["append first", "discard first"])
def test_discarded_while_an_append_waits(rig: Rig, area: StagingArea, threads: ByHand, order: tuple[int, int]) -> None:
    dump = area.new_dump()
    append(dump, threads, b"first")
    late = Deferred.fromCoroutine(dump.append([b"second"]))
    dump.discard()
    for which in order:
        threads.turn(which)
    assert late.called
    assert everything(rig.root) == []


@pytest.mark.slow
@pytest.mark.parametrize("operation", ["open", "writev", "close"])
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("begun", [False, True])
def test_discarded_while_an_append_hangs(
    rig: Rig, area: StagingArea, threads: ByHand, operation: str, fails: bool, before: bool, begun: bool
) -> None:
    """Another thread removes the file while this one hangs in an operation, which then may fail."""
    dump = area.new_dump()
    if begun:
        append(dump, threads, b"first")

    def happen(seen: int, name: str, do: Callable[[], Any]) -> Any:
        if seen > 1:
            return do()
        if not before:
            done = do()
        dump.discard()
        threads.turn()
        if before:
            done = do()
        if fails:
            if name == "open":
                os.close(done)
            raise OSError(5, "injected")
        return done

    late = Deferred.fromCoroutine(dump.append([b"second"]))
    with watched(rig.root, [operation], happen) as disk:
        threads.turn()
    assert late.called
    failure_of(late)
    if disk.seen == 0:
        assert (operation, begun) == ("close", False)  # it is held open
        return
    assert everything(rig.root) == []


def test_discarded_twice(rig: Rig, area: StagingArea, threads: ByHand) -> None:
    dump = area.new_dump()
    append(dump, threads, b"first")
    dump.discard()
    dump.discard()
    threads.turn()
    threads.turn()
    assert everything(rig.root) == []


def test_what_can_t_be_removed_is_logged(
    rig: Rig, area: StagingArea, threads: ByHand, logged_failures: list[LogEvent]
) -> None:
    dump = area.new_dump()
    append(dump, threads, b"first")
    dump.discard()
    with failing(rig.root, "unlink", 1, OSError(5, "injected")):
        threads.turn()
    assert logged_failures == []
    assert len(everything(rig.root)) == 1


def test_the_wait_ends_once_what_was_discarded_is_gone(rig: Rig, area: StagingArea, threads: ByHand) -> None:
    assert Deferred.fromCoroutine(area.wait_for_discards()).called
    dumps = [area.new_dump() for _ in range(2)]
    for dump in dumps:
        append(dump, threads, b"x")
    for dump in dumps:
        dump.discard()
    wait_for_discards = Deferred.fromCoroutine(area.wait_for_discards())
    threads.turn()
    assert not wait_for_discards.called
    threads.turn()
    assert (wait_for_discards.called, everything(rig.root)) == (True, [])


# Errors in writing back.


def test_it_is_held_open_from_before_its_first_write_until_it_is_taken(
    rig: Rig, area: StagingArea, threads: ByHand
) -> None:
    dump, held = area.new_dump(), left_in(area.to_hold) > 0
    with watched(rig.root, ["fsync"], lambda seen, name, do: do()) as synced:
        append(dump, threads, b"first")
        descriptor = descriptors(dump)
        append(dump, threads, b"second")
    assert synced.seen == (0 if held else 2)
    taken = dump.take()
    assert descriptor == ([taken] if held else [])
    assert os.fstat(taken).st_size == len("firstsecond")
    os.close(taken)
    assert descriptors(dump) == []


def descriptors(dump: StagedFile) -> list[int]:
    links = [(fd, f"/proc/self/fd/{fd}") for fd in map(int, os.listdir("/proc/self/fd"))]
    return [fd for fd, link in links if os.path.lexists(link) and os.readlink(link) == dump.path]


def test_what_was_tried_once_is_not_trusted_again(area: StagingArea, threads: ByHand) -> None:
    dump = area.new_dump()
    append(dump, threads, b"first")
    os.close(dump.take())
    with pytest.raises(OSError, match="has to be copied"):
        dump.take()
    assert pieces_of(dump, threads) == [b"first"]


def test_an_append_that_can_t_be_synced(rig: Rig, threads: ByHand) -> None:
    """Where it is not held open, whoever syncs it later would hear of no error."""
    dump = StagingArea(rig.staging, threads, lambda: 0, lambda: None, held=0).new_dump()
    with failing(rig.root, "fsync", 1, OSError(28, "No space left on device")):
        done = Deferred.fromCoroutine(dump.append([b"first"]))
        threads.turn()
    assert isinstance(failure_of(done), StorageError)
    dump.remove()


def test_descriptors_are_given_back(rig: Rig, threads: ByHand) -> None:
    area = StagingArea(rig.staging, threads, lambda: 0, lambda: None, held=1)
    for failure in (False, True, False):
        first, second = area.new_dump(), area.new_dump()
        if failure:
            with failing(rig.root, "writev", 1, OSError(28, "No space left on device")):
                failure_of(started(first.append([b"x"]), threads))
        else:
            append(first, threads, b"x")
        append(second, threads, b"y")
        assert (len(descriptors(first)), len(descriptors(second))) == ((0, 1) if failure else (1, 0))
        first.remove()
        second.remove()
        assert left_in(area.to_hold) == 1


def started(work: Coroutine[Any, Any, None], threads: ByHand) -> Deferred[None]:
    done = Deferred.fromCoroutine(work)
    threads.turn()
    return done
