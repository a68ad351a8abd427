"""
A crash is erased from a store, all of it; a kill at any time leaves it whole, or what is erased with the next try.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from collectord.storage.filesystem.erasing import erase
from collectord.storage.filesystem.layout import place_in
from collectord.storage.filesystem.peers import CrashContended
from collectord.storage.filesystem.quarantine import make_directory
from tests.unit.storage.stores import (
    CRASH_ID,
    NEIGHBOUR,
    Rig,
    die,
    everything,
    failing,
    in_reactor,
    is_kept,
    make_crash,
    make_rig,
    make_store,
    noted_syncs,
    of_crash,
    sweep_store,
)


def fill(rig: Rig) -> None:
    """A crash in its place, twice in the quarantine, and to be published; beside it another one."""
    rig.save(rig.transaction(make_crash()))
    rig.save(rig.transaction(make_crash(NEIGHBOUR)))
    place = place_in(str(rig.root), CRASH_ID, "")
    for _ in range(2):
        directory = make_directory(place, [], "broken", "2016-06-22T15:20:00+00:00", os.mkdir)
        os.link(place.raw_crash, f"{directory}/{CRASH_ID}.json")
    for part in ("20160622T1519", "refused"):
        (rig.root / "unpublished" / "redis" / part).mkdir(parents=True)
        os.link(place.raw_crash, rig.root / "unpublished" / "redis" / part / f"{CRASH_ID}.json")


def test_all_of_it_goes_and_nothing_else(rig: Rig) -> None:
    fill(rig)
    with noted_syncs() as synced:
        assert erase(CRASH_ID, rig.staging)
    assert of_crash(rig.root) == []
    assert is_kept(rig.root, NEIGHBOUR)
    for where in ("20160622/name/8f/63", "20160622/date/15/19_49", "quarantine", "unpublished/redis/refused"):
        assert str(rig.root / where) in synced
    before = everything(rig.root)
    assert not erase(CRASH_ID, rig.staging)
    assert everything(rig.root) == before


def test_a_crash_that_somebody_has_in_hand_stays(rig: Rig) -> None:
    fill(rig)
    other = make_rig(rig.root)
    record = Path(other.staging.intent_record(CRASH_ID))
    record.touch()
    with pytest.raises(CrashContended):
        erase(CRASH_ID, rig.staging)
    record.unlink()
    assert os.path.exists(place_in(str(rig.root), CRASH_ID, "").raw_crash)
    assert erase(CRASH_ID, rig.staging)
    other.staging.remove()


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def copies(tmp_path: Path) -> Callable[[], Rig]:
    """Stores of their own, one after the other."""
    numbers = iter(range(1000))
    return lambda: make_rig(tmp_path / f"copy{next(numbers)}")


@pytest.mark.slow
def test_a_kill_at_any_step_leaves_what_the_next_try_erases(copies: Callable[[], Rig]) -> None:
    steps = 0
    for operation in ("link", "unlink", "fsync"):
        for number in range(1, 40):
            rig = copies()
            rig.save(rig.transaction(make_crash()))
            try:
                with failing(rig.root, operation, number, Killed()):  # type: ignore[arg-type]
                    erase(CRASH_ID, rig.staging)
            except Killed:
                steps += 1
                die(rig.staging)
                sweep_store(rig.root)
                is_kept(rig.root)  # whole, or absent
                second = make_rig(rig.root)
                erase(CRASH_ID, second.staging)
                second.staging.remove()
                assert of_crash(rig.root) == []
                continue
            break
    assert steps > 6


@in_reactor
async def test_a_destination_erases_too(tmp_path: Path) -> None:
    store = make_store(tmp_path / "there")
    await store.check()
    await store.save(make_crash())
    assert await store.erase(CRASH_ID)
    assert not await store.erase(CRASH_ID)
    assert of_crash(tmp_path / "there") == []
