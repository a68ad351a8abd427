"""
What a store promises when what lies at its root is not what was there before: it is not used, and nothing is written.
"""

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from collectord.errors import StorageError
from collectord.storage.filesystem.identity import MARK, StoreIdentity, adopt, read_mark
from collectord.storage.filesystem.known import KnownStores
from collectord.storage.filesystem.store import FilesystemCrashStorage
from tests.support.mounts import bind, can_mount, tmpfs
from tests.support.wait import until
from tests.unit.storage.stores import (
    CRASH_ID,
    NEIGHBOUR,
    error_of,
    hanging,
    in_reactor,
    is_kept,
    make_crash,
    make_store,
    started,
    watched,
)

needs_mounts = pytest.mark.skipif(bool(can_mount()), reason=can_mount())


@pytest.fixture
def known(tmp_path: Path) -> KnownStores:
    return KnownStores(str(tmp_path / "state"))


async def used(root: Path, known: KnownStores | None, crash_id: str = CRASH_ID) -> FilesystemCrashStorage:
    """A store that has kept a crash."""
    store = make_store(root, known=known)
    await store.check()
    await store.save(make_crash(crash_id))
    return store


def lost(root: Path) -> str:
    """What is said of a store that is not at its root any more."""
    if root.is_dir():
        return "this is not the store that was here before ("
    return f"there is no directory at {root}; is its file system mounted?"


async def problem_of(store: FilesystemCrashStorage) -> str:
    """What its check says; empty: it is well."""
    try:
        await store.check()
    except StorageError as e:
        return str(e)
    return ""


def is_gone(store: FilesystemCrashStorage) -> bool:
    """Whether its staging directory was removed, as it was let go."""
    return not os.path.exists(store.directory.path)


def tree(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


@in_reactor
async def test_a_new_store_just_works(root: Path, known: KnownStores) -> None:
    for begin in (lambda: None, lambda: made_anew(root)):
        begin()
        store = make_store(root, known=known)
        await store.check()
        assert len(read_mark(str(root)) or "") == 32
        assert known.all() == []  # it keeps nothing yet
        await store.close()
        until(partial(is_gone, store))


@in_reactor
async def test_one_that_keeps_a_crash_is_remembered_before_that_is_told(
    root: Path, known: KnownStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(root, known=known)
    await store.check()
    with hanging(Path(known.directory), "rename") as gate:
        saved = started(store.save(make_crash()))
        gate.wait_until_reached()
        assert not saved.called
    await saved
    [remembered] = known.all()
    assert (remembered.root, remembered.store_id) == (str(root), read_mark(str(root)))


@in_reactor
async def test_an_earlier_version_left_no_mark(root: Path, known: KnownStores) -> None:
    await used(root, None)
    (root / MARK).unlink()
    await used(root, known, NEIGHBOUR)
    assert is_kept(root)
    assert read_mark(str(root)) is not None


@in_reactor
async def test_another_daemon_knows_it_by_its_mark(root: Path, known: KnownStores, tmp_path: Path) -> None:
    await used(root, known)
    mark = (root / MARK).read_text()
    other = KnownStores(str(tmp_path / "other state"))
    await used(root, other, NEIGHBOUR)
    assert (root / MARK).read_text() == mark
    assert other.all() == known.all()


def gone(root: Path) -> None:
    root.rename(root.with_name("elsewhere"))


def empty(root: Path) -> None:
    gone(root)
    root.mkdir()


def used_before_the_mount(root: Path) -> None:
    """With the staging area of another day."""
    empty(root)
    (root / "staging").mkdir()
    (root / "staging" / "lock").touch()


def another(root: Path) -> None:
    empty(root)
    (root / MARK).write_text(json.dumps({"store_id": "another"}))


def damaged(root: Path) -> None:
    (root / MARK).write_text("{")


def link_to_another_directory(root: Path) -> None:
    gone(root)
    root.with_name("other").mkdir()
    root.symlink_to(root.with_name("other"))


def made_anew(root: Path) -> None:
    shutil.rmtree(root)
    root.mkdir()


def put_back(root: Path) -> None:
    """After one of the others."""
    if root.is_symlink():
        root.unlink()
    elif root.exists():
        shutil.rmtree(root)
    root.with_name("elsewhere").rename(root)


def fill(disk: Path) -> None:
    """Until nothing more can be made there."""
    with suppress(OSError):
        for number in range(100):
            (disk / f"filler-{number}").touch()


def empty_out(disk: Path) -> None:
    for filler in disk.glob("filler-*"):
        filler.unlink()


def damage(known: KnownStores, content: str) -> None:
    [file] = Path(known.directory).rglob("*.json")
    file.write_text(content)


@contextmanager
def hung(known: KnownStores) -> Iterator[None]:
    """Let whoever reads what is remembered hang until the end."""
    [file] = Path(known.directory).rglob("*.json")
    content = file.read_text()
    file.unlink()
    os.mkfifo(file)
    try:
        yield
    finally:
        file.write_text(content)
        file.unlink()
        file.write_text(content)


OTHERS = [gone, empty, used_before_the_mount, another, link_to_another_directory]


@pytest.mark.parametrize("become", [*OTHERS, damaged])
@in_reactor
async def test_a_known_store_that_comes_up_as_another_is_not_used(
    root: Path, known: KnownStores, become: Callable[[Path], None]
) -> None:
    old = await used(root, known)
    await old.close()
    until(lambda: is_gone(old))
    become(root)
    before = tree(root.parent)
    store = make_store(root, known=known)
    why = await problem_of(store)
    assert why.startswith(f"{root}: {lost(root)}")
    assert why.endswith(f"if that is meant, run: collectord stores adopt {root}") is (become is not gone)
    assert f"{root}: {StoreIdentity(str(root), known).problem()}" == why
    error = await error_of(store.save(make_crash(NEIGHBOUR)))
    assert isinstance(error, StorageError)
    dump = store.new_dump()
    assert isinstance(await error_of(dump.append([b"x"])), StorageError)
    await store.close()
    assert tree(root.parent) == before
    if become not in (gone, link_to_another_directory):
        adopt(str(root), known)
        assert await problem_of(make_store(root, known=known)) == ""


@pytest.mark.parametrize("become", OTHERS)
@pytest.mark.parametrize("remembers", [True, False])
@in_reactor
async def test_a_store_that_becomes_another_while_it_is_used(
    root: Path, known: KnownStores, become: Callable[[Path], None], remembers: bool
) -> None:
    store = await used(root, known if remembers else None)
    become(root)
    before = tree(root.parent)
    assert isinstance(await error_of(store.save(make_crash(NEIGHBOUR))), StorageError)
    assert lost(root) in await problem_of(store)
    assert isinstance(await error_of(store.save(make_crash(NEIGHBOUR))), StorageError)
    assert tree(root.parent) == before
    put_back(root)
    assert await problem_of(store) == ""
    await store.save(make_crash(NEIGHBOUR))
    assert is_kept(root)
    assert is_kept(root, NEIGHBOUR)


def marked_before_the_mount(root: Path) -> None:
    """With all that a start made there."""
    used_before_the_mount(root)
    (root / MARK).write_text(json.dumps({"store_id": "another"}))


def threads_of(root: Path) -> int:
    """How many that check stores there."""
    return sum(thread.name.startswith(f"check {root}") for thread in threading.enumerate())


STEPS = ("stat", "statvfs", "mkdir", "open", "fsync", "rename", "listdir", "close")


@pytest.mark.slow
@pytest.mark.parametrize("late", [False, True], ids=["at first", "later"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("become", [gone, empty, marked_before_the_mount])
@in_reactor
async def test_a_store_that_becomes_another_at_any_step_of_its_check(
    root: Path, known: KnownStores, become: Callable[[Path], None], after: bool, late: bool
) -> None:
    """A worker may be at its first check, while another has kept a crash already."""
    first = await used(root, known)
    remembered = known.all()

    def swap(step: int, seen: int, name: str, do: Callable[[], Any]) -> Any:
        with ExitStack() as stack:
            if seen == step:
                if not after:
                    become(root)
                else:
                    stack.callback(become, root)
            return do()

    for step in count(1):
        store = make_store(root, known=known)
        if late:
            await store.check()
        with watched(root, STEPS, partial(swap, step)) as disk:
            await problem_of(store)
        if disk.seen < step:
            break
        for _ in range(2):
            assert isinstance(await error_of(store.save(make_crash(NEIGHBOUR))), StorageError)
            assert lost(root) in await problem_of(store)
        assert known.all() == remembered
        assert (root.name in tree(root.parent)) == (become is not gone)
        assert not [path for path in tree(root) if NEIGHBOUR in path or store.staging_id in path]
        put_back(root)
        await store.close()
        until(lambda: threads_of(root) == 1)  # the first one's
    assert step > 10
    assert await problem_of(first) == ""


@in_reactor
async def test_a_file_system_that_goes_away_does_not_lend_its_device(
    root: Path, known: KnownStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store would not be taken for itself when it is back."""
    first = await used(root, known)
    [remembered] = known.all()
    devices = [remembered.device or "nfs"]
    monkeypatch.setattr(
        "collectord.storage.filesystem.identity.device_of", lambda path: devices.pop() if devices else "another one"
    )
    store = make_store(root, known=known)
    await problem_of(store)
    assert known.all() == [remembered]
    for each in (first, store):
        await each.close()


@in_reactor
async def test_a_store_that_is_forgotten_while_it_is_used_is_remembered_again(root: Path, known: KnownStores) -> None:
    """Else nobody would notice at the next start that its file system is away."""
    store = await used(root, known)
    remembered = known.all()
    assert known.forget(str(root))
    await store.check()
    assert known.all() == remembered
    await store.close()


@pytest.mark.parametrize("become", [empty, used_before_the_mount, another])
@in_reactor
async def test_what_is_adopted_is_used_without_a_restart(
    root: Path, known: KnownStores, become: Callable[[Path], None]
) -> None:
    store = await used(root, known)
    become(root)
    assert await problem_of(store)
    adopt(str(root), known)
    assert await problem_of(store) == ""
    await store.save(make_crash(NEIGHBOUR))
    assert is_kept(root, NEIGHBOUR)
    put_back(root)
    assert "the mark of another one" in await problem_of(store)


@in_reactor
async def test_a_copy_on_another_file_system(root: Path, known: KnownStores, monkeypatch: pytest.MonkeyPatch) -> None:
    await (await used(root, known)).close()
    monkeypatch.setattr("collectord.storage.filesystem.identity.device_of", lambda path: "ext 0000000000000001")
    store = make_store(root, known=known)
    assert "it lies on another file system: ext 0000000000000001, and not" in await problem_of(store)
    adopt(str(root), known)
    assert await problem_of(store) == ""


@pytest.mark.parametrize("there", [True, False])
@in_reactor
async def test_a_store_that_becomes_another_between_writing_and_telling(
    root: Path, known: KnownStores, there: bool
) -> None:
    """The directories that are synced may be there, too, and be the wrong ones."""
    store = await used(root, known)
    with hanging(root, "fsync") as gate:
        saved = started(error_of(store.save(make_crash(NEIGHBOUR))))
        gate.wait_until_reached()
        gone(root)
        if there:
            shutil.copytree(root.with_name("elsewhere"), root, symlinks=True)
    assert isinstance(await saved, StorageError)


@in_reactor
async def test_what_an_administrator_does_to_a_store_that_is_the_same(
    root: Path, known: KnownStores, reported: Callable[[], list[str]]
) -> None:
    store = await used(root, known)
    mark = root / MARK
    of_before = read_mark(str(root))

    mark.unlink()
    assert await problem_of(store) == ""
    assert read_mark(str(root)) == of_before

    mark.write_text(json.dumps({"store_id": "of the backup of another store"}))
    assert await problem_of(store) == ""
    assert [remembered.store_id for remembered in known.all()] == ["of the backup of another store"]
    assert len([line for line in reported() if "it is the same store still" in line]) == 2

    os.unlink(f"{store.directory.path}/lock")
    assert await problem_of(store) == ""
    shutil.rmtree(store.directory.path)
    assert await problem_of(store) == ""
    os.chmod(root, 0o750)
    shutil.rmtree(root / "20160622")
    assert await problem_of(store) == ""
    await store.save(make_crash(NEIGHBOUR))
    assert is_kept(root, NEIGHBOUR)
    await store.close()
    assert await problem_of(make_store(root, known=known)) == ""


@in_reactor
async def test_a_mark_stays_young_for_those_who_clear_old_files_away(root: Path, known: KnownStores) -> None:
    store = await used(root, known)
    os.utime(root / MARK, (0, 0))
    await store.check()
    assert (root / MARK).stat().st_mtime > 0


@needs_mounts
@in_reactor
async def test_a_store_that_is_full_needs_no_mark_for_what_is_moved_out_of_it(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", 2**20, inodes=60) as disk:
        store = make_store(disk / "crashes")
        fill(disk)
        assert await problem_of(store)  # it can keep nothing
        empty_out(disk)
        assert await problem_of(store) == ""
        await store.save(make_crash(dumps={}))
        (disk / "crashes" / MARK).unlink()
        fill(disk)
        await store.prepare()
        store.directory.refuse_other()


@in_reactor
async def test_a_new_root_that_is_made_in_the_middle_of_the_first_check_is_used(
    root: Path, known: KnownStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state directory may lie in it, and is looked at by another thread."""

    def made_meanwhile(path: str) -> object:
        root.mkdir(parents=True, exist_ok=True)
        return read_mark(path)

    monkeypatch.setattr("collectord.storage.filesystem.identity.read_mark", made_meanwhile)
    store = await used(root, known)
    await store.close()
    assert is_kept(root)


@in_reactor
async def test_no_place_to_remember(root: Path, tmp_path: Path, reported: Callable[[], list[str]]) -> None:
    (tmp_path / "file").touch()
    store = await used(root, KnownStores(str(tmp_path / "file" / "state")))
    assert is_kept(root)
    [line] = [line for line in reported() if "is not remembered" in line]
    assert str(root) in line
    await store.save(make_crash(NEIGHBOUR))


@in_reactor
async def test_a_place_to_remember_that_was_full_for_a_while(
    root: Path, tmp_path: Path, reported: Callable[[], list[str]]
) -> None:
    (tmp_path / "file").touch()
    known = KnownStores(str(tmp_path / "file" / "state"))
    store = await used(root, known)
    assert await problem_of(store) == ""
    assert len([line for line in reported() if "is not remembered" in line]) == 1
    (tmp_path / "file").unlink()
    assert await problem_of(store) == ""
    remembered = known.get(str(root))
    assert remembered is not None
    assert remembered.store_id == read_mark(str(root))


@pytest.mark.parametrize("content", ["", '{"root": 1}'])
@in_reactor
async def test_what_is_remembered_is_damaged(root: Path, known: KnownStores, content: str) -> None:
    await (await used(root, known)).close()
    damage(known, content)
    assert "can't be read" in await problem_of(make_store(root, known=known))
    adopt(str(root), known)
    assert await problem_of(make_store(root, known=known)) == ""


@pytest.mark.parametrize("content", ["", '{"root": 1}'])
@in_reactor
async def test_what_is_remembered_is_damaged_while_the_store_is_used(
    root: Path, known: KnownStores, reported: Callable[[], list[str]], content: str
) -> None:
    store = await used(root, known)
    damage(known, content)
    assert await problem_of(store) == await problem_of(store) == ""
    assert len([line for line in reported() if "is not remembered" in line]) == 1
    await store.save(make_crash(NEIGHBOUR))


@in_reactor
async def test_the_place_to_remember_hangs_while_the_store_is_used(
    root: Path, known: KnownStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collectord.storage.filesystem.identity._MEMORY_S", 0.05)
    store = await used(root, known)
    with hung(known):
        assert await problem_of(store) == await problem_of(store) == ""
        await store.save(make_crash(NEIGHBOUR))
        other = make_store(root, known=known)
        assert "nothing for 0.05 s" in await problem_of(other)  # nobody knows whether it is the right store
    assert await problem_of(store) == ""


@in_reactor
async def test_the_place_to_remember_hangs_at_the_first_crash(
    root: Path, known: KnownStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collectord.storage.filesystem.identity._MEMORY_S", 0.05)
    store = make_store(root, known=known)
    await store.check()
    with hanging(Path(known.directory), "rename"):
        await store.save(make_crash())
    until(lambda: known.get(str(root)) is not None)  # what hung goes on
    assert await problem_of(store) == ""


@in_reactor
async def test_what_is_remembered_can_t_be_read_and_the_store_is_another(root: Path, known: KnownStores) -> None:
    store = await used(root, known)
    damage(known, "")
    empty(root)
    assert "can't be read" in await problem_of(store)
    assert os.listdir(root) == []


@needs_mounts
@pytest.mark.parametrize("remembers", [True, False])
@in_reactor
async def test_a_mount_that_goes_and_comes(tmp_path: Path, known: KnownStores, remembers: bool) -> None:
    mountpoint, root = tmp_path / "mount", tmp_path / "mount" / "crashes"
    kept = tmp_path / "kept"
    remembered = known if remembers else None
    before_the_mount = make_store(root, known=remembered)
    os.mkdir(mountpoint)
    await before_the_mount.check()  # at boot, too early; it keeps nothing
    await before_the_mount.close()
    with tmpfs(mountpoint, 2**20):
        store = await used(root, remembered)
        stays = ExitStack()
        stays.enter_context(bind(mountpoint, kept))
    with stays:
        assert isinstance(await error_of(store.save(make_crash(NEIGHBOUR))), StorageError)
        assert "the mark of another one" in await problem_of(store)
        assert not is_kept(root, NEIGHBOUR)
        with tmpfs(mountpoint, 2**20):
            assert lost(root) in await problem_of(store)
            assert os.listdir(mountpoint) == []
        with bind(kept, mountpoint):
            assert await problem_of(store) == ""
            await store.save(make_crash(NEIGHBOUR))
            assert is_kept(root, NEIGHBOUR)
            assert is_kept(root)
            await store.close()


@needs_mounts
@pytest.mark.parametrize("require_mount", [True, "mount"])
@in_reactor
async def test_require_mount(tmp_path: Path, require_mount: bool | str) -> None:
    mountpoint = tmp_path / "mount"
    os.mkdir(mountpoint)
    required = str(mountpoint) if require_mount == "mount" else require_mount
    store = make_store(mountpoint / "crashes", require_mount=required)
    assert "mounted" in await problem_of(store)
    assert isinstance(await error_of(store.save(make_crash())), StorageError)
    assert os.listdir(mountpoint) == []
    with tmpfs(mountpoint, 2**20):
        assert await problem_of(store) == ""
        await store.save(make_crash())
    assert "mounted" in await problem_of(store)
    assert os.listdir(mountpoint) == []


@in_reactor
async def test_what_is_not_promised_is_said_of_a_store_that_is_refused_too(
    root: Path, known: KnownStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await used(root, known)).close()
    gone(root)
    monkeypatch.setattr(
        "collectord.storage.filesystem.checks.cautions_at", lambda _: ["on some kind: nothing is promised"]
    )
    store = make_store(root, known=known)
    assert lost(root) in await problem_of(store)
    assert store.cautions == ["on some kind: nothing is promised"]
    await store.close()
