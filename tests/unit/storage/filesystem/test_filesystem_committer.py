"""
The group commit, driven by hand: what is synced before what, and what becomes of a crash that fails or is given up.
"""

import gc
import os
import shutil
import weakref
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from threading import Thread
from threading import enumerate as enumerate_threads
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from collectord.errors import StorageError
from collectord.model import MINIDUMP, Content, InMemory
from collectord.storage.content import StoredFile
from collectord.storage.filesystem.committer import GroupCommit, Outcomes
from collectord.storage.filesystem.spill import StagingArea
from collectord.storage.filesystem.sweep import sweep
from collectord.storage.filesystem.transaction import CommitLatch, CrashTransaction
from tests.support.disk import problems, stored_crashes
from tests.support.mounts import can_mount, sync_filesystem, thin_ext4
from tests.support.wait import until
from tests.unit.storage.stores import (
    CHANGES,
    CRASH_ID,
    DUMPS,
    NAMES,
    NEIGHBOUR,
    SLOT,
    SOON,
    STRANGER,
    Rig,
    at_once,
    die,
    everything,
    failing,
    is_kept,
    make_crash,
    make_rig,
    of_crash,
    open_files,
    value_of,
    watched,
)

needs_mount = pytest.mark.skipif(can_mount() != "", reason=can_mount())

SPILLED = b"spilled " * 1000


def spilled_entry(rig: Rig, latch: CommitLatch | None = None) -> CrashTransaction:
    """One dump in memory, and one on disk."""
    dumps = {"small": b"in memory", MINIDUMP: SPILLED}
    return rig.transaction(make_crash(dumps=dumps, places={MINIDUMP: rig.spill(SPILLED)}), latch)


def test_kept(rig: Rig) -> None:
    transactions = [rig.transaction(make_crash(crash_id)) for crash_id in (CRASH_ID, NEIGHBOUR, STRANGER)]
    rig.save(*transactions)
    assert rig.errors(*transactions) == [None, None, None]
    assert [is_kept(rig.root, crash_id) for crash_id in (CRASH_ID, NEIGHBOUR, STRANGER)] == [True, True, True]
    assert problems(rig.root) == []
    assert everything(rig.root) == sorted(
        [
            *(f"{NAMES}/{id}{end}" for id in (CRASH_ID, NEIGHBOUR) for end in (".json", ".dump", ".extra_2.dump")),
            *(f"20160623/name/0b/f1/{STRANGER}{end}" for end in (".json", ".dump", ".extra_2.dump")),
            *(f"{SLOT}/{crash_id}" for crash_id in (CRASH_ID, NEIGHBOUR)),
            f"20160623/date/15/19_49/{STRANGER}",
        ]
    )


def test_what_comes_from_another_store_is_copied_and_synced(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "dump").write_bytes(DUMPS[MINIDUMP])
    places = {MINIDUMP: StoredFile(str(tmp_path / "dump"), len(DUMPS[MINIDUMP]), at_once)}
    transaction = rig.transaction(make_crash(places=places))
    renamed = rig.commit.commit([transaction], [])
    assert rig.sync.calls[0][0] == {
        f"{rig.staging.path}/{CRASH_ID}{end}" for end in (".json", ".dump", ".extra_2.dump")
    }
    rig.commit.commit([], renamed)
    assert rig.errors(transaction) == [None]
    assert is_kept(rig.root)
    assert (tmp_path / "dump").exists()


def test_what_is_kept_is_let_go(rig: Rig) -> None:
    """Nothing of it stays in memory."""
    transaction = rig.transaction(make_crash())
    of_it = weakref.ref(transaction)
    rig.save(transaction)
    rig.sync.calls.clear()
    del transaction
    gc.collect()
    assert of_it() is None


def test_what_could_not_be_said_is_said_with_the_next_group(rig: Rig) -> None:
    """While its name is in the staging area others take the crash for undecided."""
    other = make_rig(rig.root)
    transaction = rig.transaction(make_crash())
    renamed = rig.commit.commit([transaction], [])
    with failing(rig.root, "unlink", 1, OSError(5, "injected")):
        rig.commit.commit([], renamed)
    assert rig.errors(transaction) == [None]
    assert os.path.exists(rig.staging.intent_record(CRASH_ID))
    rig.save()
    assert not os.path.exists(rig.staging.intent_record(CRASH_ID))
    other.staging.remove()


def test_what_is_kept_is_exactly_the_crash(rig: Rig) -> None:
    crash = make_crash(Text='"\\ \u00fc \U0001f4a5 \ud800', Empty="", List=[1, None])
    rig.save(rig.transaction(crash))
    assert stored_crashes(rig.root)[CRASH_ID].raw_crash == crash.raw_crash


@pytest.mark.parametrize(
    "pieces",
    [[], [b""], [b"x"] * 1023, [b"x"] * 1024, [b"x"] * 1025, [b"ab", b"", b"c"] * 1500, [b"x" * 2**20] * 5]
    + [[b"x" * 65536] * n + [b"y"] * m for n, m in [(2, 0), (2, 1), (5, 3)]],
    ids=["none", "empty", "1023", "1024", "1025", "4500", "5 MiB", "one write", "just over", "several"],
)
def test_pieces(rig: Rig, pieces: list[bytes]) -> None:
    content = b"".join(pieces)
    rig.save(rig.transaction(make_crash(dumps={MINIDUMP: content}, places={MINIDUMP: InMemory(pieces)})))
    assert is_kept(rig.root, dumps={MINIDUMP: content})


@pytest.mark.parametrize("short", [0, 1, 7, 1499])
def test_short_writes(rig: Rig, monkeypatch: pytest.MonkeyPatch, short: int) -> None:
    writev, write = os.writev, os.write
    monkeypatch.setattr(os, "writev", lambda fd, pieces: writev(fd, [b"".join(pieces)[:short]]))
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:1000]))
    content = bytes(range(250)) * 15
    pieces = [content[i : i + 3] for i in range(0, len(content), 3)]
    rig.save(rig.transaction(make_crash(dumps={MINIDUMP: content}, places={MINIDUMP: InMemory(pieces)})))
    assert is_kept(rig.root, dumps={MINIDUMP: content})


# What is synced before what.


class Order:
    """What was done to the disk, in order: (operation, path), and C{("sync", …)} and C{("resolved", …)} between."""

    def __init__(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[tuple[str, str]] = []
        inner, note = rig.sync.inner, rig.resolved

        def sync(files: Any, directories: Any) -> dict[str, OSError]:
            directories = set(directories)
            paths = [path for path, _ in files]
            failed = inner(files, directories)
            self.steps += [("sync", path) for path in (*paths, *directories)]
            return failed

        class Outcomes(list[Any]):
            def extend(inner_self, group: Any) -> None:
                self.steps += [("resolved", "") for _ in group]
                super().extend(group)

        rig.sync.inner = sync
        rig.resolved = Outcomes(note)
        for name in ("rename", "link", "symlink", "mkdir"):
            self._watch(name, monkeypatch)

    def _watch(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        real = getattr(os, name)

        def operation(*args: Any) -> None:
            real(*args)
            self.steps.append((name, args[0] if name == "mkdir" else args[1]))

        monkeypatch.setattr(os, name, operation)

    def at(self, name: str, path: str) -> int:
        return self.steps.index((name, path))


def test_the_order(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    order = Order(rig, monkeypatch)
    transaction = spilled_entry(rig)
    rig.save(transaction)
    place = transaction.place
    staged = transaction.staged
    dumps, raw_crash = [place.dump("small"), place.dump(MINIDUMP)], place.raw_crash
    first_move = min(order.at("symlink", place.link), order.at("rename", dumps[0]), order.at("link", dumps[1]))
    assert len(staged) == 3
    for path in staged:
        assert order.at("sync", path) < first_move
    assert order.at("symlink", place.link) < order.at("rename", dumps[0]) < order.at("rename", raw_crash)
    assert order.at("link", dumps[1]) < order.at("rename", raw_crash)
    assert [step for step, _ in order.steps].count("resolved") == 1
    assert order.steps[-1] == ("resolved", "")
    for directory in ("", "20160622", "20160622/name", "20160622/name/8f", NAMES, "20160622/date/15", SLOT):
        path = f"{rig.root}/{directory}".rstrip("/")
        assert order.at("rename", raw_crash) < order.at("sync", path)
        if directory:
            assert order.at("mkdir", path) < order.at("sync", os.path.dirname(path))


def test_nothing_is_moved_or_told_before_its_sync(rig: Rig) -> None:
    transaction = rig.transaction(make_crash())
    rig.sync.meanwhile = lambda: seen.append((everything(rig.root), list(rig.resolved)))
    seen: list[tuple[list[str], list[Any]]] = []
    renamed = rig.commit.commit([transaction], [])
    assert [path.partition("/")[0] for path in seen[0][0]] == ["staging"] * 3
    assert rig.resolved == []
    assert os.path.exists(transaction.place.raw_crash)
    rig.commit.commit([], renamed)
    assert seen[1][1] == []
    assert rig.errors(transaction) == [None]
    assert is_kept(rig.root)


def test_one_sync_serves_two_groups(rig: Rig) -> None:
    first, second = rig.transaction(make_crash()), rig.transaction(make_crash(NEIGHBOUR))
    renamed = rig.commit.commit([first], [])
    renamed = rig.commit.commit([second], renamed)
    assert rig.errors(first) == [None]
    rig.commit.commit([], renamed)
    assert rig.errors(second) == [None]
    assert len(rig.sync.calls) == 3


def test_every_new_directory_up_to_the_root_is_synced_once(rig: Rig) -> None:
    def directories_of(crash_id: str) -> set[str]:
        rig.save(rig.transaction(make_crash(crash_id)))
        return {os.path.relpath(path, rig.root) for path in rig.sync.calls[-1][1]}

    assert directories_of(CRASH_ID) == {
        ".",
        "20160622",
        "20160622/name",
        "20160622/name/8f",
        NAMES,
        "20160622/date",
        "20160622/date/15",
        SLOT,
    }
    assert directories_of(NEIGHBOUR) == {NAMES, SLOT}
    # A directory of another process may not be durable yet, so that it is there says nothing.
    os.makedirs(rig.root / "20160622/name/00/11")
    assert directories_of(f"0011{CRASH_ID[4:]}") == {"20160622/name/00/11", "20160622/name/00", "20160622/name", SLOT}


def test_a_directory_that_was_not_synced_is_not_trusted(rig: Rig) -> None:
    rig.sync.fails = lambda path: path.endswith("/20160622/name")
    transaction = rig.transaction(make_crash())
    rig.save(transaction)
    assert rig.errors(transaction) != [None]
    rig.sync.fails = lambda path: False
    rig.save(rig.transaction(make_crash(NEIGHBOUR)))
    assert f"{rig.root}/20160622/name" in rig.sync.calls[-1][1]
    rig.save(rig.transaction(make_crash()))
    assert f"{rig.root}/20160622/name" not in rig.sync.calls[-1][1]


def test_after_a_failed_sync_directories_are_made_anew(rig: Rig) -> None:
    """That they are there does not say that they are on the disk, and who syncs once more hears of no error."""
    rig.save(rig.transaction(make_crash(STRANGER)))
    rig.sync.fails = lambda path: path.endswith("/20160622/name")
    before = value_of("sync_failures_total", rig.root)
    transaction = rig.transaction(make_crash())
    rig.save(transaction)
    assert value_of("sync_failures_total", rig.root) == before + 1
    assert rig.errors(transaction) != [None]
    assert not (rig.root / "20160622").exists()
    assert is_kept(rig.root, STRANGER)
    rig.sync.fails = lambda path: False
    rig.save(rig.transaction(make_crash(f"0bf1{CRASH_ID[4:-6]}160623")))
    assert str(rig.root) in rig.sync.calls[-1][1]  # where nothing is trusted, nothing is known


def test_a_spilled_dump_is_synced_by_one_try_only(rig: Rig) -> None:
    """After a sync that failed it can be read, and may not be on the disk."""
    transaction = spilled_entry(rig)
    rig.sync.fails = lambda path: path.endswith(".part")
    rig.save(transaction)
    (error,) = rig.errors(transaction)
    assert error is not None
    rig.sync.fails = lambda path: False
    again = rig.transaction(transaction.crash)
    rig.save(again)
    (error,) = rig.errors(again)
    assert "has to be copied" in str(error)
    assert not is_kept(rig.root)


@pytest.mark.slow
@needs_mount
@pytest.mark.parametrize("held", [0, 1], ids=["synced", "held"])
def test_a_spilled_dump_whose_error_another_was_told_of(tmp_path: Path, held: int) -> None:
    """Between the append and the commit: a backup, an administrator, another daemon."""
    with thin_ext4(tmp_path / "disk", 32 * 2**20) as disk:
        rig = make_rig(disk.path / "root")
        disk.starve()
        dump = StagingArea(rig.staging, at_once, lambda: 0, lambda: None, held=held).new_dump()
        content = os.urandom(2**20)
        spilling = Deferred.fromCoroutine(dump.append([content]))
        if held:
            assert "error syncing" in sync_filesystem(disk.path)
            disk.relieve()
            transaction = rig.transaction(make_crash(dumps={MINIDUMP: content}, places={MINIDUMP: dump}))
            rig.save(transaction)
            (error,) = rig.errors(transaction)
            assert error is not None
            assert not is_kept(rig.root)
        else:
            failed: list[Any] = []
            spilling.addErrback(failed.append)
            assert failed[0].check(StorageError)
        dump.remove()
        die(rig.staging)


def test_a_directory_that_was_made_anew_is_not_trusted(rig: Rig) -> None:
    rig.save(rig.transaction(make_crash()))
    for path in of_crash(rig.root):
        (rig.root / path).unlink()
    os.removedirs(rig.root / NAMES)  # as Socorro does
    rig.save(rig.transaction(make_crash()))
    assert {
        f"{rig.root}/{path}" for path in ("20160622", "20160622/name", "20160622/name/8f", NAMES)
    } <= rig.sync.calls[-1][1]


def test_a_root_that_went_away_is_not_made_by_a_commit(rig: Rig) -> None:
    transaction = rig.transaction(make_crash())
    elsewhere = rig.root.with_name("elsewhere")
    rig.sync.meanwhile = lambda: elsewhere.exists() or rig.root.rename(elsewhere)
    rig.save(transaction)
    assert isinstance(rig.errors(transaction)[0], FileNotFoundError)
    assert not rig.root.exists()
    elsewhere.rename(rig.root)


def test_a_directory_that_was_undone_is_not_trusted(rig: Rig) -> None:
    rig.save(rig.transaction(make_crash(f"8f64{CRASH_ID[4:]}")))
    for path in ("20160622/name/8f/64", "20160622/date"):  # it is moved: the directories above stay, and are durable
        shutil.rmtree(rig.root / path)
    transaction = rig.transaction(make_crash())
    rig.commit.commit([transaction], [])
    transaction.latch.abandon()
    rig.commit.commit([], [transaction])
    assert not {f"{rig.root}", f"{rig.root}/20160622/name"} & rig.sync.calls[-1][1]
    assert not (rig.root / "20160622").exists()
    (rig.root / NAMES).mkdir(parents=True)  # by another process, which has not synced it yet
    rig.save(rig.transaction(make_crash()))
    assert {str(rig.root / path) for path in (".", "20160622", "20160622/name", NAMES)} <= rig.sync.calls[-1][1]


def test_the_memory_of_directories_is_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collectord.storage.filesystem.committer._MOST_REMEMBERED", 20)
    forgot = []
    for n in range(60):
        rig.save(rig.transaction(make_crash(f"{n:04x}{CRASH_ID[4:]}")))
        if str(rig.root) in rig.sync.calls[-1][1]:
            forgot.append(n)
    # Each crash has a directory of its own. One that is forgotten is synced again, and so are those above it.
    assert max(later - earlier for earlier, later in pairwise([*forgot, 60])) < 40
    assert problems(rig.root) == []


# Failures.


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_file_is_not_synced(rig: Rig, which: int) -> None:
    transaction, other = rig.transaction(make_crash()), rig.transaction(make_crash(NEIGHBOUR))
    ends = [f"/{CRASH_ID}.dump", f"/{CRASH_ID}.extra_2.dump", f"/{CRASH_ID}.json"]
    rig.sync.fails = lambda path: path.endswith(ends[which])
    rig.save(transaction, other)
    assert [error is None for error in rig.errors(transaction, other)] == [False, True]
    assert not is_kept(rig.root)
    assert is_kept(rig.root, NEIGHBOUR)
    assert problems(rig.root) == []


@pytest.mark.parametrize("directory", ["", "20160622", "20160622/name", "20160622/date/15", NAMES, SLOT])
def test_a_directory_is_not_synced(rig: Rig, directory: str) -> None:
    transaction, stranger = rig.transaction(make_crash()), rig.transaction(make_crash(STRANGER))
    rig.sync.fails = lambda path: path == f"{rig.root}/{directory}".rstrip("/")
    rig.save(transaction, stranger)
    assert [error is None for error in rig.errors(transaction, stranger)] == [False, directory != ""]
    assert not is_kept(rig.root)
    assert is_kept(rig.root, STRANGER) == (directory != "")
    assert problems(rig.root) == []


NEEDED = {"open", "writev", "rename", "symlink", "mkdir", "fsync", "close"}


@pytest.mark.slow
@pytest.mark.parametrize("operation", CHANGES)
@pytest.mark.parametrize(
    ("make_transaction", "needed"),
    [(lambda rig: rig.transaction(make_crash()), NEEDED), (spilled_entry, NEEDED | {"link"})],
    ids=["memory", "spilled"],
)
def test_any_step_fails(
    tmp_path: Path, operation: str, make_transaction: Callable[[Rig], CrashTransaction], needed: set[str]
) -> None:
    """Each single operation of a save fails once, in a group of two: nothing of that crash is left."""
    failed = 0
    for number in range(1, 100):
        rig = make_rig(tmp_path / str(number))
        rig.save(rig.transaction(make_crash(STRANGER)))
        files = open_files(rig.root)
        transaction, neighbour = make_transaction(rig), rig.transaction(make_crash(NEIGHBOUR))
        spilled = [dump.content for dump in transaction.crash.dumps if not isinstance(dump.content, InMemory)]
        with failing(rig.root, operation, number, OSError(5, "injected")) as disk:
            rig.save(transaction, neighbour)
        rig.save()  # what could not be said is said with the next group
        for content in spilled:
            assert Path(content.path).read_bytes() == SPILLED  # type: ignore[attr-defined]
            content.remove()  # type: ignore[attr-defined]
        assert open_files(rig.root) == files
        if disk.seen < number:
            break
        for mine in (transaction, neighbour):
            (error,) = rig.errors(mine)
            failed += error is not None
            dumps = {"small": b"in memory", MINIDUMP: SPILLED} if spilled and mine is transaction else DUMPS
            assert is_kept(rig.root, mine.crash.crash_id, dumps) == (error is None)
        assert is_kept(rig.root, STRANGER)
        assert problems(rig.root) == []
    assert number < 99
    assert (failed > 0) is (operation in needed)


@pytest.mark.parametrize("operation", ["rename", "unlink"])
@pytest.mark.parametrize("others", [False, True], ids=["alone", "beside others"])
def test_what_can_t_be_undone_takes_nobody_along(rig: Rig, operation: str, others: bool) -> None:
    """Its directory is not synced, and then its files can't be taken away."""
    other = make_rig(rig.root) if others else None
    transaction, neighbour = rig.transaction(make_crash()), rig.transaction(make_crash(STRANGER))
    renamed = rig.commit.commit([transaction, neighbour], [])
    rig.sync.fails = lambda path: path == f"{rig.root}/{SLOT}"

    def happen(seen: int, name: str, do: Callable[[], Any]) -> Any:
        raise OSError(5, "injected")

    with watched(rig.root / NAMES, [operation], happen):
        rig.commit.commit([], renamed)
    (error, kept) = rig.errors(transaction, neighbour)
    assert isinstance(error, OSError)
    assert kept is None
    assert is_kept(rig.root, STRANGER)
    assert (rig.root / NAMES / f"{CRASH_ID}.json").exists() is (operation == "unlink" and others)
    if other is not None:
        other.staging.remove()


def test_no_space(root: Path) -> None:
    def refuse_full() -> int:
        raise OSError(28, "full")

    rig = make_rig(root, refuse_full=refuse_full)
    transaction = rig.transaction(make_crash())
    rig.save(transaction)
    assert [str(error) for error in rig.errors(transaction)] == ["[Errno 28] full"]
    assert everything(root) == []


def test_a_store_that_fills_up_keeps_what_is_in_place(root: Path) -> None:
    full = False

    def refuse_full() -> int:
        if full:
            raise OSError(28, "full")
        return 1

    rig = make_rig(root, refuse_full=refuse_full)
    first, second = rig.transaction(make_crash()), rig.transaction(make_crash(NEIGHBOUR))
    renamed = rig.commit.commit([first], [])
    full = True
    rig.commit.commit([second], renamed)
    assert [error is None for error in rig.errors(first, second)] == [True, False]
    assert (is_kept(root), is_kept(root, NEIGHBOUR)) == (True, False)


def test_a_spilled_dump_that_is_gone(rig: Rig) -> None:
    transaction = spilled_entry(rig)
    for dump in transaction.crash.dumps:
        if not isinstance(dump.content, InMemory):
            Path(dump.content.path).unlink()  # type: ignore[attr-defined]
    rig.save(transaction)
    assert isinstance(rig.errors(transaction)[0], FileNotFoundError)
    assert everything(rig.root) == []


def test_a_spilled_dump_is_still_there_for_the_next_store(rig: Rig) -> None:
    rig.sync.fails = lambda path: path.endswith(NAMES)
    transaction = spilled_entry(rig)
    rig.save(transaction)
    assert not is_kept(rig.root)
    (part,) = everything(rig.root)
    assert (rig.root / part).read_bytes() == SPILLED


def test_a_spilled_dump_outlives_its_first_name(rig: Rig) -> None:
    rig.save(spilled_entry(rig))
    (part,) = [path for path in everything(rig.root) if path.endswith(".part")]
    (rig.root / part).unlink()
    assert is_kept(rig.root, dumps={"small": b"in memory", MINIDUMP: SPILLED})
    assert problems(rig.root) == []


def test_an_id_that_is_there_stays_as_it_was(rig: Rig) -> None:
    rig.save(rig.transaction(make_crash(Which="first")))
    again = rig.transaction(make_crash(dumps={MINIDUMP: b"other", "third": b"more"}, Which="second"))
    rig.save(again)
    assert rig.errors(again) == [None]
    assert stored_crashes(rig.root)[CRASH_ID].raw_crash["Which"] == "first"
    assert is_kept(rig.root)
    assert problems(rig.root) == []


def test_an_id_that_is_there_and_comes_at_another_time(rig: Rig) -> None:
    rig.save(rig.transaction(make_crash(Which="first")))
    again = rig.transaction(make_crash(submitted_timestamp="2016-06-22T16:20:50+00:00", Which="second"))
    rig.save(again)
    assert rig.errors(again) == [None]
    assert stored_crashes(rig.root)[CRASH_ID].raw_crash["Which"] == "first"
    assert problems(rig.root) == []


@pytest.mark.parametrize("timestamp", ["2016-06-22T15:19:49+00:00", "2016-06-22T16:20:50+00:00"])
def test_an_id_that_is_there_is_durably_new(rig: Rig, timestamp: str) -> None:
    """Whoever put it there may have died before the last sync."""
    rig.commit.commit([rig.transaction(make_crash())], [])
    after = another(rig)
    again = after.transaction(make_crash(submitted_timestamp=timestamp))
    after.save(again)
    assert after.errors(again) == [None]
    needed = {rig.root, *(rig.root / path for path in ("20160622", NAMES, SLOT, "20160622/date/15"))}
    assert set(map(str, needed)) <= after.sync.calls[-1][1]
    die(after.staging)


def test_an_id_that_is_there_and_not_new_stays_so(rig: Rig) -> None:
    rig.save(rig.transaction(make_crash()))
    (rig.root / SLOT / CRASH_ID).unlink()
    again = rig.transaction(make_crash())
    rig.save(again)
    assert rig.errors(again) == [None]
    assert str(rig.root / SLOT) not in rig.sync.calls[-1][1]
    assert not (rig.root / SLOT / CRASH_ID).is_symlink()


@pytest.mark.parametrize("fails", [NAMES, f"/{CRASH_ID}.json"])
def test_an_id_that_is_there_is_not_undone_by_another_one_s_failure(rig: Rig, fails: str) -> None:
    rig.save(rig.transaction(make_crash()))
    rig.sync.fails = lambda path: path.endswith(fails)
    again = rig.transaction(make_crash(Which="second"))
    rig.save(again)
    assert rig.errors(again) != [None]
    assert is_kept(rig.root)
    assert problems(rig.root) == []


def test_the_same_id_twice_in_a_group(rig: Rig) -> None:
    first, second = rig.transaction(make_crash()), rig.transaction(make_crash(dumps={"third": b"more"}))
    rig.save(first, second)
    assert rig.errors(first) == [None]
    assert is_kept(rig.root)
    assert problems(rig.root) == []


def test_the_same_id_twice_just_before_the_end(rig: Rig) -> None:
    """The second one waits for the next group, and the thread does not end before it."""
    first, second = rig.transaction(make_crash()), rig.transaction(make_crash())
    rig.commit.start()
    rig.commit.submit(first)
    rig.commit.submit(second)
    rig.commit.close()
    rig.commit.wait_until_closed()
    assert rig.errors(first) == [None]
    assert len(rig.errors(second)) == 1


def test_leftovers_of_the_same_id_do_not_matter(rig: Rig) -> None:
    for directory in (NAMES, SLOT):
        os.makedirs(rig.root / directory)
    (rig.root / NAMES / f"{CRASH_ID}.dump").write_bytes(b"left over")
    (rig.root / SLOT / CRASH_ID).symlink_to("../../../name/8f/63")
    rig.save(rig.transaction(make_crash()))
    assert is_kept(rig.root)


def test_a_crash_that_can_t_be_written_down_takes_nobody_along(rig: Rig, logged_failures: list[Any]) -> None:
    renamed = rig.commit.commit([rig.transaction(make_crash(STRANGER))], [])
    before, bad = (
        rig.transaction(make_crash(NEIGHBOUR)),
        rig.transaction(make_crash(f"8f63cccc{CRASH_ID[8:]}", Odd=object())),
    )
    after = rig.transaction(make_crash())
    rig.commit.commit([], rig.commit.commit([before, bad, after], renamed))
    assert [error is None for error in rig.errors(before, after)] == [True, True]
    assert "Object of type object" in str(rig.errors(bad))
    assert problems(rig.root) == []
    assert len(stored_crashes(rig.root)) == 3
    assert len(logged_failures) == 1
    logged_failures.clear()


# Giving up.


def test_whoever_decides_first_has_decided() -> None:
    latch = CommitLatch()
    assert (latch.kept, latch.abandoned) == (None, False)
    assert latch.resolve(kept=True)
    assert not latch.abandon()
    assert not latch.resolve(kept=False)
    assert (latch.kept, latch.abandoned) == (True, False)
    latch = CommitLatch()
    assert latch.abandon()
    assert not latch.abandon()
    assert not latch.resolve(kept=True)
    assert (latch.kept, latch.abandoned) == (False, True)
    latch = CommitLatch()
    assert latch.resolve(kept=False)
    assert not latch.abandon()
    assert (latch.kept, latch.abandoned) == (False, False)


@pytest.mark.slow
@pytest.mark.parametrize(
    "make_transaction", [lambda rig, a: rig.transaction(make_crash(), a), spilled_entry], ids=["memory", "spilled"]
)
def test_abandoned_at_any_point(
    tmp_path: Path, make_transaction: Callable[[Rig, CommitLatch], CrashTransaction]
) -> None:
    """Between any two operations of a save: nothing is left, or it was kept, and that is what was said."""
    kept = []
    for number in range(1, 200):
        rig = make_rig(tmp_path / str(number))
        latch = CommitLatch()
        transaction, neighbour = make_transaction(rig, latch), rig.transaction(make_crash(NEIGHBOUR))
        abandoned = False

        def happen(
            seen: int, name: str, do: Callable[[], Any], number: int = number, latch: CommitLatch = latch
        ) -> Any:
            nonlocal abandoned
            try:
                return do()
            finally:
                if seen == number:
                    abandoned = latch.abandon()

        with watched(rig.root, CHANGES, happen) as disk:
            rig.save(transaction, neighbour)
        reported = dict(rig.resolved)
        assert (latch in reported) is not abandoned
        assert reported[neighbour.latch] is None
        for path in everything(rig.root):
            if path.endswith(".part"):
                (rig.root / path).unlink()
        assert (
            is_kept(rig.root, dumps={dump.name: _bytes(dump.content) for dump in transaction.crash.dumps})
            is not abandoned
        )
        assert is_kept(rig.root, NEIGHBOUR)
        assert problems(rig.root) == []
        kept.append(not abandoned)
        if disk.seen < number:
            break
    assert number > 30
    assert kept == sorted(kept)  # once it is decided, it stays so


def _bytes(content: Content) -> bytes:
    return b"".join(content.pieces) if isinstance(content, InMemory) else SPILLED


def test_abandoned_before_it_began(rig: Rig) -> None:
    transaction = rig.transaction(make_crash())
    assert transaction.latch.abandon()
    with watched(rig.root, CHANGES, lambda seen, name, do: do()) as disk:
        renamed = rig.commit.commit([transaction], [])
    assert (renamed, disk.seen, rig.resolved) == ([], 0, [])


def test_abandoned_and_tried_again_while_the_old_one_is_in_place(rig: Rig) -> None:
    """The disk hung while the first was put in place; it comes back when the second is under way."""
    old, new = rig.transaction(make_crash()), rig.transaction(make_crash())

    def meanwhile() -> None:
        if len(rig.sync.calls) == 1:  # the old one is prepared, and put in place after this
            rig.commit.submit(new)
        elif len(rig.sync.calls) == 2:
            assert old.latch.abandon()

    rig.sync.meanwhile = meanwhile
    rig.commit.start()
    rig.commit.submit(old)
    until(lambda: rig.resolved, SOON)
    rig.commit.close()
    rig.commit.wait_until_closed()
    assert [files for files, _ in rig.sync.calls][:4] == [set(old.staged), set(), set(new.staged), set()]
    assert rig.errors(new) == [None]
    assert is_kept(rig.root)
    assert problems(rig.root) == []


def test_abandoned_and_kept_by_another_attempt(rig: Rig) -> None:
    old, new = rig.transaction(make_crash()), rig.transaction(make_crash())
    rig.sync.meanwhile = old.latch.abandon
    rig.commit.commit([], rig.commit.commit([new], rig.commit.commit([old], [])))
    assert rig.errors(new) == [None]
    assert is_kept(rig.root)
    assert problems(rig.root) == []


# ——— several processes on one root ———


def another(rig: Rig) -> Rig:
    """Another process's store in the same place."""
    return make_rig(rig.root)


def test_what_another_has_not_decided_yet_is_not_confirmed(rig: Rig) -> None:
    """It may still take it away, however long its disk hangs."""
    other = another(rig)
    theirs, ours = other.transaction(make_crash()), rig.transaction(make_crash())
    renamed = other.commit.commit([theirs], [])
    rig.save(ours)
    (error,) = rig.errors(ours)
    assert error is not None
    assert "has this crash in hand, too" in str(error)
    other.commit.commit([], renamed)
    again = rig.transaction(make_crash())
    rig.save(again)
    assert rig.errors(again) == [None]
    assert is_kept(rig.root)
    die(other.staging)


@pytest.mark.parametrize("undone", range(1, 6))
def test_what_another_is_taking_away_is_not_put_in_its_place(rig: Rig, undone: int) -> None:
    """At each step of its undoing: either it is refused, or it stays whole."""
    other = another(rig)
    theirs, ours = other.transaction(make_crash()), rig.transaction(make_crash())
    renamed = other.commit.commit([theirs], [])
    theirs.latch.abandon()

    def happen(seen: int, name: str, do: Callable[[], Any]) -> Any:
        if seen == undone:
            rig.save(ours)
        return do()

    with watched(rig.root, ["unlink"], happen):
        other.commit.commit([], renamed)
    if rig.errors(ours) == []:
        rig.save(ours)
    (error,) = rig.errors(ours)
    assert is_kept(rig.root) == (error is None)
    die(other.staging)


def test_what_a_dead_one_had_not_decided_is_confirmed(rig: Rig) -> None:
    other = another(rig)
    other.commit.commit([other.transaction(make_crash())], [])
    die(other.staging)
    ours = rig.transaction(make_crash())
    rig.save(ours)
    assert rig.errors(ours) == [None]
    sweep(rig.staging)
    assert is_kept(rig.root)


def test_a_file_system_without_second_names(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(source: str, target: str) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    transaction = rig.transaction(make_crash())
    rig.save(transaction)
    assert rig.errors(transaction) == [None]
    assert is_kept(rig.root)


def test_a_dump_that_is_missing_from_what_is_there_is_put_there(rig: Rig) -> None:
    rig.save(rig.transaction(make_crash()))
    (rig.root / NAMES / f"{CRASH_ID}.dump").unlink()
    again = rig.transaction(make_crash())
    rig.save(again)
    assert rig.errors(again) == [None]
    assert is_kept(rig.root)


def test_a_dump_that_is_no_part_of_what_is_there_is_not(rig: Rig) -> None:
    rig.save(rig.transaction(make_crash(dumps={"one": b"1"})))
    again = rig.transaction(make_crash(dumps={"one": b"1", "two": b"2"}))
    rig.save(again)
    assert rig.errors(again) == [None]
    assert is_kept(rig.root, dumps={"one": b"1"})


def test_the_same_crash_a_second_later_by_another(rig: Rig) -> None:
    """Its link is in another slot, and tells neither of the other."""
    other = another(rig)
    slow = rig.transaction(make_crash())
    quick = other.transaction(make_crash(submitted_timestamp="2016-06-22T15:19:50.123456+00:00"))

    def happen(seen: int, name: str, do: Callable[[], Any]) -> Any:
        done = do()
        if seen == 1:  # the first dump of the slow one is in its place
            other.save(quick)
        return done

    with watched(rig.root, ["rename"], happen):
        rig.save(slow)
    errors = [*rig.errors(slow), *other.errors(quick)]
    assert None in errors
    assert [str(error) for error in errors if error is not None and "has this crash in hand" not in str(error)] == []
    assert is_kept(rig.root)
    die(other.staging)


def test_a_sweep_takes_nothing_that_the_living_keep(rig: Rig) -> None:
    dead, other = another(rig), another(rig)
    dead.commit.commit([dead.transaction(make_crash())], [])
    (rig.root / NAMES / f"{CRASH_ID}.json").unlink()  # it died before that
    die(dead.staging)
    transaction = other.transaction(make_crash())
    saved: list[bool] = []

    def happen(seen: int, name: str, do: Callable[[], Any]) -> Any:
        if not saved:
            saved.append(True)
            other.save(transaction)
        return do()

    with watched(rig.root, ["unlink", "rmdir"], happen):
        sweep(rig.staging)
    (error,) = other.errors(transaction)
    if error is not None:
        assert "has this crash in hand" in str(error)
        again = other.transaction(make_crash())
        other.save(again)
        assert other.errors(again) == [None]
    assert is_kept(rig.root)
    die(other.staging)


def test_a_spilled_dump_without_second_names(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(source: str, target: str) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    undone = spilled_entry(rig)
    renamed = rig.commit.commit([undone], [])
    undone.latch.abandon()
    rig.commit.commit([], renamed)
    (spilled,) = [dump.content for dump in undone.crash.dumps if not isinstance(dump.content, InMemory)]
    assert Path(spilled.path).read_bytes() == SPILLED  # type: ignore[attr-defined]
    Path(spilled.path).unlink()  # type: ignore[attr-defined]
    kept = spilled_entry(rig)
    rig.save(kept)
    assert rig.errors(kept) == [None]
    assert is_kept(rig.root, dumps={"small": b"in memory", MINIDUMP: SPILLED})


def test_a_root_that_goes_away_is_not_made_anew(rig: Rig) -> None:
    """What is there instead may be what another file system was mounted over."""
    away = rig.root.with_name("away")
    rig.sync.meanwhile = lambda: rig.root.rename(away)
    transaction = rig.transaction(make_crash())
    assert rig.commit.commit([transaction], []) == []
    assert isinstance(rig.errors(transaction)[0], OSError)
    assert not rig.root.exists()
    away.rename(rig.root)


def test_a_root_that_goes_away_in_the_middle_of_a_commit_is_not_made_anew(rig: Rig) -> None:
    away = rig.root.with_name("away")

    def happen(seen: int, name: str, do: Callable[[], Any]) -> Any:
        if seen == 1:
            rig.root.rename(away)
        return do()

    transaction = rig.transaction(make_crash())
    with watched(rig.root, ["symlink"], happen):
        assert rig.commit.commit([transaction], []) == []
    assert isinstance(rig.errors(transaction)[0], FileNotFoundError)
    assert not rig.root.exists()
    away.rename(rig.root)


# ——— the thread ———


def committing_threads(root: Path) -> list[Thread]:
    return [thread for thread in enumerate_threads() if thread.name == f"commit {root}"]


def test_closing_ends_the_thread_when_all_before_it_is_decided(rig: Rig) -> None:
    transactions = [rig.transaction(make_crash(f"{n:08x}{CRASH_ID[8:]}")) for n in range(20)]
    rig.commit.start()
    for transaction in transactions:
        rig.commit.submit(transaction)
    (thread,) = committing_threads(rig.root)
    rig.commit.close()
    thread.join(SOON)
    assert committing_threads(rig.root) == []
    assert rig.errors(*transactions) == [None] * 20


def test_closing_what_was_never_used_starts_nothing(rig: Rig) -> None:
    rig.commit.close()
    assert committing_threads(rig.root) == []


# ——— many files ———

MANY = {f"dump{number}": b"x" * number for number in range(20)}


def few_at_once(rig: Rig, most: int) -> list[int]:
    """Let no more files be open; what is returned fills with how many were, whenever some were synced."""
    counts: list[int] = []
    rig.commit = GroupCommit(str(rig.root), rig.staging, rig.sync, lambda: 0, rig.resolved.extend, most)
    rig.sync.meanwhile = lambda: counts.append(len(rig.sync.calls[-1][0]))
    return counts


def test_no_more_files_are_open_at_once_than_may_be(rig: Rig) -> None:
    counts = few_at_once(rig, 4)
    transaction = rig.transaction(make_crash(dumps=MANY))
    others = [rig.transaction(make_crash(crash_id)) for crash_id in (NEIGHBOUR, STRANGER)]
    rig.save(transaction, *others)
    assert rig.errors(transaction, *others) == [None, None, None]
    assert is_kept(rig.root, dumps=MANY)
    assert is_kept(rig.root, NEIGHBOUR)
    assert (max(counts), sum(counts)) == (4, 21 + 3 + 3)


def test_a_group_is_as_small_as_the_limit_of_open_files(rig: Rig) -> None:
    groups: list[int] = []

    def resolved(group: Outcomes) -> None:
        groups.append(len(group))

    rig.commit = GroupCommit(str(rig.root), rig.staging, rig.sync, lambda: 0, resolved, most_open=5)
    first, *others = [rig.transaction(make_crash(f"{number:08x}{CRASH_ID[8:]}")) for number in range(7)]

    def meanwhile() -> None:
        if len(rig.sync.calls) == 1:
            for transaction in others:
                rig.commit.submit(transaction)

    rig.sync.meanwhile = meanwhile
    rig.commit.start()
    rig.commit.submit(first)
    until(lambda: sum(groups) == 7, SOON)
    rig.commit.close()
    rig.commit.wait_until_closed()
    assert groups == [1, 2, 2, 2]


@pytest.mark.parametrize("number", [0, 3, 19])
def test_a_file_of_an_early_batch_that_is_not_synced(rig: Rig, number: int) -> None:
    few_at_once(rig, 4)
    rig.sync.fails = lambda path: path.endswith(f".dump{number}.dump")
    transaction, other = rig.transaction(make_crash(dumps=MANY)), rig.transaction(make_crash(NEIGHBOUR))
    rig.save(transaction, other)
    assert [error is None for error in rig.errors(transaction, other)] == [False, True]
    assert not is_kept(rig.root)
    assert is_kept(rig.root, NEIGHBOUR)


@pytest.mark.parametrize("at", [1, 2, 6])
def test_a_sync_that_breaks_in_an_early_batch(rig: Rig, at: int, logged_failures: list[object]) -> None:
    few_at_once(rig, 4)
    transactions = [rig.transaction(make_crash(crash_id, dumps=MANY)) for crash_id in (NEIGHBOUR, CRASH_ID)]

    def broken() -> None:
        if len(rig.sync.calls) == at:
            raise RuntimeError("a defect")

    rig.sync.meanwhile = broken
    rig.save(*transactions)
    kept = [error is None for error in rig.errors(*transactions)]
    assert kept == [False, at < 6], "the sixth has the last of the first crash, and the first of the second"
    assert [is_kept(rig.root, crash_id, MANY) for crash_id in (NEIGHBOUR, CRASH_ID)] == kept
    assert [path for path in open_files(rig.root) if not path.endswith("/lock")] == []
    logged_failures.clear()
