"""
Power cuts at any moment, on a file system that keeps nothing that it was not told to sync.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from collectord.model import MINIDUMP, Content, NewCrash
from collectord.storage.filesystem.finder import find_crash, problems_of, quarantined_crash
from collectord.storage.filesystem.layout import Place, place_of
from collectord.storage.filesystem.manual import staging_in
from collectord.storage.filesystem.quarantine import release
from collectord.storage.filesystem.removal import remove
from collectord.storage.filesystem.spill import StagingArea
from collectord.storage.filesystem.staging import Modes, StagingDirectory
from collectord.storage.filesystem.sweep import sweep
from tests.support.unsynced import Tree, lay_out, unsynced
from tests.unit.cli.command import keep, put_aside
from tests.unit.intake.parts import result_of
from tests.unit.storage.filesystem.test_filesystem_source import source_of
from tests.unit.storage.stores import CRASH_ID, DUMPS, STRANGER, at_once, is_kept, make_crash, make_rig


def at(root: Path, crash_id: str = CRASH_ID) -> Place:
    return place_of(str(root), make_crash(crash_id))


def is_seen(tree: Tree, place: Place, dumps: Mapping[str, bytes] = DUMPS) -> bool:
    """Whether somebody who looks for the crash finds it; an C{AssertionError} where what is found is not whole."""
    if place.raw_crash not in tree:
        return False
    assert json.loads(tree[place.raw_crash])["uuid"] == place.crash_id
    for name, content in dumps.items():
        assert tree.get(place.dump(name)) == content, f"the dump {name} is not whole"
    return True


def test_the_model_takes_what_was_not_synced(tmp_path: Path) -> None:
    """The control: nothing is there that nobody synced, and everything that was."""

    def write(name: str) -> None:
        fd = os.open(f"{tmp_path}/{name}", os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(fd, b"x")
        os.fsync(fd)
        os.close(fd)

    write("before")
    with unsynced(tmp_path) as disk:
        os.mkdir(f"{tmp_path}/new")
        write("new/file")
        os.rename(f"{tmp_path}/before", f"{tmp_path}/new/after")
        fd = os.open(f"{tmp_path}/new", os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
    names = {frozenset(tree) for _, tree in disk.cuts(in_order=False)}
    before, file, after = "before", "new/file", "new/after"
    assert {frozenset({before}), frozenset({before, file}), frozenset({file, after}), frozenset()} <= names
    assert frozenset({before, after}) not in names


def spilled_to(area: StagingArea, content: bytes) -> Content:
    dump = area.new_dump()
    Deferred.fromCoroutine(dump.append([content]))
    return dump.content()


@pytest.mark.slow
@pytest.mark.parametrize("spilled", [False, True], ids=["in memory", "spilled"])
@pytest.mark.parametrize("others", [False, True], ids=["alone", "beside others"])
def test_what_is_kept_stays_kept(tmp_path: Path, spilled: bool, others: bool) -> None:
    root = tmp_path / "made" / "anew" / "crashes"
    crash_ids = CRASH_ID, STRANGER
    resolved: list[Any] = []
    with unsynced(tmp_path, lambda: len(resolved)) as disk:
        rig = make_rig(root)
        if others:
            make_rig(root)
        resolved = rig.resolved
        area = StagingArea(rig.staging, at_once, lambda: 0, lambda: None)
        for crash_id in crash_ids:
            dumps: dict[str, Content] = {name: spilled_to(area, content) for name, content in DUMPS.items()}
            rig.save(rig.transaction(make_crash(crash_id, places=dumps if spilled else {})))
    assert [error for _, error in resolved] == [None] * 2
    cuts = dict.fromkeys((kept, tuple(tree.items())) for kept, tree in disk.cuts(in_order=True))
    assert len(cuts) > 50
    swept: set[tuple[Any, ...]] = set()
    for n, (kept, files) in enumerate(cuts):
        tree = dict(files)
        for number, crash_id in enumerate(crash_ids):
            place = at(Path("made/anew/crashes"), crash_id)
            assert is_seen(tree, place) or number >= kept, "it was acknowledged"
            assert place.link in tree or number >= kept, "nobody would find it"
        if kept and files not in swept:
            swept.add(files)
            again = tmp_path / f"cut-{n}"
            lay_out(tree, again)
            sweep_root(again / "made" / "anew" / "crashes")
            for crash_id in crash_ids[:kept]:
                assert is_kept(again / "made" / "anew" / "crashes", crash_id), "it was swept away"


def sweep_root(root: Path) -> None:
    staging = StagingDirectory(str(root), Modes())
    staging.make()
    sweep(staging)
    staging.remove()


@pytest.mark.slow
@pytest.mark.parametrize("as_it_is", [False, True])
def test_a_release_is_whole_here_or_there(tmp_path: Path, as_it_is: bool) -> None:
    root = tmp_path / "crashes"
    place = keep(root)
    aside = put_aside(root, place)
    dumps = dict(DUMPS)
    if as_it_is:
        (aside / f"{CRASH_ID}.extra_2.dump").unlink()
        del dumps["extra_2"]
    for directory in sorted(root.glob("20160622/**/"), reverse=True):
        directory.rmdir()
    released: list[Place] = []
    with unsynced(tmp_path, lambda: len(released)) as disk:
        mended = f"{aside}/{CRASH_ID}.dump"  # by hand, and nobody synced it
        os.unlink(mended)
        fd = os.open(mended, os.O_WRONLY | os.O_CREAT)
        os.write(fd, DUMPS[MINIDUMP])
        os.close(fd)
        crash = quarantined_crash(str(root), CRASH_ID)
        assert crash is not None
        with staging_in(str(root), Modes()) as staging:
            released.append(release(crash, staging, as_it_is=as_it_is))
    in_quarantine = Place(crash_id=CRASH_ID, name_dir=f"crashes/quarantine/{CRASH_ID}", date_dir="")
    place = at(Path("crashes"))
    cuts = 0
    for done, tree in disk.cuts(in_order=False):
        cuts += 1
        here = is_seen(tree, place, dumps)
        assert here or json.loads(tree[in_quarantine.raw_crash])["uuid"] == CRASH_ID
        assert here or not done
        assert not (done and any(path.startswith("crashes/quarantine/") for path in tree)), "it came back"
        assert place.link in tree or not here, "nobody would find it"
    assert cuts > 100


@pytest.mark.parametrize("quarantined", [False, True])
def test_a_removal_is_never_seen_in_halves_and_never_undone(tmp_path: Path, quarantined: bool) -> None:
    root = tmp_path / "crashes"
    place = keep(root)
    if quarantined:
        put_aside(root, place)
    removed: list[bool] = []
    with unsynced(tmp_path, lambda: len(removed)) as disk:
        crash = find_crash(str(root), CRASH_ID)
        assert crash is not None
        remove(crash)
        removed.append(True)
        (tmp_path / "crashes" / "end").mkdir()  # a moment after it
    place = at(Path("crashes"))
    if quarantined:
        place = Place(crash_id=CRASH_ID, name_dir=f"crashes/quarantine/{CRASH_ID}", date_dir=place.date_dir)
    cuts = 0
    for done, tree in disk.cuts(in_order=False):
        cuts += 1
        is_seen(tree, place)
        left = [path for path in tree if CRASH_ID in path]
        assert left == [] or not done
        if not quarantined and any(path != place.link for path in left):
            assert place.link in tree, "the rest would be forgotten"
    assert cuts > 10


def test_nothing_is_lost_on_the_way_to_the_quarantine(tmp_path: Path) -> None:
    root = tmp_path / "crashes"
    place = keep(root)
    source = source_of(root)
    contents = {Path(path).read_bytes() for path in (place.raw_crash, *map(place.dump, DUMPS))}
    done: list[bool] = []
    with unsynced(tmp_path, lambda: len(done)) as disk:
        result_of(source.quarantine(NewCrash(CRASH_ID, place.date_dir), "broken"))
        done.append(True)
        (tmp_path / "crashes" / "end").mkdir()  # a moment after it
    aside = Place(crash_id=CRASH_ID, name_dir=f"crashes/quarantine/{CRASH_ID}", date_dir="")
    for is_done, tree in disk.cuts(in_order=True):
        assert contents <= set(tree.values())
        assert is_seen(tree, aside) or at(Path("crashes")).link in tree, "nobody would find it"
        assert is_seen(tree, aside) or not is_done


def test_what_was_moved_is_never_seen_in_halves(tmp_path: Path) -> None:
    root = tmp_path / "crashes"
    place = keep(root)
    source = source_of(root)
    new = NewCrash(CRASH_ID, place.date_dir)
    crash = result_of(source.load(new))
    assert crash is not None
    with unsynced(tmp_path) as disk:
        result_of(source.remove(new, crash, keep=False))
    cuts = dict.fromkeys(tuple(tree.items()) for _, tree in disk.cuts(in_order=True))
    assert len(cuts) > 5
    for n, files in enumerate(cuts):
        is_seen(dict(files), at(Path("crashes")))
        again = tmp_path / f"cut-{n}"
        lay_out(dict(files), again)
        sweep_root(again / "crashes")
        found = find_crash(str(again / "crashes"), CRASH_ID)
        assert found is None or problems_of(found) == []
