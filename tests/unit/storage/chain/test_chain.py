"""
The chain of stores, by a clock: who is tried when, and what a crash waits for.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from collectord.errors import AllStoresFailed, StorageError, StoreTimeout
from collectord.interfaces import ICrashStorage, IDumpStaging, IStagedDump
from collectord.metrics import BROKEN_COPIES
from collectord.model import MINIDUMP, Content, Crash
from collectord.storage.chain.chain import CHECK_S, Backend, FallbackCrashStorage, ProbeService
from tests.unit.storage.stores import bytes_of, make_crash, started

Hook = Callable[[], Any]


@implementer(IStagedDump)
@define(eq=False)
class FickleDump:
    """Of a fickle store."""

    home: "FickleStore"
    pieces: list[bytes] = field(factory=list)
    discarded: int = 0

    async def append(self, pieces: Sequence[bytes]) -> None:
        await self.home.do("append")
        self.pieces.extend(pieces)

    def content(self) -> "FickleDump":
        return self

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            await self.home.do("read")
            yield piece

    def discard(self) -> None:
        self.discarded += 1


@implementer(ICrashStorage, IDumpStaging)
@define(eq=False)
class FickleStore:
    """
    A store in memory.

    @ivar trouble: by operation (save, check, append, read): the error it raises, or C{None} where it hangs.
    @ivar saved: the bytes of all dumps, by crash id.
    """

    name: str
    trouble: dict[str, Exception | None] = field(factory=dict)
    calls: list[str] = field(factory=list)
    saved: dict[str, dict[str, bytes]] = field(factory=dict)
    dumps: list[FickleDump] = field(factory=list)
    hung: list[Deferred[None]] = field(factory=list)
    kept: dict[str, Content] = field(factory=dict)
    staging_id: str = ""

    async def do(self, operation: str) -> None:
        self.calls.append(operation)
        if operation in self.trouble:
            error = self.trouble[operation]
            if error is not None:
                raise error
            hung: Deferred[None] = Deferred()
            self.hung.append(hung)
            await hung

    async def save(self, crash: Crash) -> str:
        await self.do("save")
        for dump in crash.dumps:
            assert not isinstance(dump.content, FickleDump) or dump.content.home is self
        self.kept = {dump.name: dump.content for dump in crash.dumps}
        self.saved[crash.crash_id] = {dump.name: await bytes_of(dump.content) for dump in crash.dumps}
        return self.name

    async def check(self) -> Mapping[str, int]:
        await self.do("check")
        return {"free_bytes": 7}

    async def close(self) -> None:
        await self.do("close")

    def new_dump(self) -> FickleDump:
        self.dumps.append(FickleDump(self))
        return self.dumps[-1]

    def owns(self, content: Content) -> bool:
        return isinstance(content, FickleDump) and content.home is self

    async def is_shared_by(self, staging_ids: Sequence[str]) -> bool:
        await self.do("is_shared_by")
        return self.staging_id in staging_ids

    async def wait_for_discards(self) -> None:
        await self.do("settled")


def full() -> StorageError:
    return StorageError("No space left on device")


@define(eq=False)
class Chain:
    """Three stores and their clock."""

    clock: Clock = field(factory=Clock)
    first: FickleStore = field(factory=lambda: FickleStore("first"))
    second: FickleStore = field(factory=lambda: FickleStore("second"))
    third: FickleStore = field(factory=lambda: FickleStore("third"))
    storage: FallbackCrashStorage = field(init=False)

    def __attrs_post_init__(self) -> None:
        backends = [Backend(name=s.name, storage=s, staging=s, timeout=10.0) for s in self.stores]
        self.storage = FallbackCrashStorage(backends, self.clock)

    @property
    def stores(self) -> list[FickleStore]:
        return [self.first, self.second, self.third]

    @property
    def opened(self) -> list[bool]:
        return [backend.breaker.open for backend in self.storage.backends]

    @property
    def calls(self) -> list[list[str]]:
        """What each store was asked for since the last time."""
        calls = [list(store.calls) for store in self.stores]
        for store in self.stores:
            store.calls.clear()
        return calls

    def trouble(self, **operations: Exception | None) -> None:
        """All of them fail."""
        for store in self.stores:
            store.trouble = dict(operations)

    def save(self, crash: Crash | None = None) -> Deferred[str]:
        return started(self.storage.save(crash or make_crash()))

    def spilled(self, *appends: bytes) -> IStagedDump:
        """A dump of so many appends; all of them are done."""
        dump = self.storage.new_dump()
        for piece in appends:
            done = started(dump.append([piece]))
            assert (done.called, done.result) == (True, None)
        return dump

    def pass_time(self, seconds: float) -> None:
        """In small steps."""
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end - 1e-9:
            self.clock.advance(min(0.05, end - self.clock.seconds()))


@pytest.fixture
def chain() -> Chain:
    return Chain()


def error_in(work: Deferred[Any]) -> BaseException:
    """What it failed with by now."""
    failed: list[BaseException] = []

    def note(failure: Failure) -> None:
        assert failure.value is not None
        failed.append(failure.value)

    work.addErrback(note)
    assert failed, work
    return failed[0]


def test_interfaces(chain: Chain) -> None:
    verifyObject(ICrashStorage, chain.storage)
    verifyObject(IDumpStaging, chain.storage)
    verifyObject(IStagedDump, chain.storage.new_dump())
    verifyObject(ICrashStorage, chain.first)
    verifyObject(IDumpStaging, chain.first)
    verifyObject(IStagedDump, chain.first.new_dump())


# The order.


def test_the_primary_takes_it(chain: Chain) -> None:
    assert chain.save().result == "first"
    assert chain.calls == [["save"], [], []]


def test_the_next_takes_it_at_once(chain: Chain) -> None:
    chain.first.trouble["save"] = full()
    assert chain.save().result == "second"
    chain.second.trouble["save"] = full()
    assert chain.save().result == "third"
    assert chain.calls == [["save", "save"], ["save", "save"], ["save"]]
    assert chain.clock.getDelayedCalls() == []


@pytest.mark.parametrize("error", [ValueError("odd"), CancelledError()])
def test_only_a_storage_error_moves_a_crash_on(chain: Chain, error: Exception) -> None:
    chain.first.trouble["save"] = error
    assert error_in(chain.save()) is error
    assert chain.calls == [["save"], [], []]
    assert chain.opened == [False, False, False]


def test_a_store_is_left_alone_after_three_failures_in_a_row(chain: Chain) -> None:
    chain.first.trouble["save"] = full()
    chain.save()
    chain.save()
    del chain.first.trouble["save"]
    chain.save()  # so that they are not in a row
    chain.first.trouble["save"] = full()
    chain.save()
    chain.save()
    assert chain.opened == [False, False, False]
    chain.save()
    assert chain.opened == [True, False, False]
    assert chain.calls == [["save"] * 6, ["save"] * 5, []]
    assert chain.save().result == "second"
    assert chain.calls == [[], ["save"], []]


def test_a_store_is_left_alone_at_once_where_it_took_too_long(chain: Chain) -> None:
    chain.first.trouble["save"] = StoreTimeout("hung")
    assert chain.save().result == "second"
    assert chain.opened == [True, False, False]


def test_a_probe_takes_it_back(chain: Chain) -> None:
    chain.first.trouble = {"save": StoreTimeout("hung"), "check": full()}
    chain.save()
    assert chain.calls == [["save"], ["save"], []]
    started(chain.storage.probe())
    assert (chain.opened[0], chain.calls) == (True, [["check"], [], []])
    chain.first.trouble.clear()
    started(chain.storage.probe())
    assert (chain.opened[0], chain.calls) == (False, [["check"], [], []])
    assert chain.save().result == "first"
    started(chain.storage.probe())
    assert chain.calls == [["save"], [], []]


def test_a_probe_returns_when_its_stores_have_answered(chain: Chain) -> None:
    chain.first.trouble = {"save": StoreTimeout("hung"), "check": None}
    chain.save()
    probing = started(chain.storage.probe())
    assert not probing.called
    chain.pass_time(CHECK_S + 0.1)
    assert probing.called
    assert chain.opened[0]


def test_an_earlier_crash_that_comes_through_takes_it_back(chain: Chain) -> None:
    chain.first.trouble["save"] = None
    late = chain.save()
    chain.first.trouble["save"] = StoreTimeout("hung")
    chain.save()
    assert chain.opened[0]
    chain.first.trouble.clear()
    chain.first.hung[0].callback(None)
    assert late.result == "first"
    assert not chain.opened[0]


# Patience.


def test_patience_and_then_nowhere(chain: Chain) -> None:
    chain.trouble(save=full())
    tries: list[float] = []
    saving = chain.save()
    while not saving.called:
        if chain.calls != [[], [], []]:
            tries.append(round(chain.clock.seconds(), 3))
            for backend in chain.storage.backends:
                backend.breaker.succeeded()
        chain.clock.advance(0.025)
        assert chain.clock.seconds() < 11
    assert chain.clock.seconds() == pytest.approx(10.0, abs=0.05)
    pauses = [round(later - earlier, 1) for earlier, later in pairwise(tries)]
    assert pauses[:5] == [0.1, 0.2, 0.4, 0.8, 1.6]
    assert max(pauses) <= 2.0
    assert isinstance(error_in(saving), AllStoresFailed)
    assert chain.clock.getDelayedCalls() == []


def test_nobody_is_asked_in_vain_meanwhile(chain: Chain) -> None:
    chain.trouble(save=full())
    saving = chain.save()
    chain.pass_time(9.9)
    assert not saving.called
    assert chain.calls == [["save"] * 3] * 3
    chain.pass_time(0.2)
    assert isinstance(error_in(saving), AllStoresFailed)
    assert chain.calls == [[], [], []]


@pytest.mark.parametrize("after", [0.05, 3.0, 9.0])
def test_a_store_that_is_well_in_time(chain: Chain, after: float) -> None:
    chain.trouble(save=full())
    saving = chain.save()
    chain.pass_time(after)
    assert not saving.called
    chain.second.trouble.clear()
    started(chain.storage.probe())
    chain.pass_time(10.0 - after)
    assert saving.result == "second"


def test_patience_is_for_each(chain: Chain) -> None:
    chain.trouble(save=full())
    first = chain.save()
    chain.pass_time(5)
    second = chain.save()
    chain.pass_time(5.1)
    assert isinstance(error_in(first), AllStoresFailed)
    assert not second.called
    chain.pass_time(5)
    assert isinstance(error_in(second), AllStoresFailed)


def test_giving_up_while_waiting(chain: Chain) -> None:
    chain.trouble(save=full())
    saving = chain.save()
    chain.pass_time(1)
    saving.cancel()
    assert isinstance(error_in(saving), CancelledError)
    assert chain.clock.getDelayedCalls() == []


def test_giving_up_while_a_store_is_at_it(chain: Chain) -> None:
    chain.first.trouble["save"] = None
    saving = chain.save()
    saving.cancel()
    assert isinstance(error_in(saving), CancelledError)
    assert chain.calls == [["save"], [], []]
    assert chain.opened == [False, False, False]


# Big dumps.


def crash_with(dump: IStagedDump, content: bytes) -> Crash:
    return make_crash(dumps={"small": b"in memory", MINIDUMP: content}, places={MINIDUMP: dump.content()})


def test_a_spilled_dump_lies_beside_its_crash(chain: Chain) -> None:
    dump = chain.spilled(b"one", b"two")
    assert chain.storage.owns(dump.content())
    assert chain.save(crash_with(dump, b"onetwo")).result == "first"
    assert chain.first.saved.popitem()[1] == {"small": b"in memory", MINIDUMP: b"onetwo"}
    assert [len(store.dumps) for store in chain.stores] == [1, 0, 0]
    dump.discard()
    assert chain.first.dumps[0].discarded == 1


def test_nothing_is_asked_for_before_the_first_append(chain: Chain) -> None:
    dump = chain.storage.new_dump()
    dump.discard()
    assert (chain.calls, chain.first.dumps) == ([[], [], []], [])


def test_a_spilled_dump_goes_along_to_the_next_store(chain: Chain) -> None:
    dump = chain.spilled(b"one", b"two")
    chain.first.trouble["save"] = full()
    assert chain.save(crash_with(dump, b"onetwo")).result == "second"
    assert chain.second.saved.popitem()[1] == {"small": b"in memory", MINIDUMP: b"onetwo"}
    assert [copy.discarded for copy in chain.second.dumps] == [1]
    assert chain.first.dumps[0].discarded == 0


def test_a_copy_that_is_not_needed_is_discarded(chain: Chain) -> None:
    dump = chain.spilled(b"one", b"two")
    chain.first.trouble["save"] = full()
    chain.second.trouble["save"] = full()
    assert chain.save(crash_with(dump, b"onetwo")).result == "third"
    assert [copy.discarded for copy in chain.second.dumps + chain.third.dumps] == [1, 1]


def test_a_copy_that_fails_is_the_target_s_failure(chain: Chain) -> None:
    dump = chain.spilled(b"one", b"two")
    chain.first.trouble["save"] = full()
    chain.second.trouble["append"] = StoreTimeout("hung")
    assert chain.save(crash_with(dump, b"onetwo")).result == "third"
    assert chain.opened == [False, True, False]
    assert [copy.discarded for copy in chain.second.dumps] == [1]


def test_a_spilled_dump_is_copied_for_a_second_try_in_the_same_store(chain: Chain) -> None:
    """After a try that failed it may not be on the disk, though it can be read."""
    dump = chain.spilled(b"one", b"two")
    chain.trouble(save=full())
    saving = chain.save(crash_with(dump, b"onetwo"))
    for tries in (2, 3):
        chain.pass_time(2.0)
        assert len(chain.first.dumps) >= tries
    chain.first.trouble.clear()
    started(chain.storage.probe())
    chain.pass_time(2.0)
    assert saving.result == "first"
    assert chain.first.kept[MINIDUMP] is chain.first.dumps[-1]
    assert [dump.discarded for dump in chain.first.dumps] == [0, *([1] * (len(chain.first.dumps) - 1))]
    assert chain.first.saved.popitem()[1][MINIDUMP] == b"onetwo"


@pytest.mark.parametrize("moved", [False, True], ids=["whole", "in the middle"])
def test_a_spilled_dump_is_used_as_it_lies_where_it_is_not_in_doubt(chain: Chain, moved: bool) -> None:
    """Its beginning was read back where the store failed in the middle: that was compared with nothing yet."""
    dump = chain.spilled(b"one")
    if moved:
        chain.first.trouble["append"] = full()
    started(dump.append([b"two"]))
    store = chain.second if moved else chain.first
    chain.first.trouble["save"] = full() if moved else ValueError("not reached")
    if not moved:
        chain.first.trouble.clear()
    assert chain.save(crash_with(dump, b"onetwo")).result == store.name
    assert len(store.dumps) == 1 + moved


@pytest.mark.parametrize("where", ["first", "second", "in the middle"])
def test_a_spilled_dump_that_is_read_back_as_another_is_refused(chain: Chain, where: str) -> None:
    """On the way to another file of the same store, to another store, and where its store failed in the middle."""
    dump = chain.spilled(b"one")
    home = chain.first
    if where == "in the middle":
        chain.first.trouble["append"] = full()
        chain.first.dumps[0].pieces[:] = [b"onf"]
        home = chain.second
    started(dump.append([b"two"]))
    chain.first.trouble["save"] = full()
    if where == "first":
        chain.storage.doubtful.add(dump.content())
        chain.first.dumps[0].pieces[:] = []
    elif where == "second":
        chain.first.dumps[0].pieces[:] = [b"one", b"twp"]
    before = BROKEN_COPIES.labels(home.name)._value.get()
    error = error_in(chain.save(crash_with(dump, b"onetwo")))
    assert isinstance(error, AllStoresFailed)
    assert "it was received with" in str(error)
    assert BROKEN_COPIES.labels(home.name)._value.get() == before + 1
    assert [store.saved for store in chain.stores] == [{}, {}, {}]
    assert [dump.discarded for dump in home.dumps] == ([0, 1] if where != "second" else [0])


@pytest.mark.parametrize("error", [full(), StoreTimeout("hung")])
def test_a_dump_that_can_t_be_read_back_is_nobody_else_s_failure(chain: Chain, error: Exception) -> None:
    dump = chain.spilled(b"one", b"two")
    chain.first.trouble.update(save=full(), read=error)
    failed = error_in(chain.save(crash_with(dump, b"onetwo")))
    assert isinstance(failed, AllStoresFailed)
    assert "first" in str(failed)
    assert chain.opened == [False, False, False]
    assert [copy.discarded for copy in chain.second.dumps] == [1]
    assert chain.second.saved == chain.third.saved == {}


def test_a_dump_that_can_t_be_read_back_in_time(chain: Chain) -> None:
    dump = chain.spilled(b"one", b"two")
    chain.first.trouble.update(save=full(), read=None)
    saving = chain.save(crash_with(dump, b"onetwo"))
    chain.pass_time(9.9)
    assert not saving.called
    chain.pass_time(0.2)
    assert isinstance(error_in(saving), AllStoresFailed)
    assert chain.opened == [False, False, False]


@pytest.mark.parametrize("before", [0, 1, 2])
@pytest.mark.parametrize("error", [full(), StoreTimeout("hung"), None])
def test_a_store_fails_in_the_middle_of_a_dump(chain: Chain, before: int, error: Exception | None) -> None:
    appends = [b"one", b"two", b"three"]
    dump = chain.spilled(*appends[:before])
    chain.first.trouble["append"] = error
    moving = started(dump.append([appends[before]]))
    if error is None:
        chain.pass_time(9.9)
        assert not moving.called
        chain.pass_time(0.2)
    assert (moving.called, moving.result) == (True, None)
    for piece in appends[before + 1 :]:
        started(dump.append([piece]))
    assert chain.opened == [not isinstance(error, StorageError) or isinstance(error, StoreTimeout), False, False]
    assert chain.second.owns(dump.content())
    assert all(old.discarded for old in chain.first.dumps)
    assert [new.discarded for new in chain.second.dumps] == [0]
    crash = crash_with(dump, b"onetwothree")
    chain.first.trouble["save"] = full()
    assert chain.save(crash).result == "second"
    assert chain.second.saved.popitem()[1] == {"small": b"in memory", MINIDUMP: b"onetwothree"}


def test_a_late_append_changes_nothing(chain: Chain) -> None:
    dump = chain.spilled(b"one")
    chain.first.trouble["append"] = None
    moving = started(dump.append([b"two"]))
    chain.pass_time(10.1)
    assert moving.called
    chain.first.trouble.clear()
    started(chain.storage.probe())
    started(dump.append([b"three"]))
    assert chain.save(crash_with(dump, b"onetwothree")).result == "first"
    assert chain.first.saved.popitem()[1][MINIDUMP] == b"onetwothree"


def test_the_second_fails_as_well(chain: Chain) -> None:
    dump = chain.spilled(b"one")
    chain.first.trouble["append"] = full()
    started(dump.append([b"two"]))
    chain.second.trouble["append"] = full()
    done = started(dump.append([b"three"]))
    assert (done.called, done.result) == (True, None)
    assert chain.third.owns(dump.content())
    assert chain.save(crash_with(dump, b"onetwothree")).result == "third"
    assert chain.third.saved.popitem()[1][MINIDUMP] == b"onetwothree"
    assert chain.opened == [True, True, False]


def test_no_store_takes_a_dump(chain: Chain) -> None:
    """What a dump raises is a StorageError, and it was patient before."""
    dump = chain.spilled(b"one")
    chain.trouble(append=full())
    done = started(dump.append([b"two"]))
    chain.pass_time(9.9)
    assert not done.called
    chain.pass_time(0.2)
    assert isinstance(error_in(done), StorageError)
    dump.discard()
    for store in chain.stores:
        assert all(made.discarded for made in store.dumps)


def test_a_dump_whose_beginning_can_t_be_read_back(chain: Chain) -> None:
    dump = chain.spilled(b"one")
    chain.first.trouble.update(append=StoreTimeout("hung"), read=full())
    done = started(dump.append([b"two"]))
    assert isinstance(error_in(done), StorageError)
    assert chain.opened == [True, False, False]
    assert [made.discarded for made in chain.second.dumps] == [1]


def test_a_store_is_well_again_in_the_middle_of_a_dump(chain: Chain) -> None:
    dump = chain.spilled(b"one")
    chain.trouble(append=full())
    done = started(dump.append([b"two"]))
    chain.pass_time(5)
    chain.third.trouble.clear()
    started(chain.storage.probe())
    chain.pass_time(2.1)
    assert (done.called, done.result) == (True, None)
    chain.trouble()
    chain.save(crash_with(dump, b"onetwo"))
    assert next(store.saved for store in chain.stores if store.saved).popitem()[1][MINIDUMP] == b"onetwo"


# Checks and probes.


def test_check(chain: Chain) -> None:
    assert started(chain.storage.check()).result == {"stores": 3, "well": 3}
    chain.first.trouble["check"] = full()
    assert started(chain.storage.check()).result == {"stores": 3, "well": 2}
    assert chain.opened == [True, False, False]
    chain.trouble(check=full())
    failed = error_in(started(chain.storage.check()))
    assert isinstance(failed, StorageError)
    assert str(failed) == "; ".join(["No space left on device"] * 3)
    assert chain.opened == [True, True, True]
    chain.trouble()
    started(chain.storage.check())
    assert chain.opened == [False, False, False]


def test_check_each_tells_of_each(chain: Chain) -> None:
    chain.second.trouble["check"] = full()
    states = started(chain.storage.check_each()).result
    assert isinstance(states, list)
    assert [(state.name, state.problem, state.figures) for state in states] == [
        ("first", "", {"free_bytes": 7}),
        ("second", "No space left on device", {}),
        ("third", "", {"free_bytes": 7}),
    ]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_each_store_is_asked_whether_it_is_the_sender_s(chain: Chain, number: int) -> None:
    chain.stores[number].staging_id = "its"
    assert started(chain.storage.is_shared_by(["another", "its"])).result is True
    assert started(chain.storage.is_shared_by(["another"])).result is False
    chain.stores[number].trouble["is_shared_by"] = full()
    assert error_in(started(chain.storage.is_shared_by(["another"]))).args == full().args


def test_it_is_settled_once_each_store_is(chain: Chain) -> None:
    chain.second.trouble["settled"] = None
    wait_for_discards = started(chain.storage.wait_for_discards())
    assert chain.calls == [["settled"]] * 3
    assert not wait_for_discards.called
    chain.second.hung[0].callback(None)
    assert wait_for_discards.called


def test_hung_checks_take_their_time_together(chain: Chain) -> None:
    chain.trouble(check=None)
    checking = started(chain.storage.check_each())
    assert chain.calls == [["check"]] * 3
    chain.pass_time(4.9)
    assert not checking.called
    chain.pass_time(0.2)
    assert isinstance(checking.result, list)
    assert {state.problem for state in checking.result} == {
        "first: nothing for 5 s",
        "second: nothing for 5 s",
        "third: nothing for 5 s",
    }
    assert chain.opened == [True, True, True]


def test_who_asks_may_go_away(chain: Chain) -> None:
    chain.trouble(check=None)
    checking = started(chain.storage.check_each())
    checking.cancel()
    assert isinstance(error_in(checking), CancelledError)
    chain.trouble()
    for hung in chain.first.hung[1:] + chain.second.hung + chain.third.hung:
        hung.callback(None)
    chain.pass_time(6)
    assert started(chain.storage.check()).result == {"stores": 3, "well": 3}


def probing(chain: Chain) -> ProbeService:
    service = ProbeService(chain.storage, chain.clock)
    service.startService()
    return service


def test_the_probes_come_every_second(chain: Chain) -> None:
    service = probing(chain)
    chain.pass_time(3)
    assert chain.calls == [[], [], []]
    chain.first.trouble = {"save": StoreTimeout("hung"), "check": full()}
    chain.save()
    assert chain.calls == [["save"], ["save"], []]
    for _ in range(3):
        chain.pass_time(1)
        assert chain.calls == [["check"], [], []]
    chain.first.trouble.clear()
    chain.pass_time(1)
    assert not chain.opened[0]
    service.stopService()
    assert chain.clock.getDelayedCalls() == []


def test_a_store_that_is_full_is_known_before_a_crash_comes(chain: Chain) -> None:
    full_now: list[bool] = []

    async def quick_check() -> None:
        if full_now:
            raise full()

    for backend in chain.storage.backends:
        backend.quick_check = quick_check
    service = probing(chain)
    chain.pass_time(3)
    assert chain.storage.takes_crashes
    assert chain.calls == [[], [], []]  # a glance is all
    full_now.append(True)
    chain.trouble(check=full())
    chain.pass_time(1)
    assert (chain.opened, chain.storage.takes_crashes) == ([True, True, True], False)
    chain.second.trouble.clear()
    chain.pass_time(1)
    assert (chain.opened, chain.storage.takes_crashes) == ([True, False, True], True)
    service.stopService()


def test_a_store_that_hangs_is_known_before_a_crash_comes(chain: Chain) -> None:
    chain.storage.backends[0].quick_check = Deferred
    service = probing(chain)
    chain.pass_time(6.5)
    assert chain.opened == [True, False, False]
    service.stopService()


def test_a_store_is_checked_now_and_then_while_it_seems_well(chain: Chain) -> None:
    service = probing(chain)
    chain.pass_time(9.5)
    assert chain.calls == [[], [], []]
    chain.first.trouble["check"] = full()
    chain.pass_time(1)
    assert chain.calls == [["check"], ["check"], ["check"]]
    assert chain.opened == [True, False, False]
    service.stopService()


def test_one_that_hangs_holds_up_no_other_probe(chain: Chain) -> None:
    service = probing(chain)
    for store in (chain.first, chain.second):
        store.trouble = {"save": StoreTimeout("hung"), "check": None}
    chain.save()
    chain.pass_time(1)
    assert chain.opened == [True, True, False]
    chain.second.trouble.clear()
    chain.second.hung.pop().callback(None)
    assert chain.opened == [True, False, False]
    service.stopService()


def test_stores_that_pass_each_check_and_keep_nothing(chain: Chain) -> None:
    chain.trouble(save=full())
    service = probing(chain)
    for refused in (1, 2, 3):
        waiting = chain.save()
        chain.pass_time(11)
        assert isinstance(error_in(waiting), AllStoresFailed)
        chain.pass_time(1)
        assert chain.opened == [False, False, False]
        assert chain.storage.takes_crashes == (refused < 3)
    chain.pass_time(10)
    assert chain.storage.takes_crashes  # worth a try
    waiting = chain.save()
    chain.pass_time(12)
    error_in(waiting)
    assert not chain.storage.takes_crashes
    chain.trouble()
    assert chain.save().result == "first"
    assert chain.storage.takes_crashes
    service.stopService()


def test_probes_never_overlap(chain: Chain) -> None:
    service = probing(chain)
    chain.first.trouble = {"save": StoreTimeout("hung"), "check": None}
    chain.save()
    chain.pass_time(20)
    asked = chain.first.calls.count("check")
    assert 2 <= asked <= 4  # each hangs for five seconds
    chain.first.trouble.clear()
    chain.pass_time(6)
    assert not chain.opened[0]
    service.stopService()


def test_the_probes_survive_whatever_comes(chain: Chain, logged_failures: list[LogEvent]) -> None:
    service = probing(chain)
    chain.first.trouble = {"save": StoreTimeout("hung"), "check": ValueError("odd")}
    chain.save()
    chain.pass_time(1)
    assert len(logged_failures) == 1
    logged_failures.clear()
    chain.first.trouble.clear()
    chain.pass_time(1)
    assert not chain.opened[0]
    service.stopService()


def test_close_goes_to_every_store(chain: Chain) -> None:
    closed = Deferred.fromCoroutine(chain.storage.close())
    assert closed.called
    assert [store.calls for store in chain.stores] == [["close"]] * 3


def test_a_store_that_can_not_be_closed_keeps_no_other_from_it(chain: Chain) -> None:
    chain.first.trouble = {"close": full()}
    closed = Deferred.fromCoroutine(chain.storage.close())
    reported: list[Failure] = []
    closed.addErrback(reported.append)
    assert [failure.type for failure in reported] == [StorageError]
    assert [store.calls for store in chain.stores] == [["close"]] * 3
