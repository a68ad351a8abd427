from collections.abc import Sequence
from hashlib import sha256

import pytest
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from collectord.errors import AllStoresFailed, CollectordError, StorageError
from collectord.intake.budget import MemoryBudget
from collectord.intake.buffer import SPILL_UNIT, DumpBuffer
from collectord.interfaces import IDumpStaging, IStagedDump
from collectord.model import Content, Dump, InMemory
from collectord.testing.memory import MemoryCrashStorage, MemoryStagedDump
from tests.support.cases import for_each
from tests.unit.intake.parts import CountingFlow, content_of, result_of

MIB = 1024 * 1024


@implementer(IDumpStaging)
@define(eq=False)
class SlowStaging:
    """Appends wait to be fired by hand, in the order in which they came."""

    dumps: "list[SlowDump]" = field(factory=list)
    waiting: "list[tuple[SlowDump, Deferred[None]]]" = field(factory=list)

    def new_dump(self) -> "SlowDump":
        dump = SlowDump(self)
        self.dumps.append(dump)
        return dump

    def owns(self, content: Content) -> bool:
        return isinstance(content, MemoryStagedDump)

    async def is_shared_by(self, staging_ids: Sequence[str]) -> bool:
        return False

    async def wait_for_discards(self) -> None:
        return

    def fire(self, at: int = 0) -> None:
        self.waiting.pop(at)[1].callback(None)

    def fail(self, error: Exception, at: int = 0) -> None:
        self.waiting.pop(at)[1].errback(Failure(error))

    def fire_all(self) -> None:
        while self.waiting:
            self.fire()


@implementer(IStagedDump)
@define(eq=False)
class SlowDump:
    staging: SlowStaging
    stored: MemoryStagedDump = field(factory=lambda: MemoryCrashStorage().new_dump())
    appends: list[int] = field(factory=list)
    appending: bool = False
    discarded: int = 0

    async def append(self, pieces: Sequence[bytes]) -> None:
        assert not self.appending
        assert not self.discarded
        self.appending = True
        waiting: Deferred[None] = Deferred()
        self.staging.waiting.append((self, waiting))
        try:
            await waiting
        finally:
            self.appending = False
        self.appends.append(sum(map(len, pieces)))
        await self.stored.append(pieces)

    def content(self) -> MemoryStagedDump:
        assert not self.appending
        return self.stored

    def discard(self) -> None:
        self.discarded += 1


@define
class Finishing:
    """A dump that is being finished."""

    results: list[Dump | Failure] = field(factory=list)

    @property
    def done(self) -> bool:
        return bool(self.results)

    @property
    def dump(self) -> Dump:
        (dump,) = self.results
        assert isinstance(dump, Dump)
        return dump

    @property
    def error(self) -> BaseException:
        (failure,) = self.results
        assert isinstance(failure, Failure)
        assert failure.value is not None
        return failure.value


def finishing(buffer: DumpBuffer) -> Finishing:
    result = Finishing()
    Deferred.fromCoroutine(buffer.finish()).addBoth(result.results.append)
    return result


@define
class Upload:
    """Some dumps of uploads that share a budget, and have a flow each."""

    budget: MemoryBudget
    staging: SlowStaging = field(factory=SlowStaging)
    flows: list[CountingFlow] = field(factory=list)

    def buffer(self, name: str = "d") -> DumpBuffer:
        self.flows.append(CountingFlow())
        return DumpBuffer(name, self.budget, self.staging, self.flows[-1])

    def check_nothing_is_left(self) -> None:
        assert (self.budget.used, self.budget.flushing) == (0, 0)
        assert [flow for flow in self.flows if flow.held] == []
        assert all(dump.discarded for dump in self.staging.dumps)


def uploads(limit: int) -> Upload:
    return Upload(MemoryBudget(limit))


def test_the_staging_here_is_one() -> None:
    assert verifyObject(IDumpStaging, SlowStaging())
    assert verifyObject(IStagedDump, SlowStaging().new_dump())


def test_what_fits_stays_in_memory() -> None:
    upload = uploads(100_000)
    buffer = upload.buffer()
    buffer.write(b"a" * 50_000)
    buffer.write(b"b" * 50_000)
    assert (upload.budget.used, upload.budget.flushing) == (100_000, 0)
    dump = finishing(buffer).dump
    assert (dump.name, dump.size) == ("d", 100_000)
    assert dump.sha256 == sha256(b"a" * 50_000 + b"b" * 50_000).hexdigest()
    assert isinstance(dump.content, InMemory)
    assert result_of(content_of(dump)) == b"a" * 50_000 + b"b" * 50_000
    assert upload.staging.dumps == []
    assert upload.budget.used == 100_000
    buffer.release()
    upload.check_nothing_is_left()


def test_an_empty_dump() -> None:
    upload = uploads(0)
    buffer = upload.buffer()
    dump = finishing(buffer).dump
    assert (dump.size, dump.sha256, result_of(content_of(dump))) == (0, sha256().hexdigest(), b"")
    buffer.release()
    upload.check_nothing_is_left()


def test_beyond_the_budget_the_oldest_is_spilled() -> None:
    upload = uploads(100_000)
    first, second, third = upload.buffer("a"), upload.buffer("b"), upload.buffer("c")
    second.write(b"b" * 40_000)
    first.write(b"a" * 40_000)
    third.write(b"c" * 20_000)
    assert upload.staging.dumps == []
    third.write(b"c")
    assert len(upload.staging.dumps) == 1
    assert (upload.budget.used, upload.budget.flushing) == (100_001, 40_000)
    upload.staging.fire()
    assert upload.staging.dumps[0].appends == [40_000]
    assert upload.budget.used == 60_001
    assert result_of(content_of(finishing(second).dump)) == b"b" * 40_000
    third.write(b"c" * 40_000)
    upload.staging.fire()
    assert result_of(content_of(finishing(first).dump)) == b"a" * 40_000
    assert isinstance(finishing(third).dump.content, InMemory)
    for buffer in (first, second, third):
        buffer.release()
    upload.check_nothing_is_left()


def test_as_many_are_spilled_as_are_needed() -> None:
    upload = uploads(100_000)
    buffers = [upload.buffer() for _ in range(4)]
    for buffer in buffers[:3]:
        buffer.write(b"x" * 33_000)
    buffers[3].write(b"x" * 66_000)
    assert len(upload.staging.dumps) == 2
    assert upload.budget.used - upload.budget.flushing == 99_000
    upload.staging.fire_all()
    for buffer in buffers:
        buffer.release()
    upload.check_nothing_is_left()


def test_less_than_a_unit_is_not_spilled() -> None:
    upload = uploads(0)
    buffers = [upload.buffer() for _ in range(10)]
    for buffer in buffers:
        buffer.write(b"x" * (SPILL_UNIT - 1))
    assert upload.staging.dumps == []
    buffers[5].write(b"x")
    assert len(upload.staging.dumps) == 1
    upload.staging.fire()
    assert upload.staging.dumps[0].appends == [SPILL_UNIT]
    buffers[5].write(b"x" * (SPILL_UNIT - 1))
    assert upload.staging.waiting == []
    buffers[5].write(b"x")
    assert len(upload.staging.waiting) == 1
    upload.staging.fire()
    for buffer in buffers:
        buffer.release()
    upload.check_nothing_is_left()


def test_what_comes_while_spilling_follows_in_one_write() -> None:
    upload = uploads(0)
    buffer = upload.buffer()
    buffer.write(b"a" * SPILL_UNIT)
    for _ in range(10):
        buffer.write(b"b" * 10_000)
    assert len(upload.staging.waiting) == 1
    upload.staging.fire()
    assert len(upload.staging.waiting) == 1
    buffer.write(b"c" * 10_000)
    upload.staging.fire()
    assert upload.staging.waiting == []
    assert upload.staging.dumps[0].appends == [SPILL_UNIT, 100_000]
    finished = finishing(buffer)
    assert not finished.done
    upload.staging.fire()
    assert upload.staging.dumps[0].appends == [SPILL_UNIT, 100_000, 10_000]
    assert result_of(content_of(finished.dump)) == b"a" * SPILL_UNIT + b"b" * 100_000 + b"c" * 10_000
    buffer.release()
    upload.check_nothing_is_left()


def test_tiny_writes_are_coalesced() -> None:
    upload = uploads(MIB)
    buffer = upload.buffer()
    for n in range(20_000):
        buffer.write(bytes([n % 256]) * 5)
    content = finishing(buffer).dump.content
    assert isinstance(content, InMemory)
    assert len(content.pieces) <= 4
    assert b"".join(content.pieces) == b"".join(bytes([n % 256]) * 5 for n in range(20_000))


def test_large_writes_are_not_copied() -> None:
    upload = uploads(MIB)
    buffer = upload.buffer()
    pieces = [bytes([n]) * 4096 for n in range(3)]
    for piece in pieces:
        buffer.write(piece)
    content = finishing(buffer).dump.content
    assert isinstance(content, InMemory)
    assert [id(piece) for piece in content.pieces] == [id(piece) for piece in pieces]


# ——— back-pressure ———


def test_more_than_a_mebibyte_ahead_of_the_disk_is_held() -> None:
    upload = uploads(10 * MIB)
    buffer = upload.buffer()
    buffer.write(b"x" * (MIB + 1))
    buffer.spill()
    (flow,) = upload.flows
    buffer.write(b"y" * MIB)
    assert not flow.held
    buffer.write(b"y")
    assert flow.held
    buffer.write(b"y")
    assert flow.pauses == 1
    upload.staging.fire()
    assert flow.held
    upload.staging.fire()
    assert not flow.held
    assert flow.pauses == flow.resumes == 1
    buffer.release()
    upload.check_nothing_is_left()


def test_who_sends_is_held_while_too_much_waits_for_a_disk() -> None:
    upload = uploads(100_000)
    one, two = upload.buffer(), upload.buffer()
    one.write(b"x" * 60_000)
    two.write(b"x" * 50_000)
    assert upload.budget.flushing == 60_000
    two.write(b"x" * 60_000)
    assert upload.budget.flushing == 170_000
    assert [flow.pauses for flow in upload.flows] == [0, 1]
    two.write(b"x")
    one.write(b"x")
    one.write(b"x")
    assert [flow.pauses for flow in upload.flows] == [1, 1]
    upload.staging.fire()
    assert upload.budget.flushing == 110_000
    assert [flow.held for flow in upload.flows] == [True, True]
    upload.staging.fire()
    assert upload.budget.flushing == 0
    assert [(flow.pauses, flow.resumes) for flow in upload.flows] == [(1, 1), (1, 1)]
    one.release()
    two.release()
    upload.check_nothing_is_left()


def test_whole_dumps_that_wait_to_be_saved_hold_others() -> None:
    upload = uploads(100_000)
    one, two = upload.buffer(), upload.buffer()
    one.write(b"x" * 100_000)
    assert finishing(one).done
    two.write(b"x" * 20_000)
    assert not upload.flows[1].held
    assert finishing(two).done
    three = upload.buffer()
    three.write(b"x")
    assert upload.flows[2].held
    one.release()
    assert not upload.flows[2].held
    two.release()
    three.release()
    upload.check_nothing_is_left()


def test_a_whole_dump_is_not_spilled_any_more() -> None:
    upload = uploads(100_000)
    one, two = upload.buffer(), upload.buffer()
    one.write(b"x" * 100_000)
    dump = finishing(one).dump
    two.write(b"x" * 100_001)
    assert isinstance(dump.content, InMemory)
    assert result_of(content_of(dump)) == b"x" * 100_000
    upload.staging.fire_all()
    assert [dump.appends for dump in upload.staging.dumps] == [[100_001]]
    one.release()
    two.release()
    upload.check_nothing_is_left()


# ——— release ———


def test_released_while_spilling() -> None:
    upload = uploads(0)
    buffer = upload.buffer()
    buffer.write(b"x" * SPILL_UNIT)
    buffer.write(b"x" * (MIB + 1))
    assert upload.flows[0].pauses == 2
    buffer.release()
    (dump,) = upload.staging.dumps
    assert dump.discarded == 0
    assert upload.budget.used == upload.budget.flushing == SPILL_UNIT
    upload.staging.fire()
    assert dump.discarded == 1
    upload.check_nothing_is_left()
    assert upload.staging.waiting == []


def test_released_after_spilling() -> None:
    upload = uploads(0)
    buffer = upload.buffer()
    buffer.write(b"x" * SPILL_UNIT)
    upload.staging.fire()
    buffer.write(b"x" * 10)
    buffer.release()
    buffer.release()
    assert upload.staging.dumps[0].discarded == 1
    upload.check_nothing_is_left()


def test_a_released_buffer_is_not_spilled() -> None:
    upload = uploads(SPILL_UNIT)
    buffer, other = upload.buffer(), upload.buffer()
    buffer.write(b"x" * SPILL_UNIT)
    buffer.release()
    other.write(b"x" * SPILL_UNIT)
    assert upload.staging.dumps == []
    other.release()
    upload.check_nothing_is_left()


# ——— a disk that fails ———


@for_each("error", [StorageError("full"), AllStoresFailed("all full"), RuntimeError("a defect")])
def test_a_failure_refuses_at_the_next_write_and_at_the_end(error: Exception) -> None:
    upload = uploads(0)
    buffer = upload.buffer()
    buffer.write(b"x" * SPILL_UNIT)
    buffer.write(b"y" * (MIB + SPILL_UNIT))
    assert upload.flows[0].pauses == 2
    upload.staging.fail(error)
    assert not upload.flows[0].held
    with pytest.raises(type(error)) as raised:
        buffer.write(b"z" * SPILL_UNIT)
    assert raised.value is error
    assert upload.staging.waiting == []
    finished = finishing(buffer)
    assert finished.error is error
    buffer.release()
    upload.check_nothing_is_left()


@for_each("error", [StorageError("full"), AllStoresFailed("all full"), RuntimeError("a defect")])
def test_a_failure_of_the_last_write(error: Exception) -> None:
    upload = uploads(0)
    buffer = upload.buffer()
    buffer.write(b"x" * SPILL_UNIT)
    buffer.write(b"y")
    finished = finishing(buffer)
    upload.staging.fire()
    assert not finished.done
    upload.staging.fail(error)
    assert finished.error is error
    buffer.release()
    upload.check_nothing_is_left()


def test_a_failed_dump_is_not_spilled_again() -> None:
    upload = uploads(0)
    buffer, other = upload.buffer(), upload.buffer()
    buffer.write(b"x" * SPILL_UNIT)
    buffer.write(b"x" * SPILL_UNIT)
    upload.staging.fail(StorageError("full"))
    other.write(b"x" * SPILL_UNIT)
    assert [dump for dump, _ in upload.staging.waiting] == [upload.staging.dumps[1]]
    upload.staging.fire()
    other.release()
    buffer.release()
    upload.check_nothing_is_left()


def test_a_failure_after_the_release() -> None:
    upload = uploads(0)
    buffer = upload.buffer()
    buffer.write(b"x" * SPILL_UNIT)
    buffer.release()
    upload.staging.fail(StorageError("full"))
    upload.check_nothing_is_left()


# ——— anything in any order ———

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 2), st.sampled_from([1, 100, 4095, 4096, SPILL_UNIT, 70_000, MIB])),
        st.tuples(st.sampled_from(["fire", "fail"]), st.integers(0, 2), st.just(0)),
        st.tuples(st.sampled_from(["finish", "release"]), st.integers(0, 2), st.just(0)),
    ),
    max_size=40,
)


@pytest.mark.slow
@settings(max_examples=100)
@given(OPERATIONS, st.sampled_from([0, 1, 50_000, 100_000, MIB]), st.booleans())
def test_anything_in_any_order(operations: list[tuple[str, int, int]], limit: int, failing: bool) -> None:
    upload = uploads(limit)
    buffers = [upload.buffer(name) for name in "abc"]
    written = [b"", b"", b""]
    finished: dict[int, Finishing] = {}
    released: set[int] = set()
    for n, (operation, which, size) in enumerate(operations):
        if operation == "write" and which not in finished and which not in released:
            data = bytes([n % 256]) * size
            try:
                buffers[which].write(data)
            except CollectordError:
                assert failing
            else:
                written[which] += data
        elif operation == "fire" and upload.staging.waiting:
            upload.staging.fire(which % len(upload.staging.waiting))
        elif operation == "fail" and failing and upload.staging.waiting:
            upload.staging.fail(StorageError("full"), which % len(upload.staging.waiting))
        elif operation == "finish" and which not in finished and which not in released:
            finished[which] = finishing(buffers[which])
        elif operation == "release":
            buffers[which].release()
            released.add(which)
        assert 0 <= upload.budget.flushing <= upload.budget.used
        if not upload.staging.waiting:
            assert not any(flow.held for flow in upload.flows) or upload.budget.flushing > limit
    upload.staging.fire_all()
    for which, buffer in enumerate(buffers):
        if which in released:
            continue
        if which not in finished:
            finished[which] = finishing(buffer)
            upload.staging.fire_all()
        (result,) = finished[which].results
        if isinstance(result, Failure):
            assert failing
            assert isinstance(result.value, StorageError)
        else:
            assert (result.size, result.sha256) == (len(written[which]), sha256(written[which]).hexdigest())
            assert result_of(content_of(result)) == written[which]
        buffer.release()
    upload.staging.fire_all()
    upload.check_nothing_is_left()
