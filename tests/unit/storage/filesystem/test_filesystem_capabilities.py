"""
The probe of a file system, and stores on file systems that lack something.
"""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from collectord.errors import StorageError
from collectord.model import MINIDUMP
from collectord.storage.filesystem.capabilities import ALL, Capabilities, probe, try_out
from collectord.storage.filesystem.finder import find_crash
from collectord.storage.filesystem.layout import differ_by_case, dump_name, place_in
from tests.support.disk import stored_crashes
from tests.unit.storage.stores import (
    CRASH_ID,
    DUMPS,
    NAMES,
    NEIGHBOUR,
    SLOT,
    Rig,
    error_of,
    everything,
    failing,
    in_reactor,
    is_kept,
    make_crash,
    make_rig,
    make_store,
    noted_syncs,
    of_crash,
    watched,
)

STEPS = (
    "open",
    "writev",
    "rename",
    "symlink",
    "link",
    "mkdir",
    "unlink",
    "fsync",
    "close",
    "chmod",
)


@contextmanager
def lacking(root: Path, operation: str, code: int = errno.ENOSYS) -> Iterator[None]:
    """A file system that does not know this operation."""

    def happen(seen: int, name: str, do: Callable[[], Any]) -> Any:
        raise OSError(code, os.strerror(code))

    with watched(root, [operation], happen):
        yield


def test_all_is_there(rig: Rig) -> None:
    assert probe(rig.staging.path) == ALL
    try_out(rig.staging.path, ALL)
    assert everything(rig.root) == []
    assert ALL.missing == []


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP, errno.EINVAL, errno.EROFS, errno.EIO])
@pytest.mark.parametrize(
    ("operation", "lacks"),
    [
        ("link", evolve(ALL, hard_links=False)),
        ("symlink", evolve(ALL, symlinks=False)),
        ("chmod", evolve(ALL, modes=False)),
    ],
)
def test_what_it_does_not_know(rig: Rig, operation: str, lacks: Capabilities, code: int) -> None:
    with lacking(rig.root, operation, code):
        assert probe(rig.staging.path) == lacks
        try_out(rig.staging.path, lacks)
    assert len(lacks.missing) == 1
    assert everything(rig.root) == []


@pytest.mark.parametrize("operation", ["link", "symlink"])
def test_what_it_could_do_before_is_an_error(rig: Rig, operation: str) -> None:
    reported = rf"do not work here \({operation}: EIO\)"
    with lacking(rig.root, operation, errno.EIO), pytest.raises(OSError, match=reported):
        probe(rig.staging.path, ALL)
    with lacking(rig.root, operation, errno.EOPNOTSUPP):  # mounted anew, with other options
        assert probe(rig.staging.path, ALL) != ALL
    assert everything(rig.root) == []


@pytest.mark.parametrize(
    ("operation", "reported"),
    [
        ("mkdir", "directories do not work here (mkdir: EIO)"),
        ("open", "new files do not work here (create: EIO)"),
        ("writev", "writes do not work here (write: EIO)"),
        ("fsync", "syncs of files do not work here (fsync: EIO)"),
        ("rename", "renames do not work here (rename: EIO)"),
        ("unlink", "removals do not work here (unlink: EIO)"),
    ],
)
@in_reactor
async def test_what_every_store_needs(root: Path, operation: str, reported: str) -> None:
    store = make_store(root)
    store.directory.make()
    with lacking(root, operation, errno.EIO):
        assert str(await error_of(store.check())) == f"{root}: {reported}"
    await store.check()
    await store.save(make_crash())
    assert is_kept(root)


@pytest.mark.parametrize("operation", ["rename", "symlink", "fsync", "writev", "unlink"])
@in_reactor
async def test_a_check_notices_what_a_commit_would(root: Path, operation: str) -> None:
    store = make_store(root)
    await store.check()
    with lacking(root, operation, errno.EIO):
        for _ in range(2):
            error = await error_of(store.check())
            assert isinstance(error, StorageError)
            assert f"{operation.replace('writev', 'write')}: EIO" in str(error)
    await store.check()


@in_reactor
async def test_after_a_failure_it_is_probed_anew(root: Path) -> None:
    store = make_store(root)
    await store.check()
    with watched(root, ["link"], lambda seen, name, do: do()) as linked:
        await store.check()
    assert linked.seen == 0  # only a probe makes hard links
    with failing(root, "rename", 1, OSError(errno.EIO, "injected")):
        await error_of(store.save(make_crash()))
    with lacking(root, "symlink", errno.EPERM):
        await store.check()
        assert store.directory.capabilities == evolve(ALL, symlinks=False)
        await store.save(make_crash())
    assert (root / SLOT / CRASH_ID).read_text() == "../../../name/8f/63"


def test_names_that_are_too_long(rig: Rig) -> None:
    rename = os.rename

    def short(old: str, new: str) -> None:
        if len(os.path.basename(new)) > 60:
            raise OSError(errno.ENAMETOOLONG, "File name too long")
        rename(old, new)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "rename", short)
        with pytest.raises(OSError, match=r"names of 80 characters do not work here \(rename: ENAMETOOLONG\)"):
            probe(rig.staging.path)


@pytest.mark.slow
def test_a_probe_can_fail_at_any_step_and_leaves_nothing(rig: Rig) -> None:
    for number in range(1, 100):
        seen = 0

        def happen(at: int, name: str, do: Callable[[], Any], number: int = number) -> Any:
            if at == number:
                if name == "close":
                    do()
                raise OSError(errno.ENOSPC, "No space left on device")
            return do()

        with watched(rig.root, STEPS, happen) as disk:
            with suppress(OSError):
                probe(rig.staging.path)
            seen = disk.seen
        assert probe(rig.staging.path) == ALL
        assert everything(rig.root) == []
        if seen < number:
            break
    assert 30 < number < 99


# Without hard links.


@pytest.fixture
def unlinked(rig: Rig) -> Iterator[Rig]:
    rig.staging.capabilities = evolve(ALL, hard_links=False)
    with lacking(rig.root, "link"):
        yield rig


def test_a_spilled_dump_is_renamed_without_hard_links(unlinked: Rig) -> None:
    places = {"extra_2": unlinked.spill(DUMPS["extra_2"])}
    unlinked.save(unlinked.transaction(make_crash(places=places)))
    assert is_kept(unlinked.root)


def test_what_another_process_has_not_decided_is_seen_without_hard_links(unlinked: Rig) -> None:
    other = make_rig(unlinked.root)
    other.staging.capabilities = unlinked.staging.capabilities
    transaction = unlinked.transaction(make_crash())
    renamed = unlinked.commit.commit([transaction], [])
    again = other.transaction(make_crash())
    other.save(again)
    assert "has this crash in hand" in str(other.errors(again)[0])
    unlinked.commit.commit([], renamed)
    assert unlinked.errors(transaction) == [None]
    assert is_kept(unlinked.root)
    other.save(last := other.transaction(make_crash()))
    assert other.errors(last) == [None]
    other.staging.remove()


def test_without_hard_links_what_is_put_in_its_place_beside_others_is_durable(unlinked: Rig) -> None:
    other = make_rig(unlinked.root)
    renamed = unlinked.commit.commit([unlinked.transaction(make_crash())], [])
    unlinked.commit.commit([], renamed)
    transaction = unlinked.transaction(make_crash(NEIGHBOUR))
    with noted_syncs() as synced:
        unlinked.save(transaction)
    assert f"{unlinked.staging.path}/{NEIGHBOUR}.twin" in synced
    assert is_kept(unlinked.root, NEIGHBOUR)
    other.staging.remove()


def test_what_was_lent_and_can_t_be_given_back_takes_nobody_along(unlinked: Rig) -> None:
    spilled = unlinked.spill(DUMPS["extra_2"])
    transaction, neighbour = (
        unlinked.transaction(make_crash(places={"extra_2": spilled})),
        unlinked.transaction(make_crash(NEIGHBOUR)),
    )
    renamed = unlinked.commit.commit([transaction, neighbour], [])
    unlinked.sync.fails = lambda path: path.endswith(SLOT)

    def happen(seen: int, name: str, do: Callable[[], Any]) -> Any:
        raise OSError(errno.EIO, "injected")

    with watched(unlinked.root, ["rename"], happen):
        unlinked.commit.commit([], renamed)
    assert all(isinstance(error, OSError) for error in unlinked.errors(transaction, neighbour))
    spilled.remove()


@pytest.mark.parametrize("others", [False, True])
def test_undone_without_hard_links(unlinked: Rig, others: bool) -> None:
    other = make_rig(unlinked.root) if others else None
    unlinked.sync.fails = lambda path: path.endswith(SLOT)
    spilled = unlinked.spill(DUMPS["extra_2"])
    transaction = unlinked.transaction(make_crash(places={"extra_2": spilled}))
    unlinked.save(transaction)
    assert isinstance(unlinked.errors(transaction)[0], OSError)
    assert everything(unlinked.root) == [os.path.relpath(spilled.path, unlinked.root)]  # the next store reads it
    if other is not None:
        other.staging.remove()


# Without symlinks.


def test_a_small_file_says_that_a_crash_is_new(rig: Rig) -> None:
    rig.staging.capabilities = evolve(ALL, symlinks=False)
    with lacking(rig.root, "symlink"):
        rig.save(rig.transaction(make_crash()))
    assert (rig.root / SLOT / CRASH_ID).read_text() == "../../../name/8f/63"
    crash = find_crash(str(rig.root), CRASH_ID)
    assert crash is not None
    assert crash.is_new()


def test_that_small_file_is_durable(rig: Rig) -> None:
    rig.staging.capabilities = evolve(ALL, symlinks=False)
    os.makedirs(rig.root / SLOT)
    mark = f"{rig.root}/{SLOT}/{CRASH_ID}"
    with noted_syncs() as synced:
        rig.staging.mark_new(mark, "../../../name/8f/63")
    assert synced == [mark]
    assert Path(mark).read_text() == "../../../name/8f/63"


def test_a_mark_that_can_t_be_written_is_undone(rig: Rig) -> None:
    rig.staging.capabilities = evolve(ALL, symlinks=False)
    mark = f"{rig.root}/{SLOT}/{CRASH_ID}"

    def happen(seen: int, name: str, do: Callable[[], Any]) -> Any:
        if os.path.exists(mark):
            raise OSError(errno.ENOSPC, "No space left on device")
        return do()

    transaction = rig.transaction(make_crash())
    with watched(rig.root, ["writev"], happen):
        rig.save(transaction)
    assert isinstance(rig.errors(transaction)[0], OSError)
    assert everything(rig.root) == []


# Where names that differ by case only are one.

TWINS = {"a": b"one", "A": b"two", "b": b"three", MINIDUMP: b"four", "Upload_File_Minidump": b"five"}


@pytest.mark.parametrize("order", [1, -1])
def test_names_that_differ_by_case_only(rig: Rig, order: int) -> None:
    rig.staging.capabilities = evolve(ALL, case=False)
    crash = make_crash(dumps=dict(list(TWINS.items())[::order]))
    rig.save(rig.transaction(crash))
    files = sorted(os.listdir(rig.root / NAMES))
    assert len({file.lower() for file in files}) == 6
    assert f"{CRASH_ID}.A.dump" in files
    assert f"{CRASH_ID}.a~2.dump" in files
    found = find_crash(str(rig.root), CRASH_ID)
    assert found is not None
    assert {name: Path(path).read_bytes() for name, path in found.dumps.items()} == TWINS


def test_names_of_files() -> None:
    place = place_in("/r", CRASH_ID, date_dir="")
    assert dict(place.dumps(["a", "A"])) == {name: place.dump(name) for name in "aA"}
    assert dict(place.dumps(["a", "b"], case=False)) == {name: place.dump(name) for name in "ab"}
    assert not differ_by_case(["a", "b", MINIDUMP])
    for name, path in place.dumps(TWINS, case=False).items():
        assert dump_name(CRASH_ID, os.path.basename(path)) == name


def test_other_file_systems_keep_the_names(rig: Rig) -> None:
    rig.save(rig.transaction(make_crash(dumps=TWINS)))
    assert stored_crashes(rig.root)[CRASH_ID].dumps == TWINS
    assert not any("~" in path for path in of_crash(rig.root))


# Permissions that can't be set, and directories that can't be synced.


def test_modes_that_the_mount_gives(tmp_path: Path) -> None:
    from collectord.storage.filesystem.staging import Modes

    rig = make_rig(tmp_path / "crashes", Modes(directory=0o750, file=0o640))
    rig.staging.capabilities = evolve(ALL, modes=False)
    with lacking(rig.root, "chmod", errno.EPERM), lacking(rig.root, "fchmod", errno.EPERM):
        rig.save(transaction := rig.transaction(make_crash()))
    assert rig.errors(transaction) == [None]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
@in_reactor
async def test_directories_that_can_t_be_synced(root: Path, code: int) -> None:
    fsync = os.fsync

    def of_files(fd: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{fd}"):
            raise OSError(code, os.strerror(code))
        fsync(fd)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", of_files)
        store = make_store(root)
        await store.check()
        await store.save(make_crash())
        await store.check()
    assert is_kept(root)
    assert any("directories can't be synced here" in caution for caution in store.cautions)
