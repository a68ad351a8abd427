"""
The chain of stores, by a clock: who is tried when, and what a crash waits for.
"""

from itertools import pairwise

import pytest
from twisted.internet.defer import CancelledError
from twisted.logger import formatEvent
from zope.interface.verify import verifyObject

from collectord.errors import AllStoresFailed, CrashRejectedByStore, StorageError, TimedOut
from collectord.interfaces import ICrashStorage, IDumpStaging, IStagedDump
from collectord.model import MINIDUMP
from collectord.storage.chain.backend import CHECK_S
from tests.unit.intake.parts import recorded_log
from tests.unit.storage.chain.fickle import Chain, crash_with, error_in, full
from tests.unit.storage.stores import CRASH_ID, started, value_of


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


def test_crashes_that_a_store_rejects_do_not_open_the_circuit(chain: Chain) -> None:
    chain.first.trouble["save"] = CrashRejectedByStore("not this one")
    for _ in range(4):
        assert chain.save().result == "second"
    assert chain.opened == [False, False, False]


def test_three_failures_in_a_row_open_the_circuit(chain: Chain) -> None:
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


def test_a_timeout_opens_the_circuit_at_once(chain: Chain) -> None:
    chain.first.trouble["save"] = TimedOut("hung")
    assert chain.save().result == "second"
    assert chain.opened == [True, False, False]


def test_a_store_that_is_given_up_is_named_once(chain: Chain) -> None:
    name = chain.storage.backends[0].name
    chain.first.trouble["save"] = TimedOut(f"{name}: hung")
    with recorded_log() as log:
        chain.save()
    (told,) = [text for text in map(formatEvent, log.events) if "until it works" in text]
    assert told == f"{name} is not used until it works again; last: hung"


def test_a_probe_takes_it_back(chain: Chain) -> None:
    chain.first.trouble = {"save": TimedOut("hung"), "check": full()}
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
    chain.first.trouble = {"save": TimedOut("hung"), "check": None}
    chain.save()
    probing = started(chain.storage.probe())
    assert not probing.called
    chain.pass_time(CHECK_S + 0.1)
    assert probing.called
    assert chain.opened[0]


def test_an_earlier_crash_that_comes_through_takes_it_back(chain: Chain) -> None:
    chain.first.trouble["save"] = None
    late = chain.save()
    chain.first.trouble["save"] = TimedOut("hung")
    chain.save()
    assert chain.opened[0]
    chain.first.trouble.clear()
    chain.first.hung[0].callback(None)
    assert late.result == "first"
    assert not chain.opened[0]


# How long a crash waits.


def test_all_stores_are_tried_again_for_a_while(chain: Chain) -> None:
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


def test_each_crash_waits_for_itself(chain: Chain) -> None:
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


def test_a_spilled_dump_lies_beside_its_crash(chain: Chain) -> None:
    dump = chain.spilled(b"one", b"two")
    assert chain.storage.owns(dump.content())
    assert chain.save(crash_with(dump, b"onetwo")).result == "first"
    assert chain.first.saved.popitem()[1] == {"small": b"in memory", MINIDUMP: b"onetwo"}
    assert [len(store.dumps) for store in chain.stores] == [1, 0, 0]
    dump.discard()
    assert chain.first.dumps[0].discarded == 1


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
    chain.second.trouble["append"] = TimedOut("hung")
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
    before = value_of("broken_copies_total", home.name)
    error = error_in(chain.save(crash_with(dump, b"onetwo")))
    assert isinstance(error, AllStoresFailed)
    assert "it was received with" in str(error)
    assert value_of("broken_copies_total", home.name) == before + 1
    assert [store.saved for store in chain.stores] == [{}, {}, {}]
    assert [dump.discarded for dump in home.dumps] == ([0, 1] if where != "second" else [0])


@pytest.mark.parametrize("error", [full(), TimedOut("hung")])
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


# Checks and probes.


def test_check(chain: Chain) -> None:
    assert started(chain.storage.check()).result == {"stores": 3, "healthy": 3}
    chain.first.trouble["check"] = full()
    assert started(chain.storage.check()).result == {"stores": 3, "healthy": 2}
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


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_crash_is_there_if_a_store_that_works_has_it(chain: Chain, number: int) -> None:
    assert started(chain.storage.has(CRASH_ID)).result is False
    assert chain.calls == [["has", "has"], ["has"], ["has"]]
    store = chain.stores[number]
    store.saved[CRASH_ID] = {}
    assert started(chain.storage.has(CRASH_ID)).result is True
    store.trouble["has"] = full()
    assert started(chain.storage.has(CRASH_ID)).result is False
    store.trouble["has"] = None
    there = started(chain.storage.has(CRASH_ID))
    chain.pass_time(10.1)
    assert there.result is False
    del store.trouble["has"]
    chain.storage.backends[number].breaker.failed(fatal=True)
    assert started(chain.storage.has(CRASH_ID)).result is False


def test_any_store_may_know_what_was_erased(chain: Chain) -> None:
    """The one that knows may have been another one of the chain when the crash was erased."""
    assert started(chain.storage.was_erased(CRASH_ID)).result is False
    assert chain.calls == [["was_erased"]] * 3
    for store in chain.stores:
        store.erased.add(CRASH_ID)
        assert started(chain.storage.was_erased(CRASH_ID)).result is True
        store.erased.clear()


@pytest.mark.parametrize("number", [0, 2])
def test_while_a_store_does_not_work_any_crash_may_have_been_erased(chain: Chain, number: int) -> None:
    store = chain.stores[number]
    store.trouble["was_erased"] = full()
    assert started(chain.storage.was_erased(CRASH_ID)).result is True
    store.trouble["was_erased"] = None
    asked = started(chain.storage.was_erased(CRASH_ID))
    chain.pass_time(5.1)
    assert asked.result is True
    del store.trouble["was_erased"]
    assert started(chain.storage.was_erased(CRASH_ID)).result is False
    chain.storage.backends[number].breaker.failed(fatal=True)
    assert started(chain.storage.was_erased(CRASH_ID)).result is True


def test_it_waits_for_the_discards_of_each_store(chain: Chain) -> None:
    chain.second.trouble["wait_for_discards"] = None
    wait_for_discards = started(chain.storage.wait_for_discards())
    assert chain.calls == [["wait_for_discards"]] * 3
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
    assert started(chain.storage.check()).result == {"stores": 3, "healthy": 3}
