"""
A crash that is taken out of its place, and one that nobody else may put there meanwhile.
"""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from collectord.storage.filesystem.claims import claimed
from collectord.storage.filesystem.claims import take_out as take_out_of
from collectord.storage.filesystem.peers import CrashContended
from collectord.storage.filesystem.staging import Modes, StagingDirectory
from tests.unit.storage.stores import (
    CRASH_ID,
    NAMES,
    RECORD,
    Rig,
    dead,
    failing,
    is_kept,
    make_crash,
    make_rig,
    watched,
)

CONTENT = b"a raw crash"


@pytest.fixture
def raw_crash(rig: Rig) -> Path:
    path = rig.root / NAMES / f"{CRASH_ID}.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    return path


def taken(rig: Rig) -> Path:
    return Path(rig.staging.intent_record(CRASH_ID))


def take_out(rig: Rig, raw_crash: Path) -> None:
    take_out_of(rig.staging, CRASH_ID, str(raw_crash))


@pytest.fixture
def other(rig: Rig) -> StagingDirectory:
    """Of another process on the same root."""
    staging = StagingDirectory(str(rig.root), Modes())
    staging.make()
    return staging


def test_it_lies_in_the_staging_directory_then(rig: Rig, raw_crash: Path) -> None:
    take_out(rig, raw_crash)
    assert not raw_crash.exists()
    assert taken(rig).read_bytes() == CONTENT


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK])
def test_without_hard_links_too(rig: Rig, raw_crash: Path, number: int) -> None:
    with failing(rig.root, "link", 1, OSError(number, os.strerror(number))):
        take_out(rig, raw_crash)
    assert not raw_crash.exists()
    assert taken(rig).read_bytes() == CONTENT


def test_without_hard_links_others_see_it_before_it_goes(rig: Rig, raw_crash: Path) -> None:
    seen = []

    def happen(number: int, name: str, do: Callable[[], Any]) -> Any:
        if name == "link":
            raise OSError(errno.EPERM, "Operation not permitted")
        seen.append(taken(rig).exists())
        return do()

    with watched(rig.root, ["link", "rename"], happen):
        take_out(rig, raw_crash)
    assert seen == [True]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_where_the_disk_is_full_it_is_just_removed(rig: Rig, raw_crash: Path, number: int) -> None:
    with failing(rig.root, "link", 1, OSError(number, os.strerror(number))):
        take_out(rig, raw_crash)
    assert not raw_crash.exists()
    assert not taken(rig).exists()


def test_one_that_is_not_there(rig: Rig) -> None:
    with pytest.raises(FileNotFoundError):
        take_out(rig, rig.root / NAMES / f"{CRASH_ID}.json")
    assert not taken(rig).exists()


def test_without_its_staging_directory_it_stays(rig: Rig, raw_crash: Path) -> None:
    away = f"{rig.staging.path}-away"
    os.rename(rig.staging.path, away)
    with pytest.raises(OSError, match="the staging directory is gone") as caught:
        take_out(rig, raw_crash)
    os.rename(away, rig.staging.path)
    assert caught.value.errno == errno.EIO
    assert raw_crash.read_bytes() == CONTENT


def test_one_that_comes_once_more_just_now_stays(rig: Rig, raw_crash: Path) -> None:
    taken(rig).write_bytes(b"of the one that comes")
    with pytest.raises(CrashContended, match="keeps it once more") as caught:
        take_out(rig, raw_crash)
    assert caught.value.errno == errno.EBUSY
    assert raw_crash.read_bytes() == CONTENT
    assert taken(rig).read_bytes() == b"of the one that comes"


def test_one_that_can_t_be_taken_away_stays_and_is_not_in_doubt(rig: Rig, raw_crash: Path) -> None:
    with failing(rig.root, "unlink", 1, OSError(errno.EIO, "broken")), pytest.raises(OSError, match="broken"):
        take_out(rig, raw_crash)
    assert raw_crash.read_bytes() == CONTENT
    assert not taken(rig).exists()


def test_while_it_is_claimed_no_process_puts_it_in_its_place(rig: Rig) -> None:
    theirs = make_rig(rig.root)
    first, second = theirs.transaction(make_crash()), theirs.transaction(make_crash())
    with claimed(rig.staging, CRASH_ID):
        theirs.save(first)
    theirs.save(second)
    [refused, kept] = theirs.errors(first, second)
    assert (refused is not None and refused.errno, kept) == (errno.EBUSY, None)
    assert is_kept(rig.root)
    theirs.staging.remove()


def test_what_another_process_just_keeps_can_t_be_claimed(rig: Rig, other: StagingDirectory) -> None:
    """Its staging directory was made since this one looked last."""
    staged = Path(other.intent_record(CRASH_ID))
    staged.write_bytes(CONTENT)
    with pytest.raises(CrashContended, match="has this crash in hand, too") as caught, claimed(rig.staging, CRASH_ID):
        raise AssertionError("it was claimed")
    assert caught.value.errno == errno.EBUSY
    assert not taken(rig).exists()
    staged.unlink()
    with claimed(rig.staging, CRASH_ID):
        assert taken(rig).exists()
    assert not taken(rig).exists()
    other.remove()


def test_without_locks_what_a_process_left_can_t_be_claimed(rig: Rig) -> None:
    """It was left long ago, but nobody can see whether a sweep is at work on the crash just now."""
    rig.staging.peers.locks = False
    left = dead(rig.root)
    (left / f"{CRASH_ID}.json").write_text(RECORD)
    os.utime(left, (0, 0))
    with pytest.raises(CrashContended, match="has this crash in hand, too"), claimed(rig.staging, CRASH_ID):
        raise AssertionError("it was claimed")


def test_what_was_claimed_is_free_again_after_an_error(rig: Rig) -> None:
    with pytest.raises(ValueError, match="mine"), claimed(rig.staging, CRASH_ID):
        raise ValueError("mine")
    assert not taken(rig).exists()


def test_what_this_process_just_keeps_can_t_be_claimed(rig: Rig) -> None:
    taken(rig).write_bytes(CONTENT)
    with pytest.raises(FileExistsError), claimed(rig.staging, CRASH_ID):
        raise AssertionError("it was claimed")
    assert taken(rig).read_bytes() == CONTENT
