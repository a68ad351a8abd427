import errno
import os
from pathlib import Path

import pytest

from collectord.storage.filesystem import aborted
from collectord.storage.filesystem.aborted import AbortedJournal
from collectord.storage.filesystem.identity import ConfirmedSync
from collectord.storage.filesystem.mounted import Mount
from collectord.storage.filesystem.sync import sync_each
from tests.support.mounts import can_mount, loop_ext4


def change_fails_at(number: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """@return: the paths that were changed."""
    changed: list[str] = []

    def utime(path: str) -> None:
        changed.append(path)
        if len(changed) == number:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    monkeypatch.setattr(os, "utime", utime)
    return changed


@pytest.mark.slow
@pytest.mark.skipif(can_mount() != "", reason=can_mount())
def test_an_aborted_file_system_is_noticed(tmp_path: Path) -> None:
    with loop_ext4(tmp_path / "disk", 16 * 2**20) as ext4:
        journal = AbortedJournal(str(ext4.path))
        journal.refuse()
        ext4.abort()
        with pytest.raises(OSError, match="Read-only file system"):
            journal.refuse()


@pytest.mark.parametrize("number", [1, 2])
def test_nothing_of_a_sync_is_trusted_then(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel does so for some microseconds only, so the error is made here."""
    monkeypatch.setattr(aborted, "mount_of", lambda path: Mount(kind="ext4"))
    change_fails_at(number, monkeypatch)
    remembered: list[str] = []
    sync = ConfirmedSync(sync_each, [AbortedJournal(str(tmp_path)).refuse], lambda: remembered.append("it"))
    path = tmp_path / "file"
    failed = sync([(str(path), os.open(path, os.O_CREAT | os.O_WRONLY))], [str(tmp_path)])
    assert failed.keys() == {str(path), str(tmp_path)}
    assert remembered == []


@pytest.mark.parametrize("kind", ["xfs", "nfs4", "tmpfs"])
def test_other_file_systems_are_not_changed_for_that(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aborted, "mount_of", lambda path: Mount(kind=kind))
    changed = change_fails_at(1, monkeypatch)
    AbortedJournal(str(tmp_path)).refuse()
    assert changed == []
