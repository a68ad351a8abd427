"""
What is remembered of stores: durably, by root, by several daemons, and by whoever may read it.
"""

import os
from pathlib import Path

import pytest

from collectord.storage.filesystem.known import KnownStore, KnownStores, state_directory, write_durably
from tests.support.cases import for_each
from tests.unit.storage.stores import failing

A = KnownStore(root="/mnt/a", store_id="1", device="ext 5")
B = KnownStore(root="/mnt/a/../b ü", store_id="2", device="")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "var" / "state"


def test_nothing_is_known(state: Path) -> None:
    known = KnownStores(str(state))
    assert (known.get("/mnt/a"), known.all(), known.forget("/mnt/a")) == (None, [], False)
    assert not state.parent.exists()


def test_what_one_remembers_the_other_knows(state: Path) -> None:
    KnownStores(str(state)).remember(A)
    KnownStores(str(state)).remember(B)
    known = KnownStores(str(state))
    assert known.get(A.root) == A
    assert known.get("/mnt") is None
    assert known.all() == [A, B]
    changed = KnownStore(root=A.root, store_id="3", device="xfs")
    known.remember(changed)
    assert KnownStores(str(state)).get(A.root) == changed
    assert known.forget(A.root)
    assert KnownStores(str(state)).all() == [B]


def test_it_is_for_nobody_else(state: Path) -> None:
    KnownStores(str(state)).remember(A)
    modes = {path.stat().st_mode & 0o077 for path in (state.parent, state, *state.rglob("*"))}
    assert modes == {0}


@pytest.mark.parametrize(
    ("operation", "reported"),
    [("rename", "injected"), ("fsync", r"syncs of files do not work here \(fsync: EIO\)")],
    ids=["rename", "fsync"],
)
def test_whole_or_not_at_all(state: Path, operation: str, reported: str) -> None:
    known = KnownStores(str(state))
    known.remember(A)
    with failing(state, operation, 1, OSError(5, "injected")), pytest.raises(OSError, match=reported):
        known.remember(KnownStore(root=A.root, store_id="3", device="xfs"))
    assert known.get(A.root) == A
    assert len(list(state.rglob("*.json*"))) == 1


def test_what_is_damaged_is_no_reason_to_trust(state: Path) -> None:
    known = KnownStores(str(state))
    known.remember(A)
    [file] = state.rglob("*.json")
    for content in ("", "{", "[]", '{"root": "/mnt/a"}'):
        file.write_text(content)
        with pytest.raises(OSError, match="can't be read"):
            known.get(A.root)
    known.remember(A)
    assert known.get(A.root) == A


def test_no_place_to_remember(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    known = KnownStores(str(tmp_path / "file" / "state"))
    assert known.get("/mnt/a") is None
    with pytest.raises(OSError, match="Not a directory"):
        known.refuse_unwritable()
    good = KnownStores(str(tmp_path / "state"))
    good.refuse_unwritable()
    assert list((tmp_path / "state").rglob("*.json")) == []


def test_first_replaces_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mark"

    def no_links(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    for link in (os.link, no_links):
        monkeypatch.setattr(os, "link", link)
        write_durably(str(path), {"is": "first"}, first=True)
        with pytest.raises(FileExistsError):
            write_durably(str(path), {"is": "second"}, first=True)
        assert "first" in path.read_text()
        assert os.listdir(tmp_path) == ["mark"]
        path.unlink()


@for_each(
    ("configured", "environment", "expected"),
    [
        (Path("/srv/state"), {"STATE_DIRECTORY": "/var/lib/x"}, "/srv/state"),
        (None, {"STATE_DIRECTORY": "/var/lib/collectord"}, "/var/lib/collectord"),
        (None, {"STATE_DIRECTORY": "/var/lib/a:/var/lib/b", "XDG_STATE_HOME": "/x"}, "/var/lib/a"),
        (None, {"STATE_DIRECTORY": "", "XDG_STATE_HOME": "/home/c/state"}, "/home/c/state/collectord"),
        (None, {"XDG_STATE_HOME": ""}, os.path.expanduser("~/.local/state/collectord")),
    ],
)
def test_where(configured: Path | None, environment: dict[str, str], expected: str) -> None:
    assert state_directory(configured, environment) == expected
