"""
The probes of a chain, by a clock.
"""

from twisted.internet.defer import Deferred
from twisted.logger import LogEvent
from twisted.python.failure import Failure

from collectord.errors import AllStoresFailed, StorageError, TimedOut
from collectord.storage.chain.probe import ProbeService
from tests.unit.storage.chain.fickle import Chain, error_in, full


def probing(chain: Chain) -> ProbeService:
    service = ProbeService(chain.storage, chain.clock)
    service.startService()
    return service


def test_the_probes_come_every_second(chain: Chain) -> None:
    service = probing(chain)
    chain.pass_time(3)
    assert chain.calls == [[], [], []]
    chain.first.trouble = {"save": TimedOut("hung"), "check": full()}
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
        store.trouble = {"save": TimedOut("hung"), "check": None}
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
    chain.first.trouble = {"save": TimedOut("hung"), "check": None}
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
    chain.first.trouble = {"save": TimedOut("hung"), "check": ValueError("odd")}
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
