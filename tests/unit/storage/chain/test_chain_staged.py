"""
A dump that is spilled to a chain: it moves on, whole, while stores fail.
"""

import pytest

from collectord.errors import StorageError, TimedOut
from collectord.model import MINIDUMP
from tests.unit.storage.chain.fickle import Chain, crash_with, error_in, full
from tests.unit.storage.stores import started


def test_nothing_is_asked_for_before_the_first_append(chain: Chain) -> None:
    dump = chain.storage.new_dump()
    dump.discard()
    assert (chain.calls, chain.first.dumps) == ([[], [], []], [])


@pytest.mark.parametrize("before", [0, 1, 2])
@pytest.mark.parametrize("error", [full(), TimedOut("hung"), None])
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
    assert chain.opened == [not isinstance(error, StorageError) or isinstance(error, TimedOut), False, False]
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
    chain.first.trouble.update(append=TimedOut("hung"), read=full())
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
