"""
Power cuts at any moment, on a file system that keeps nothing that it was not told to sync.
"""

import os
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from collectord.model import Content
from collectord.storage.finding import find_crash, quarantined_crash
from collectord.storage.layout import Place, place_of
from collectord.storage.releasing import release, remove, staging_in
from collectord.storage.spill import StagingArea
from collectord.storage.staging import Modes
from tests.support.unsynced import Tree, unsynced
from tests.unit.cli.made import keep, put_aside
from tests.unit.storage.stores import CRASH_ID, DUMPS, NEIGHBOUR, STRANGER, at_once, make_crash, make_rig


def is_seen(tree: Tree, place: Place) -> bool:
    """Whether somebody who looks for the crash finds it; an C{AssertionError} where what is found is not whole."""
    if place.raw_crash not in tree:
        return False
    assert tree[place.raw_crash].startswith(b"{"), "the raw crash is cut off"
    for name, content in DUMPS.items():
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
    before, file, after = (f"{tmp_path}/{name}" for name in ("before", "new/file", "new/after"))
    assert {frozenset({before}), frozenset({before, file}), frozenset({file, after}), frozenset()} <= names
    assert frozenset({before, after}) not in names


def spilled_to(area: StagingArea, content: bytes) -> Content:
    dump = area.new_dump()
    Deferred.fromCoroutine(dump.append([content]))
    return dump.content()


@pytest.mark.parametrize("spilled", [False, True], ids=["in memory", "spilled"])
@pytest.mark.parametrize("others", [False, True], ids=["alone", "beside others"])
def test_what_is_kept_stays_kept(tmp_path: Path, spilled: bool, others: bool) -> None:
    root = tmp_path / "made" / "anew" / "crashes"
    places = [place_of(str(root), make_crash(crash_id)) for crash_id in (CRASH_ID, NEIGHBOUR, STRANGER)]
    decided: list[Any] = []
    with unsynced(tmp_path, lambda: len(decided)) as disk:
        rig = make_rig(root)
        if others:
            make_rig(root)
        decided = rig.decided
        area = StagingArea(rig.staging, at_once, lambda: 0, lambda: None)
        for place in places:
            dumps: dict[str, Content] = {name: spilled_to(area, content) for name, content in DUMPS.items()}
            rig.save(rig.entry(make_crash(place.crash_id, places=dumps if spilled else {})))
    cuts = 0
    for kept, tree in disk.cuts(in_order=True):
        cuts += 1
        for n, place in enumerate(places):
            assert is_seen(tree, place) or n >= kept, "it was acknowledged"
            assert place.link in tree or n >= kept, "nobody would find it"
    assert cuts > 200
    assert rig.errors() == []
    assert [error for _, error in decided] == [None] * 3


def test_a_release_is_whole_here_or_there(tmp_path: Path) -> None:
    root = tmp_path / "crashes"
    place = keep(root)
    aside = put_aside(root, place)
    for directory in sorted(root.glob("20160622/**/"), reverse=True):
        directory.rmdir()
    released: list[Place] = []
    with unsynced(tmp_path, lambda: len(released)) as disk:
        crash = quarantined_crash(str(root), CRASH_ID)
        assert crash is not None
        with staging_in(str(root), Modes()) as staging:
            released.append(release(crash, staging))
    in_quarantine = Place(crash_id=CRASH_ID, names=str(aside), slot="")
    cuts = 0
    for done, tree in disk.cuts(in_order=True):
        cuts += 1
        here = is_seen(tree, place)
        assert here or is_seen(tree, in_quarantine)
        assert here or not done
        assert place.link in tree or not here, "nobody would find it"
    assert cuts > 100


@pytest.mark.parametrize("quarantined", [False, True])
def test_a_removal_is_never_seen_in_halves_and_never_undone(tmp_path: Path, quarantined: bool) -> None:
    root = tmp_path / "crashes"
    place = keep(root)
    if quarantined:
        aside = put_aside(root, place)
        place = Place(crash_id=CRASH_ID, names=str(aside), slot=place.slot)
    removed: list[bool] = []
    with unsynced(tmp_path, lambda: len(removed)) as disk:
        crash = find_crash(str(root), CRASH_ID)
        assert crash is not None
        remove(crash)
        removed.append(True)
        (tmp_path / "crashes" / "end").mkdir()  # a moment after it
    cuts = 0
    for done, tree in disk.cuts(in_order=False):
        cuts += 1
        is_seen(tree, place)
        left = [path for path in tree if CRASH_ID in path]
        assert left == [] or not done
        if not quarantined and any(path != place.link for path in left):
            assert place.link in tree, "the rest would be forgotten"
    assert cuts > 10
