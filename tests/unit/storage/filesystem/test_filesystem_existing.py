"""
Crashes whose id is there already: confirmed where what is there is whole, by what the disk says; else never lost.
"""

import errno
import json
import os
import shutil
import tracemalloc
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import pytest

from collectord.errors import StorageError
from collectord.model import MINIDUMP
from collectord.storage import content as stored
from collectord.storage.filesystem import existing
from collectord.storage.filesystem.existing import look_at
from collectord.storage.filesystem.finder import quarantined_crash, quarantined_crashes
from collectord.storage.filesystem.layout import place_of
from collectord.storage.filesystem.quarantine import release
from collectord.storage.filesystem.transaction import CommitLatch, CrashTransaction
from tests.support.disk import problems, stored_crashes
from tests.support.mounts import can_mount, sync_filesystem, thin_ext4
from tests.unit.storage.stores import (
    CRASH_ID,
    DUMPS,
    NAMES,
    NEIGHBOUR,
    Rig,
    die,
    error_of,
    everything,
    failing,
    in_reactor,
    is_kept,
    make_crash,
    make_rig,
    make_store,
    noted_syncs,
    value_of,
    watched,
)

Harm = Callable[[Path, Path, Path], object]
"""Of a raw crash, and of its two dumps."""


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "in it").touch(0o600)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def symlink(path: Path, to: str | None = None) -> None:
    """To what was there, elsewhere."""
    elsewhere = path.parents[4] / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(to or elsewhere)


def changed(path: Path, **changes: Any) -> None:
    raw_crash = json.loads(path.read_bytes())
    path.write_text(json.dumps({**raw_crash, **changes}))


def same_size(path: Path) -> None:
    path.write_bytes(path.read_bytes()[::-1])


HARMS: dict[str, Harm] = {
    "raw crash of no bytes": lambda raw, dump, extra: raw.write_bytes(b""),
    "raw crash cut off": lambda raw, dump, extra: os.truncate(raw, 50),
    "raw crash {}": lambda raw, dump, extra: raw.write_text("{}"),
    "raw crash a list": lambda raw, dump, extra: raw.write_text("[]"),
    "raw crash no text": lambda raw, dump, extra: raw.write_bytes(b"\xff\xfe"),
    "raw crash too deep": lambda raw, dump, extra: raw.write_text("[" * 100_000),
    "raw crash of another": lambda raw, dump, extra: changed(raw, uuid=NEIGHBOUR),
    "raw crash without checksums": lambda raw, dump, extra: changed(raw, metadata={}),
    "raw crash with odd checksums": lambda raw, dump, extra: changed(raw, metadata={"dump_checksums": ["x"]}),
    "raw crash a directory": lambda raw, dump, extra: directory(raw),
    "raw crash a pipe": lambda raw, dump, extra: pipe(raw),
    "raw crash a symlink": lambda raw, dump, extra: symlink(raw),
    "raw crash gone": lambda raw, dump, extra: raw.unlink(),
    "raw crash and a dump gone": lambda raw, dump, extra: [path.unlink() for path in (raw, dump)],  # type: ignore[func-returns-value]
    "dump of no bytes": lambda raw, dump, extra: dump.write_bytes(b""),
    "dump cut off": lambda raw, dump, extra: os.truncate(dump, 3),
    "dump longer": lambda raw, dump, extra: dump.write_bytes(dump.read_bytes() + b"x"),
    "dump another": lambda raw, dump, extra: same_size(extra),
    "dump gone": lambda raw, dump, extra: extra.unlink(),
    "dump a directory": lambda raw, dump, extra: directory(dump),
    "dump a pipe": lambda raw, dump, extra: pipe(dump),
    "dump a symlink": lambda raw, dump, extra: symlink(dump),
    "dump a symlink to itself": lambda raw, dump, extra: symlink(extra, extra.name),
}


def files(root: Path) -> tuple[Path, Path, Path]:
    names = root / NAMES
    return names / f"{CRASH_ID}.json", names / f"{CRASH_ID}.dump", names / f"{CRASH_ID}.extra_2.dump"


def reasons(root: Path) -> list[str]:
    return [crash.reason.partition(" ")[2] for crash in quarantined_crashes(str(root))]


@pytest.mark.slow
@pytest.mark.parametrize("spilled", [False, True], ids=["memory", "spilled"])
@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_what_is_broken_is_put_aside_and_the_whole_one_takes_its_place(rig: Rig, harm: Harm, spilled: bool) -> None:
    rig.save(rig.transaction(make_crash(Which="first")), rig.transaction(make_crash(NEIGHBOUR)))
    harm(*files(rig.root))
    left = [path for path in everything(rig.root) if CRASH_ID in path and "/name/" in path]
    before = value_of("broken_copies_total", rig.root)
    places = {MINIDUMP: rig.spill(DUMPS[MINIDUMP])} if spilled else {}
    again = rig.transaction(make_crash(places=places, fresh=False, Which="second"))
    rig.save(again)
    assert rig.errors(again) == [None]
    assert is_kept(rig.root)
    assert is_kept(rig.root, NEIGHBOUR)
    assert stored_crashes(rig.root)[CRASH_ID].raw_crash["Which"] == "second"
    aside = [path.replace(NAMES, f"quarantine/{CRASH_ID}") for path in left]
    assert set(aside) <= set(everything(rig.root))
    assert len(reasons(rig.root)) == 1
    assert value_of("broken_copies_total", rig.root) == before + 1
    for content in places.values():
        content.remove()
    assert problems(rig.root) == []


def test_a_raw_crash_that_became_huge_is_put_aside_unread(rig: Rig) -> None:
    rig.save(rig.transaction(make_crash()))
    os.truncate(files(rig.root)[0], 3 * 2**30)  # a hole: it takes no space
    again = rig.transaction(make_crash(fresh=False))
    tracemalloc.start()
    try:
        rig.save(again)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert rig.errors(again) == [None]
    assert is_kept(rig.root)
    assert ["larger than any" in reason for reason in reasons(rig.root)] == [True]
    assert peak < 10 * 2**20


def test_a_broken_copy_that_came_at_another_time_takes_its_link_along(rig: Rig) -> None:
    rig.save(rig.transaction(make_crash()))
    files(rig.root)[1].write_bytes(b"broken")
    later = rig.transaction(make_crash(fresh=False, submitted_timestamp="2016-06-22T16:19:49.123456+00:00"))
    rig.save(later)
    assert rig.errors(later) == [None]
    assert [path for path in everything(rig.root) if "/date/" in path] == [f"20160622/date/16/19_49/{CRASH_ID}"]


def test_a_leftover_of_a_try_that_could_not_be_undone(rig: Rig) -> None:
    """Nobody looks for a crash whose id was just made; a spilled dump takes the place of a leftover nevertheless."""
    os.makedirs(rig.root / NAMES)
    files(rig.root)[1].write_bytes(b"left over")
    spilled = rig.spill(DUMPS[MINIDUMP])
    transaction = rig.transaction(make_crash(places={MINIDUMP: spilled}))
    rig.save(transaction)
    assert rig.errors(transaction) == [None]
    spilled.remove()
    assert is_kept(rig.root)


def test_what_was_removed_since_it_was_looked_at_is_not_put_aside(rig: Rig) -> None:
    """A removal takes the raw crash first."""
    rig.save(rig.transaction(make_crash()))
    files(rig.root)[0].unlink()
    crash = make_crash(fresh=False)
    transaction = CrashTransaction(
        crash, place_of(str(rig.root), crash), CommitLatch(), look_at(place_of(str(rig.root), crash))
    )
    for path in files(rig.root)[1:]:
        path.unlink()
    rig.save(transaction)
    assert rig.errors(transaction) == [None]
    assert reasons(rig.root) == []
    assert is_kept(rig.root)


@pytest.mark.parametrize("errors", [errno.EIO, errno.EACCES, errno.EUCLEAN])
@pytest.mark.parametrize("file", [0, 1])
def test_what_can_t_be_read_is_put_aside(rig: Rig, monkeypatch: pytest.MonkeyPatch, errors: int, file: int) -> None:
    rig.save(rig.transaction(make_crash()))
    unreadable = str(files(rig.root)[file])
    really = stored.open_at_once

    def opened(path: str, flags: int) -> int:
        if path == unreadable:
            raise OSError(errors, os.strerror(errors), path)
        return really(path, flags)

    monkeypatch.setattr(existing, "open_at_once", opened)
    again = rig.transaction(make_crash(fresh=False))
    rig.save(again)
    assert rig.errors(again) == [None]
    assert "can't be read" in reasons(rig.root)[0]
    assert is_kept(rig.root)


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ESTALE, errno.ETIMEDOUT])
def test_a_store_that_can_t_be_read_now_confirms_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    rig.save(rig.transaction(make_crash()))

    def opened(path: str, flags: int) -> int:
        raise OSError(error, os.strerror(error), path)

    monkeypatch.setattr(existing, "open_at_once", opened)
    again = rig.transaction(make_crash(fresh=False))
    rig.save(again)
    (failure,) = rig.errors(again)
    assert failure is not None
    assert failure.errno == error
    assert is_kept(rig.root)
    assert reasons(rig.root) == []


@pytest.mark.parametrize("fresh", [False, True])
def test_what_is_whole_is_confirmed(rig: Rig, fresh: bool) -> None:
    rig.save(rig.transaction(make_crash(Which="first")))
    (rig.root / NAMES / f"{CRASH_ID}.no_part.dump").write_bytes(b"of it, and no harm")
    with watched(rig.root, ["fsync"], lambda seen, name, do: do()) as synced:
        again = rig.transaction(make_crash(fresh=fresh, Which="second"))
        rig.save(again)
    assert rig.errors(again) == [None]
    assert stored_crashes(rig.root)[CRASH_ID].raw_crash["Which"] == "first"
    assert reasons(rig.root) == []
    assert synced.seen == 3 + 3 + 2  # what was written, what was there, and the directories of that and of its link


def test_what_can_t_be_synced_is_not_confirmed(rig: Rig) -> None:
    """Whoever put it there may not have waited for the disk."""
    rig.save(rig.transaction(make_crash(Which="first")))
    place = place_of(str(rig.root), make_crash())
    with failing(rig.root, "fsync", 2, OSError(errno.EIO, "injected")):
        assert "can't be read: injected" in look_at(place).problem


@pytest.mark.slow
@pytest.mark.skipif(can_mount() != "", reason=can_mount())
def test_what_is_in_memory_only_is_not_confirmed(tmp_path: Path) -> None:
    """It was restored while the disk took nothing, and somebody else was told of that."""
    with thin_ext4(tmp_path / "disk", 32 * 2**20) as disk:
        rig = make_rig(disk.path / "root")
        dumps = {MINIDUMP: os.urandom(2**20)}
        rig.save(rig.transaction(make_crash(dumps=dumps)))
        disk.starve()
        (dump,) = (disk.path / "root" / NAMES).glob("*.dump")
        dump.unlink()
        dump.touch(0o600)
        dump.write_bytes(dumps[MINIDUMP])
        os.sync()
        disk.relieve()
        assert dump.read_bytes() == dumps[MINIDUMP]
        again = rig.transaction(make_crash(dumps=dumps, fresh=False))
        rig.save(again)
        first = rig.errors(again)
        if first != [None]:  # it was the first to hear of the error
            again = rig.transaction(make_crash(dumps=dumps, fresh=False))
            rig.save(again)
        assert rig.errors(again) == [None]
        assert len(reasons(disk.path / "root")) == 1
        disk.forget_cached(dump)
        assert is_kept(disk.path / "root", dumps=dumps)
        die(rig.staging)


@pytest.mark.parametrize(
    "dumps",
    [{MINIDUMP: b"other"}, {**DUMPS, "third": b"more"}, {MINIDUMP: DUMPS[MINIDUMP], "extra_2": b"something ELSE"}],
    ids=["other", "more", "one other"],
)
def test_another_crash_of_the_same_id_is_kept_too(rig: Rig, dumps: dict[str, bytes]) -> None:
    """What was sent is confirmed only where all of it is kept; the first stays in its place."""
    rig.save(rig.transaction(make_crash(Which="first")))
    again = rig.transaction(make_crash(dumps=dumps, fresh=False, Which="second"))
    rig.save(again)
    assert rig.errors(again) == [None]
    assert stored_crashes(rig.root)[CRASH_ID].raw_crash["Which"] == "first"
    assert is_kept(rig.root)
    (aside,) = quarantined_crashes(str(rig.root))
    assert aside.read()["Which"] == "second"
    assert {name: Path(path).read_bytes() for name, path in aside.dumps.items()} == dumps
    assert f"{rig.root}/quarantine" in rig.sync.calls[-1][1]
    assert f"{rig.root}/quarantine/{CRASH_ID}" in rig.sync.calls[-1][1]
    assert [path for path in everything(rig.root) if "staging" in path] == []


def test_another_crash_of_the_same_id_that_is_not_synced_leaves_nothing(rig: Rig) -> None:
    rig.save(rig.transaction(make_crash()))
    rig.sync.fails = lambda path: path.endswith(f"quarantine/{CRASH_ID}")
    again = rig.transaction(make_crash(dumps={MINIDUMP: b"other"}, fresh=False))
    rig.save(again)
    assert rig.errors(again) != [None]
    assert is_kept(rig.root)
    assert not (rig.root / "quarantine").exists()


def removing(rig: Rig, what: Path, number: int) -> AbstractContextManager[object]:
    """An administrator removes a directory right before the file of that number is put there."""

    def happen(seen: int, name: str, do: Callable[[], Any]) -> Any:
        if seen == number:
            shutil.rmtree(what)
        return do()

    return watched(rig.root, ["rename", "link"], happen)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_directory_that_is_removed_while_a_crash_goes_there(rig: Rig, number: int) -> None:
    """What was moved there by then is gone: then it is not confirmed."""
    rig.save(rig.transaction(make_crash(NEIGHBOUR)))  # its directories are there
    crash = rig.transaction(make_crash())
    with removing(rig, Path(crash.place.name_dir), number):
        rig.save(crash)
    is_confirmed = rig.errors(crash) == [None]
    assert (is_confirmed, is_kept(rig.root)) == (number == 1, number == 1)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_quarantine_that_is_removed_while_a_crash_goes_there(rig: Rig, number: int) -> None:
    first = rig.transaction(make_crash(Which="first"))
    rig.save(first)
    dumps = {MINIDUMP: b"other", "extra_2": b"also"}
    second = rig.transaction(make_crash(dumps=dumps, fresh=False, Which="second"))
    with removing(rig, rig.root / "quarantine", number):
        rig.save(second)
    kept = [crash for crash in quarantined_crashes(str(rig.root)) if crash.dumps.keys() == dumps.keys()]
    is_confirmed = rig.errors(second) == [None]
    assert (is_confirmed, bool(kept)) == (number == 1, number == 1)
    assert is_kept(rig.root)


def test_what_goes_to_a_quarantine_that_is_removed_takes_no_link_of_the_first(rig: Rig) -> None:
    first = rig.transaction(make_crash(Which="first"))
    rig.save(first)
    second = rig.transaction(make_crash(dumps={MINIDUMP: b"other"}, fresh=False, Which="second"))
    with removing(rig, rig.root / "quarantine", 1):
        renamed = rig.commit.commit([second], [])
    rig.sync.fails = lambda path: "quarantine" in path
    rig.commit.commit([], renamed)
    assert rig.errors(second) != [None]
    assert is_kept(rig.root)


def test_fewer_dumps_than_there_are_is_confirmed(rig: Rig) -> None:
    rig.save(rig.transaction(make_crash()))
    again = rig.transaction(make_crash(dumps={MINIDUMP: DUMPS[MINIDUMP]}, fresh=False))
    rig.save(again)
    assert rig.errors(again) == [None]
    assert reasons(rig.root) == []


def test_a_second_broken_copy_takes_nothing_from_the_first(rig: Rig) -> None:
    rig.save(rig.transaction(make_crash()))
    for content in (b"1", b"2", b"3"):
        (rig.root / NAMES / f"{CRASH_ID}.dump").write_bytes(content)
        rig.save(rig.transaction(make_crash(fresh=False)))
    aside = [Path(crash.dumps[MINIDUMP]).read_bytes() for crash in quarantined_crashes(str(rig.root))]
    assert aside == [b"1", b"2", b"3"]
    assert is_kept(rig.root)


@pytest.mark.slow
@pytest.mark.parametrize("operation", ["mkdir", "rename", "fsync", "open"])
def test_putting_aside_fails_at_any_step(tmp_path: Path, operation: str) -> None:
    """Nothing is confirmed then, and no file of what was there is lost."""
    for number in range(1, 40):
        rig = make_rig(tmp_path / str(number))
        rig.save(rig.transaction(make_crash(Which="first")))
        (rig.root / NAMES / f"{CRASH_ID}.dump").write_bytes(b"broken")
        transaction = rig.transaction(make_crash(fresh=False, Which="second"))
        with failing(rig.root, operation, number, OSError(errno.EROFS, "injected")) as disk:
            rig.save(transaction)
        found = [path.read_bytes() for path in rig.root.rglob("*") if path.is_file() and path.name != "lock"]
        assert b"broken" in found
        assert any(b"first" in content for content in found)
        if rig.errors(transaction) == [None]:
            assert is_kept(rig.root)
        again = rig.transaction(make_crash(fresh=False, Which="third"))
        rig.save(again)
        assert rig.errors(again) == [None]
        assert is_kept(rig.root)
        die(rig.staging)
        if disk.seen < number:
            break
    assert number > 1


def test_what_was_looked_at_before_is_looked_at_again_where_it_changed(rig: Rig) -> None:
    rig.save(rig.transaction(make_crash()))
    crash = make_crash(fresh=False)
    place = place_of(str(rig.root), crash)
    seen = look_at(place)
    assert (seen.problem, seen.is_still_there(place)) == ("", True)
    os.truncate(files(rig.root)[0], 10)
    assert not seen.is_still_there(place)
    transaction = rig.transaction(crash, existing=seen)
    rig.save(transaction)
    assert rig.errors(transaction) == [None]
    assert len(reasons(rig.root)) == 1
    assert is_kept(rig.root)


@in_reactor
async def test_the_committing_thread_does_not_read_it(root: Path) -> None:
    """A big one would hold up the crashes of all others."""
    store = make_store(root)
    await store.check()
    await store.save(make_crash())
    threads: list[str] = []
    really = stored.open_at_once

    def opened(path: str, flags: int) -> int:
        from threading import current_thread

        threads.append(current_thread().name)
        return really(path, flags)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(existing, "open_at_once", opened)
        await store.save(make_crash(fresh=False))
    assert len(threads) == 3
    assert all(name.startswith("spill") for name in threads)
    await store.close()


@in_reactor
async def test_a_store_that_can_t_be_looked_at(root: Path) -> None:
    store = make_store(root)
    await store.check()
    await store.save(make_crash())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(existing, "open_at_once", lambda path, flags: os.open("/proc/self/none", flags))
        patch.setattr(existing, "_BROKEN", frozenset())
        assert isinstance(await error_of(store.save(make_crash(fresh=False))), StorageError)
    await store.close()


@pytest.mark.slow
@pytest.mark.skipif(can_mount() != "", reason=can_mount())
def test_what_is_released_is_written_anew(tmp_path: Path) -> None:
    """A dump was mended by hand while the disk took nothing, and somebody else was told of that."""
    with thin_ext4(tmp_path / "disk", 32 * 2**20) as disk:
        root = disk.path / "root"
        rig = make_rig(root)
        dumps = {MINIDUMP: os.urandom(2**20)}
        rig.save(rig.transaction(make_crash(dumps=dumps)))
        aside = root / "quarantine" / CRASH_ID
        aside.mkdir(parents=True)
        for path in (root / NAMES).iterdir():
            path.rename(aside / path.name)
        mended = aside / f"{CRASH_ID}.dump"
        mended.unlink()
        disk.starve()
        mended.touch(0o600)
        mended.write_bytes(dumps[MINIDUMP])
        assert "error syncing" in sync_filesystem(disk.path)
        disk.relieve()
        crash = quarantined_crash(str(root), CRASH_ID)
        assert crash is not None
        release(crash, rig.staging)
        shutil.rmtree(f"{rig.staging.path}/{CRASH_ID}")
        disk.forget_cached(root / NAMES / f"{CRASH_ID}.dump")
        assert is_kept(root, dumps=dumps)
        die(rig.staging)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, 24))
def test_a_release_after_one_that_could_not_be_synced(rig: Rig, number: int) -> None:
    rig.save(rig.transaction(make_crash()))
    aside = rig.root / "quarantine" / CRASH_ID
    aside.mkdir(parents=True)
    inodes = set()
    for path in (rig.root / NAMES).iterdir():
        inodes.add(path.rename(aside / path.name).stat().st_ino)
    for path in rig.root.glob("*/date/*/*/*"):
        path.unlink()
    crash = quarantined_crash(str(rig.root), CRASH_ID)
    assert crash is not None
    with (
        failing(rig.root, "fsync", number, OSError(errno.EIO, "injected")) as disk,
        suppress(OSError),
    ):
        release(crash, rig.staging)
    if disk.seen >= number and aside.exists():
        with noted_syncs() as synced:
            release(crash, rig.staging)
        names = rig.root / NAMES
        assert {str(path) for path in (names, *names.parents) if path.is_relative_to(rig.root)} <= set(synced)
    shutil.rmtree(f"{rig.staging.path}/{CRASH_ID}")
    assert {path.stat().st_ino for path in (rig.root / NAMES).iterdir()}.isdisjoint(inodes)
    assert is_kept(rig.root)
