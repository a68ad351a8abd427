"""
C{collectord stores}: what is seen of each store, and how one that is another is taken, or forgotten.
"""

import errno
import json
import shutil
from pathlib import Path

import pytest

from collectord.storage.filesystem.identity import MARK, read_mark
from collectord.storage.filesystem.known import KnownStore, KnownStores
from tests.unit.cli.command import lines, run


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KnownStores:
    monkeypatch.setenv("COLLECTORD_STATE__DIRECTORY", str(tmp_path / "state"))
    return KnownStores(str(tmp_path / "state"))


def infos(*args: object) -> dict[str, dict[str, object]]:
    return {str(line["root"]): line for line in lines(run("stores", "list", "--json", *args))}


def test_a_new_store(root: Path, known: KnownStores) -> None:
    [store] = infos().values()
    assert store["root"] == str(root)
    assert (store["store_id"], store["remembered"], store["problem"], store["in_settings"]) == (None, None, None, True)
    assert store["mount_point"]
    assert list(root.iterdir()) == []
    assert run("stores", "list").exit_code == 0


def test_adopted_and_then_lost_and_then_adopted(root: Path, known: KnownStores) -> None:
    assert run("stores", "adopt", root).exit_code == 0
    first = read_mark(str(root))
    assert infos()[str(root)]["remembered"] == infos()[str(root)]["store_id"] == first
    shutil.rmtree(root)
    adopting = f"collectord stores adopt {root}"
    for make, why, advice in (
        (lambda: None, f"there is no directory at {root}", "is its file system mounted?"),
        (root.mkdir, "this is not the store that was here before (its mark", adopting),
    ):
        make()
        assert why in str(infos()[str(root)]["problem"])
        listed = run("stores", "list")
        assert listed.exit_code == 1
        assert advice in listed.stdout
        checked = run("check-config")
        assert checked.exit_code == 1
        assert f"{root}: {why}" in checked.stderr
        assert json.loads(run("check-config", "--json").stdout)["ok"] is False
    assert json.loads(run("stores", "adopt", root, "--json").stdout)["store_id"] not in (None, first)
    assert run("stores", "list").exit_code == run("check-config").exit_code == 0
    (root / MARK).write_text("{")
    assert "damaged" in str(infos()[str(root)]["problem"])
    assert run("stores", "adopt", root).exit_code == 0
    assert infos()[str(root)]["problem"] is None


def test_a_destination_is_a_store_too(root: Path, known: KnownStores, tmp_path: Path) -> None:
    there, settings = tmp_path / "there", tmp_path / "c.toml"
    tables = '[[crashmover.destination]]\ntype = "fallback"\n'
    for path in (there, tmp_path / "second"):
        tables += f'[[crashmover.destination.of]]\ntype = "filesystem"\nroot = "{path}"\nrequire_mount = true\n'
    settings.write_text(f'[[storage]]\nroot = "{root}"\n{tables}')
    assert infos("--config", settings).keys() == {str(root), str(there), str(tmp_path / "second")}
    assert "require_mount is true" in str(infos("--config", settings)[str(there)]["problem"])
    there.mkdir()
    assert run("stores", "adopt", there, "--config", settings).exit_code == 0
    assert known.get(str(there)) is not None


def test_what_is_remembered_and_not_in_the_settings(root: Path, known: KnownStores) -> None:
    known.remember(KnownStore(root="/mnt/gone", store_id="1", device="xfs"))
    assert infos()["/mnt/gone"]["in_settings"] is False
    listed = run("stores", "list")
    assert "not in these settings; if it was given up, run: collectord stores forget /mnt/gone" in listed.stdout
    assert "adopt" not in listed.stdout
    assert listed.exit_code == 0
    assert run("stores", "forget", "/mnt/gone").exit_code == 0
    assert known.all() == []
    again = run("stores", "forget", "/mnt/gone")
    assert (again.exit_code, again.stderr) == (1, "collectord: /mnt/gone is not remembered\n")


def test_no_store_is_adopted_by_mistake(root: Path, known: KnownStores, tmp_path: Path) -> None:
    other = run("stores", "adopt", tmp_path / "other")
    assert other.exit_code == 2
    assert "is not a store of these settings" in other.stderr
    root.rmdir()
    missing = run("stores", "adopt", root)
    assert missing.exit_code == 2
    assert "there is no directory at" in missing.stderr
    assert known.all() == []


def test_a_store_of_another_user_is_not_adopted(
    root: Path, known: KnownStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, *args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr("collectord.storage.filesystem.identity.write_durably", refuse)
    refused = run("stores", "adopt", root)
    assert refused.exit_code == 2
    assert refused.stderr.startswith(f"collectord: {root} is not adopted: {root / MARK}: Permission denied; ")
    assert "run this as that user" in refused.stderr


@pytest.mark.parametrize("command", [("stores", "list"), ("check-config",)])
def test_what_is_remembered_is_not_for_everybody(
    root: Path, known: KnownStores, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    def refuse(_: KnownStores) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/state/stores")

    monkeypatch.setattr(KnownStores, "all", refuse)
    refused = run(*command)
    assert refused.exit_code == 2
    assert refused.stderr.startswith("collectord: /state/stores: Permission denied; ")
    assert "run this as that user" in refused.stderr
