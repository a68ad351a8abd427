"""
Claims: of several processes that move crashes out of one store, one moves each, and a dead one hinders nobody.
"""

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from collectord.errors import StorageError
from collectord.model import Crash, NewCrash
from collectord.storage.filesystem.moving import MoveClaims
from collectord.storage.filesystem.source import FilesystemCrashSource
from collectord.storage.filesystem.staging import Modes, StagingDirectory
from tests.unit.intake.parts import result_of
from tests.unit.storage.filesystem.test_filesystem_in_hand import SAME_SECOND, ready
from tests.unit.storage.stores import (
    CRASH_ID,
    SLOT,
    Rig,
    at_once,
    dead,
    die,
    failing,
    is_kept,
    make_crash,
    make_rig,
    sweep_store,
)


@pytest.fixture
def claims(rig: Rig) -> MoveClaims:
    return MoveClaims(rig.staging, "moving")


@pytest.fixture
def another(rig: Rig) -> Iterator[Rig]:
    """Another process's store in the same place."""
    another = make_rig(rig.root)
    yield another
    another.staging.remove()


@pytest.fixture
def other(another: Rig) -> MoveClaims:
    """Of another process."""
    return MoveClaims(another.staging, "moving")


def claim_of(rig: Rig) -> Path:
    return Path(rig.staging.path) / f"{CRASH_ID}.moving"


def test_one_has_it_until_it_gives_it_up(claims: MoveClaims, other: MoveClaims) -> None:
    assert claims.take(CRASH_ID)
    assert not other.take(CRASH_ID)
    assert claims.take(CRASH_ID)  # once more
    claims.drop(CRASH_ID)
    claims.drop(CRASH_ID)
    assert other.take(CRASH_ID)
    assert not claims.take(CRASH_ID)


def test_who_does_not_get_it_leaves_nothing(rig: Rig, claims: MoveClaims, other: MoveClaims) -> None:
    assert other.take(CRASH_ID)
    assert not claims.take(CRASH_ID)
    assert not claim_of(rig).exists()


def test_of_two_at_the_same_time_none_has_it_rather_than_both(
    rig: Rig, claims: MoveClaims, other: MoveClaims, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = rig.staging.peers.listed
    theirs = []

    def meanwhile() -> list[str]:
        theirs.append(other.take(CRASH_ID))
        return listed()

    monkeypatch.setattr(rig.staging.peers, "listed", meanwhile)
    assert [claims.take(CRASH_ID), *theirs].count(True) <= 1


def test_claims_of_another_kind_do_not_count(another: Rig, claims: MoveClaims) -> None:
    assert MoveClaims(another.staging, "publishing").take(CRASH_ID)
    assert claims.take(CRASH_ID)


def test_a_claim_dies_with_its_owner_and_is_swept(rig: Rig, claims: MoveClaims) -> None:
    other = make_rig(rig.root)
    assert MoveClaims(other.staging, "moving").take(CRASH_ID)
    die(other.staging)
    assert claims.take(CRASH_ID)
    sweep_store(rig.root)
    assert not os.path.exists(other.staging.path)


@pytest.mark.parametrize(("age", "taken"), [(0, False), (200, False), (400, True)])
def test_a_claim_dies_with_its_host(rig: Rig, claims: MoveClaims, age: float, taken: bool) -> None:
    """Its lock may not be seen here, but its store is checked every ten seconds. The clock is that of the disk."""
    elsewhere = dead(rig.root, "elsewhere-99999-00c0ffee")
    (elsewhere / f"{CRASH_ID}.moving").touch()
    then = time.time() - age
    os.utime(elsewhere, (then, then))
    assert claims.take(CRASH_ID) == taken


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_emptied_all_the_same(rig: Rig, claims: MoveClaims, number: int) -> None:
    with failing(rig.root, "open", 1, OSError(number, "full")):
        assert claims.take(CRASH_ID)
    with failing(rig.root, "open", 1, OSError(errno.EIO, "broken")), pytest.raises(OSError, match="broken"):
        claims.take(CRASH_ID)


# ——— a source with claims ———


def source_of(rig: Rig) -> FilesystemCrashSource:
    return FilesystemCrashSource(str(rig.root), at_once, Clock(), lambda: SAME_SECOND, 60.0, ready, rig.staging)


def new_in(rig: Rig) -> NewCrash:
    return NewCrash(CRASH_ID, f"{rig.root}/{SLOT}")


def load(source: FilesystemCrashSource, rig: Rig) -> Crash | None:
    return result_of(source.load(new_in(rig)))


@pytest.fixture
def kept(rig: Rig) -> Rig:
    rig.save(rig.transaction(make_crash()))
    return rig


def test_two_processes_do_not_move_one_crash(kept: Rig, another: Rig) -> None:
    here, there = source_of(kept), source_of(another)
    assert load(here, kept) is not None
    assert load(there, kept) is None
    result_of(here.release(new_in(kept)))
    assert load(there, kept) is not None


@pytest.mark.parametrize("keep", [False, True])
def test_what_another_process_has_moved_is_not_moved_again(kept: Rig, another: Rig, keep: bool) -> None:
    here, there = source_of(kept), source_of(another)
    crash = load(here, kept)
    assert crash is not None
    result_of(here.remove(new_in(kept), crash, keep=keep))
    assert not claim_of(kept).exists()
    assert load(there, kept) is None
    assert load(here, kept) is None
    assert not claim_of(kept).exists()


def test_what_can_t_be_removed_stays_claimed(kept: Rig, another: Rig) -> None:
    """It is delivered, and another process would deliver it once more."""
    here, there = source_of(kept), source_of(another)
    crash = load(here, kept)
    assert crash is not None
    record = Path(another.staging.intent_record(CRASH_ID))
    record.touch()
    with pytest.raises(StorageError, match="has this crash in hand"):
        result_of(here.remove(new_in(kept), crash, keep=False))
    record.unlink()
    assert load(there, kept) is None
    assert load(here, kept) is not None
    result_of(here.remove(new_in(kept), crash, keep=False))
    assert not claim_of(kept).exists()
    assert not is_kept(kept.root)


@pytest.mark.parametrize("keep", [False, True])
def test_whether_it_is_gone(kept: Rig, another: Rig, keep: bool) -> None:
    here, there = source_of(kept), source_of(another)
    crash = load(here, kept)
    assert crash is not None
    assert not result_of(here.is_gone(new_in(kept), crash))
    result_of(there.remove(new_in(kept), crash, keep=keep))
    assert result_of(here.is_gone(new_in(kept), crash))


def test_what_is_put_aside_is_not_claimed_any_more(kept: Rig) -> None:
    source = source_of(kept)
    assert load(source, kept) is not None
    result_of(source.quarantine(new_in(kept), "refused"))
    assert not claim_of(kept).exists()


def test_a_claim_that_can_t_be_given_up_raises_nothing(kept: Rig) -> None:
    source = source_of(kept)
    assert load(source, kept) is not None
    with failing(kept.root, "unlink", 1, OSError(errno.EIO, "broken")):
        result_of(source.release(new_in(kept)))


def test_a_staging_directory_that_is_gone_is_an_error(tmp_path: Path) -> None:
    staging = StagingDirectory(str(tmp_path / "crashes"), Modes())
    with pytest.raises(FileNotFoundError):
        MoveClaims(staging, "moving").take(CRASH_ID)
