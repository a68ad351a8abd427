"""
How long crashes wait for a store, and how many, by a clock.
"""

from collections.abc import Callable

import pytest
from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from zope.interface.verify import verifyObject

from collectord.errors import AllStoresFailed, TimedOut
from collectord.interfaces import IDumpStaging
from collectord.model import MINIDUMP, Crash
from collectord.storage.chain.waitingroom import WaitingRoom
from tests.unit.storage.chain.fickle import Chain, crash_with, error_in, full
from tests.unit.storage.stores import make_crash, started

KIB = 1024
ROOM = 100 * KIB
"""What may wait: six crashes without dumps."""


@pytest.fixture
def patient(chain: Chain) -> Chain:
    """Crashes wait until 40 seconds after their clients began, which is at 0 if nothing else is said."""
    chain.storage.waiting_room = WaitingRoom(chain.clock, seconds=40.0, limit=ROOM)
    chain.trouble(save=full(), append=full())
    return chain


def crash(began: float = 0.0, size: int = 0) -> Crash:
    return evolve(make_crash(dumps={MINIDUMP: bytes(size)}), began=began)


def heal(chain: Chain) -> None:
    chain.trouble()
    started(chain.storage.probe())


def refused_at(chain: Chain, saving: Deferred[str]) -> int:
    """In which second it is answered, at the latest a minute from now."""
    end = chain.clock.seconds() + 60
    while not saving.called and chain.clock.seconds() < end:
        chain.pass_time(0.1)
    assert isinstance(error_in(saving), AllStoresFailed)
    return round(chain.clock.seconds())


# From when it counts.


@pytest.mark.parametrize("upload", [0, 1, 25, 39])
def test_it_counts_from_when_the_client_began(patient: Chain, upload: float) -> None:
    patient.pass_time(upload)
    assert refused_at(patient, patient.save(crash())) == 40


@pytest.mark.parametrize("upload", [40.5, 100])
def test_who_took_longer_to_send_it_is_tried_nevertheless(patient: Chain, upload: float) -> None:
    patient.pass_time(upload)
    saving = patient.save(crash())
    assert patient.calls == [["save"], ["save"], ["save"]]
    assert isinstance(error_in(saving), AllStoresFailed)
    patient.third.trouble.clear()
    assert patient.save(crash()).result == "third"


@pytest.mark.parametrize("after", [0.2, 12, 39.5])
def test_a_store_that_is_well_in_time(patient: Chain, after: float) -> None:
    saving = patient.save(crash())
    patient.pass_time(after)
    heal(patient)
    patient.pass_time(2.1)
    assert saving.result == "first"
    assert patient.clock.getDelayedCalls() == []


def test_the_last_try_is_at_the_end(patient: Chain) -> None:
    saving = patient.save(crash())
    patient.pass_time(39.9)
    heal(patient)
    patient.pass_time(0.2)
    assert saving.result == "first"


@pytest.mark.parametrize("seconds", [0.0, 5.0])
def test_other_seconds_count_for_those_that_wait(patient: Chain, seconds: float) -> None:
    saving = patient.save(crash())
    patient.pass_time(3)
    patient.storage.waiting_room.seconds = seconds
    assert refused_at(patient, saving) <= 5


def test_without_patience_each_store_is_tried_once(patient: Chain) -> None:
    patient.storage.waiting_room.seconds = 0.0
    assert isinstance(error_in(patient.save(crash())), AllStoresFailed)
    assert patient.calls == [["save"], ["save"], ["save"]]


def test_a_crash_of_no_client_counts_from_now(patient: Chain) -> None:
    patient.pass_time(30)
    assert refused_at(patient, patient.save()) == 70


def test_a_dump_that_is_spilled_waits_as_long_as_its_crash(patient: Chain) -> None:
    patient.pass_time(25)
    staging = patient.storage.staging_for(began=5.0)
    spilling = started(staging.new_dump().append([b"one"]))
    patient.pass_time(19.9)
    assert not spilling.called
    patient.pass_time(0.2)
    assert isinstance(error_in(spilling), AllStoresFailed)


def test_a_dump_and_its_crash_are_spilled_and_kept_in_time(patient: Chain) -> None:
    staging = patient.storage.staging_for(began=0.0)
    dump = staging.new_dump()
    spilling = started(dump.append([b"one"]))
    patient.pass_time(20)
    assert not spilling.called
    heal(patient)
    patient.pass_time(2.1)
    assert spilling.called
    assert staging.owns(dump.content())
    assert patient.save(crash_with(dump, b"one")).result == "first"


def test_the_staging_area_of_an_upload_is_that_of_the_chain(patient: Chain) -> None:
    staging = patient.storage.staging_for(began=0.0)
    verifyObject(IDumpStaging, staging)
    patient.second.staging_id = "its"
    assert started(staging.is_shared_by(["its"])).result is True
    started(staging.wait_for_discards())
    assert [store.calls[-1] for store in patient.stores] == ["wait_for_discards"] * 3


# How many wait.


def waiting(savings: list[Deferred[str]]) -> list[bool]:
    return [not saving.called for saving in savings]


def swallow(savings: list[Deferred[str]]) -> None:
    for saving in savings:
        saving.addErrback(lambda failure: failure.trap(AllStoresFailed))


def test_crashes_without_dumps_take_memory_too(patient: Chain) -> None:
    savings = [patient.save(crash()) for _ in range(8)]
    assert waiting(savings) == [True] * 6 + [False] * 2
    why = error_in(savings[-1])
    assert str(why) == "every store failed, and other crashes that wait take all the memory for that"
    swallow(savings)


def test_the_newest_is_refused_at_once_when_memory_is_short(patient: Chain) -> None:
    savings = [patient.save(crash(size=30 * KIB)) for _ in range(3)]
    assert waiting(savings) == [True, True, False]
    assert patient.calls == [["save"] * 3] * 3, "it was tried nevertheless"
    heal(patient)
    patient.pass_time(2.1)
    assert waiting(savings) == [False] * 3
    assert len(patient.first.saved) + len(patient.second.saved) + len(patient.third.saved) >= 1
    swallow(savings)


def heals(chain: Chain, saving: Deferred[str]) -> None:
    heal(chain)
    chain.pass_time(2.1)
    assert saving.result == "first"


def is_refused(chain: Chain, saving: Deferred[str]) -> None:
    chain.pass_time(41)
    assert isinstance(error_in(saving), AllStoresFailed)


def is_cancelled(chain: Chain, saving: Deferred[str]) -> None:
    saving.cancel()
    assert isinstance(error_in(saving), CancelledError)


@pytest.mark.parametrize("ends", [heals, is_refused, is_cancelled])
def test_what_waits_no_longer_makes_room(patient: Chain, ends: Callable[[Chain, Deferred[str]], None]) -> None:
    ends(patient, patient.save(crash(size=80 * KIB)))
    patient.trouble(save=full())
    now = patient.clock.seconds()
    savings = [patient.save(crash(began=now, size=80 * KIB)), patient.save(crash(began=now))]
    assert waiting(savings) == [True, False]
    swallow(savings)


def test_one_may_always_wait(patient: Chain) -> None:
    saving = patient.save(crash(size=10 * ROOM))
    patient.pass_time(12)
    heal(patient)
    patient.pass_time(2.1)
    assert saving.result == "first"


def test_each_is_counted_once_however_often_it_is_tried(patient: Chain) -> None:
    savings = [patient.save(crash(size=40 * KIB))]
    patient.pass_time(20)
    savings.append(patient.save(crash(size=20 * KIB)))
    assert waiting(savings) == [True, True]
    swallow(savings)


def test_a_spilled_dump_takes_no_memory(patient: Chain) -> None:
    patient.trouble()
    dump = patient.spilled(bytes(90 * KIB))
    patient.trouble(save=full())
    savings = [patient.save(crash_with(dump, bytes(90 * KIB))), patient.save(crash(size=50 * KIB))]
    assert waiting(savings) == [True, True]
    swallow(savings)


def test_what_waits_to_be_spilled_takes_memory(patient: Chain) -> None:
    spilling = started(patient.storage.new_dump().append([bytes(40 * KIB), bytes(40 * KIB)]))
    assert not spilling.called
    saving = patient.save(crash())
    assert isinstance(error_in(saving), AllStoresFailed)


# The stop.


def test_a_stop_ends_the_waiting_at_once(patient: Chain) -> None:
    savings = [patient.save(crash()) for _ in range(3)]
    patient.pass_time(5)
    patient.storage.waiting_room.end()
    patient.clock.advance(0)
    for saving in savings:
        assert str(error_in(saving)) == "every store failed"
    assert patient.clock.getDelayedCalls() == []


def test_what_comes_during_a_stop_is_tried_once(patient: Chain) -> None:
    patient.storage.waiting_room.end()
    assert isinstance(error_in(patient.save(crash())), AllStoresFailed)
    assert patient.calls == [["save"], ["save"], ["save"]]
    patient.second.trouble.clear()
    assert patient.save(crash()).result == "second"


def test_what_waits_is_tried_once_more_at_a_stop(patient: Chain) -> None:
    saving = patient.save(crash())
    patient.pass_time(5)
    heal(patient)
    patient.storage.waiting_room.end()
    patient.clock.advance(0)
    assert saving.result == "first"


def test_a_try_that_has_begun_is_not_cut_short_by_a_stop(patient: Chain) -> None:
    patient.first.trouble["save"] = None
    saving = patient.save(crash())
    patient.storage.waiting_room.end()
    patient.clock.advance(0)
    assert not saving.called
    patient.first.hung[0].callback(None)
    assert saving.result == "first"


# What is told meanwhile.


def test_stores_that_fail_are_told_long_before_the_crash_is_refused(patient: Chain) -> None:
    saving = patient.save(crash())
    patient.pass_time(1)
    assert (patient.opened, patient.storage.takes_crashes) == ([True] * 3, False)
    assert not saving.called
    swallow([saving])


def test_so_are_stores_that_pass_each_check_and_keep_nothing(patient: Chain) -> None:
    savings = [patient.save(crash()) for _ in range(3)]
    told_at = []
    while patient.clock.seconds() < 39:
        patient.pass_time(0.1)
        started(patient.storage.probe())
        if not patient.storage.takes_crashes:
            told_at.append(patient.clock.seconds())
    assert 10 <= told_at[0] < 13
    assert len(told_at) == pytest.approx((39 - told_at[0]) * 10, abs=2), "from then on, all the time"
    assert waiting(savings) == [True] * 3
    heal(patient)
    patient.pass_time(2.1)
    assert patient.storage.takes_crashes
    swallow(savings)


def test_a_single_crash_that_no_store_takes_is_no_alarm(patient: Chain) -> None:
    saving = patient.save(crash())
    for _ in range(390):
        patient.pass_time(0.1)
        started(patient.storage.probe())
        assert patient.storage.takes_crashes
    assert not saving.called
    swallow([saving])


@pytest.mark.parametrize("error", [full(), TimedOut("hung")])
def test_refusals_for_want_of_memory_are_told(patient: Chain, error: Exception) -> None:
    patient.trouble(save=error)
    savings = [patient.save(crash(size=90 * KIB)) for _ in range(4)]
    heal(patient)
    assert (waiting(savings), patient.storage.takes_crashes) == ([True, False, False, False], False)
    swallow(savings)
