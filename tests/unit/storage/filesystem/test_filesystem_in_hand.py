"""
What is promised of a crash that two have in hand at a time: movers, stores, sweeps, in one process or in several.
"""

import errno
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from collectord.errors import StorageError
from collectord.model import Crash, NewCrash
from collectord.storage.filesystem.source import FilesystemCrashSource
from collectord.storage.filesystem.staging import StagingDirectory
from collectord.storage.filesystem.sweep import Swept, sweep
from collectord.storage.filesystem.sync import File, sync_each
from tests.support.wait import until
from tests.unit.intake.parts import result_of
from tests.unit.storage.stores import (
    CRASH_ID,
    NAMES,
    SLOT,
    Gate,
    Rig,
    at_once,
    die,
    error_of,
    failing,
    in_reactor,
    is_kept,
    make_crash,
    make_rig,
    make_store,
    of_crash,
    started,
    watched,
)

SAME_SECOND = datetime(2016, 6, 22, 15, 19, 50, tzinfo=UTC)
RAW_CRASH = f"{NAMES}/{CRASH_ID}.json"


async def ready() -> None:
    """The store is."""


def new_in(root: Path) -> NewCrash:
    return NewCrash(CRASH_ID, f"{root}/{SLOT}")


def source_with(staging: StagingDirectory, root: Path) -> FilesystemCrashSource:
    return FilesystemCrashSource(str(root), at_once, Clock(), lambda: SAME_SECOND, 60.0, ready, staging)


def loaded(source: FilesystemCrashSource) -> Crash:
    crash = result_of(source.load(new_in(Path(source.name))))
    assert crash is not None
    return crash


def is_removed(source: FilesystemCrashSource, crash: Crash) -> bool:
    try:
        result_of(source.remove(new_in(Path(source.name)), crash, keep=False))
    except StorageError:
        return False
    return True


def is_saved(rig: Rig, crash: Crash) -> bool:
    transaction = rig.transaction(crash)
    rig.save(transaction)
    return rig.errors(transaction) == [None]


def rest() -> None:
    """So that a thread could do what it should not."""
    time.sleep(0.2)


@pytest.fixture
def another(rig: Rig) -> Iterator[Rig]:
    """Another process's store in the same place."""
    another = make_rig(rig.root)
    yield another
    another.staging.remove()


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Rig]:
    """A store in another place."""
    far = make_rig(tmp_path / "far")
    yield far
    far.staging.remove()


@pytest.mark.parametrize("first", ["here", "far"])
def test_two_that_move_crashes_to_each_other_keep_one(rig: Rig, far: Rig, first: str) -> None:
    """Each of two hosts has the other's store as its fallback, or relays to the other."""
    here_source, far_source = source_with(rig.staging, rig.root), source_with(far.staging, far.root)
    assert is_saved(rig, make_crash())
    moved = loaded(here_source)
    assert is_saved(far, moved)
    moved_back = loaded(far_source)
    assert is_saved(rig, moved_back)
    ends = [(here_source, moved), (far_source, moved_back)]
    removed = [is_removed(source, crash) for source, crash in (ends if first == "here" else reversed(ends))]
    assert removed == ([False, True] if first == "here" else [True, False])
    assert is_kept(rig.root)
    assert not is_kept(far.root)
    assert is_saved(far, loaded(here_source))
    assert is_removed(here_source, loaded(here_source))
    assert is_kept(far.root)


@in_reactor
async def test_what_is_moved_to_where_it_lies_stays_though_nobody_noticed(root: Path, tmp_path: Path) -> None:
    store = make_store(root)
    await store.check()
    await store.save(make_crash())
    (tmp_path / "another path").symlink_to(root)
    same = make_store(tmp_path / "another path")
    await same.check()
    source = source_with(store.directory, root)
    crash = await source.load(new_in(root))
    assert crash is not None
    await same.save(crash)
    assert "somebody counts on it" in str(await error_of(source.remove(new_in(root), crash, keep=False)))
    assert is_kept(root)
    await store.close()
    await same.close()


def test_what_took_the_place_of_what_was_moved_stays(rig: Rig, another: Rig) -> None:
    """Another process has moved the first; then its id came again, with other dumps."""
    source = source_with(rig.staging, rig.root)
    assert is_saved(rig, make_crash())
    crash = loaded(source)
    assert is_removed(source_with(another.staging, rig.root), crash)
    assert is_saved(another, make_crash(dumps={"other": b"other"}))
    assert not is_removed(source, crash)
    assert is_kept(rig.root, dumps={"other": b"other"})


def test_who_may_not_mark_a_crash_is_told_that_it_is_there_nevertheless(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def utime(*args: object, **kwargs: object) -> None:
        raise OSError(error, "injected")

    monkeypatch.setattr(os, "utime", utime)
    assert is_saved(rig, make_crash())
    error = errno.EPERM
    assert is_saved(rig, make_crash(fresh=False))
    error = errno.EIO
    assert not is_saved(rig, make_crash(fresh=False))
    assert is_kept(rig.root)


def test_a_crash_is_marked_in_steps_that_every_file_system_knows(rig: Rig) -> None:
    assert is_saved(rig, make_crash())
    raw_crash = rig.root / RAW_CRASH
    for _ in range(3):
        before = raw_crash.stat().st_mtime_ns
        assert is_saved(rig, make_crash(fresh=False))
        assert raw_crash.stat().st_mtime_ns >= before + 2_000_000_000


@pytest.mark.parametrize(
    "error", [None, errno.EPERM, errno.ENOSPC], ids=["as ever", "without hard links", "on a full disk"]
)
def test_what_another_process_has_in_hand_is_not_taken_away(rig: Rig, another: Rig, error: int | None) -> None:
    """By the time that it looks, the other one has looked already."""
    assert is_saved(rig, make_crash())
    source = source_with(rig.staging, rig.root)
    crash = loaded(source)
    again = another.transaction(make_crash(fresh=False))
    refuse_contended = another.staging.peers.refuse_contended

    def meanwhile(crash_id: str) -> None:
        refuse_contended(crash_id)
        if error is None:
            assert not is_removed(source, crash)
            return
        with failing(rig.root, "link", 1, OSError(error, "injected")):
            assert not is_removed(source, crash)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(another.staging.peers, "refuse_contended", meanwhile)
        another.save(again)
    assert another.errors(again) == [None]
    assert not os.path.exists(rig.staging.intent_record(CRASH_ID))
    assert is_kept(rig.root)


def test_what_a_dead_process_had_in_hand_can_be_taken_away(rig: Rig) -> None:
    assert is_saved(rig, make_crash())
    dead = make_rig(rig.root)
    Path(dead.staging.intent_record(CRASH_ID)).write_bytes(b"")
    die(dead.staging)
    source = source_with(rig.staging, rig.root)
    assert is_removed(source, loaded(source))
    assert of_crash(rig.root) == [f"staging/{dead.staging.staging_id}/{CRASH_ID}.json"]


@pytest.mark.parametrize("kept", [True, False])
def test_what_was_not_decided_when_another_process_began_is_not_confirmed_by_it(root: Path, kept: bool) -> None:
    """Its disk hangs, so it is sent again, and comes to a worker that is new."""
    rig = make_rig(root)
    first = rig.transaction(make_crash(fresh=False))
    renamed = rig.commit.commit([first], [])
    late = make_rig(root)
    assert not is_saved(late, make_crash(fresh=False))
    if not kept:
        assert first.latch.abandon()
    rig.commit.commit([], renamed)
    assert is_kept(root) == kept
    assert is_saved(late, make_crash(fresh=False))
    assert is_kept(root)
    for each in (rig, late):
        each.staging.remove()


def test_who_can_t_see_who_else_is_there_keeps_nothing(rig: Rig, another: Rig) -> None:
    theirs = another.transaction(make_crash(fresh=False))
    renamed = another.commit.commit([theirs], [])
    with failing(rig.root, "listdir", 1, OSError(errno.EMFILE, "Too many open files")):
        assert not is_saved(rig, make_crash(fresh=False))
    another.commit.commit([], renamed)
    assert is_saved(rig, make_crash(fresh=False))
    assert is_kept(rig.root)


@pytest.mark.slow
@in_reactor
async def test_a_store_that_is_closed_lets_others_see_what_is_not_decided(root: Path) -> None:
    """A reload makes another store of the same place while the disk hangs."""
    gate, opened = Gate(), ExitStack()
    opened.callback(gate.open)

    def sync(files: Sequence[File], directories: Iterable[str], /) -> dict[str, OSError]:
        directories = set(directories)
        if directories:
            gate.pass_through()
        return sync_each(files, directories)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("collectord.storage.filesystem.store.sync_each", sync)
        store = make_store(root)
    other = make_store(root)
    with opened:
        await other.check()
        await store.check()
        saving = started(store.save(make_crash()))
        gate.wait_until_reached()
        saving.cancel()
        await error_of(saving)
        closing = started(store.close())
        rest()
        assert "has this crash in hand, too" in str(await error_of(other.save(make_crash(fresh=False))))
    await closing
    until(lambda: not os.path.exists(store.directory.path))
    await other.save(make_crash(fresh=False))
    assert is_kept(root)
    await other.close()


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, 5))
@pytest.mark.parametrize("who", ["its own process", "another process"])
def test_a_sweep_takes_nothing_that_a_living_process_keeps(rig: Rig, another: Rig, who: str, number: int) -> None:
    """At each step of putting it in its place."""
    keeper = rig if who == "its own process" else another
    dead = make_rig(rig.root)
    dead.commit.commit([dead.transaction(make_crash())], [])
    (rig.root / RAW_CRASH).unlink()  # it died before that
    die(dead.staging)
    swept: list[Swept] = []

    def happen(seen: int, name: str, do: Callable[[], Any]) -> Any:
        if seen == number:
            swept.append(sweep(rig.staging))
        return do()

    with watched(rig.root, ["rename", "link", "symlink"], happen):
        assert is_saved(keeper, make_crash(fresh=False))
    [during] = swept
    assert [error.errno for error in during.failed] == [errno.EBUSY]  # so it is tried again
    sweep(rig.staging)
    assert is_kept(rig.root)
