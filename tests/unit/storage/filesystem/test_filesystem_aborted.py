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


@pytest.mark.parametrize(
    ("kind", "times"), [("ext3", 2), ("ext4", 2), ("overlay", 2), ("xfs", 0), ("nfs4", 0), ("tmpfs", 0)]
)
def test_only_where_it_may_happen_something_is_changed(
    kind: str, times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aborted, "mount_of", lambda path: Mount(kind=kind))
    changed = change_fails_at(3, monkeypatch)
    AbortedJournal(str(tmp_path)).refuse()
    assert changed == [str(tmp_path)] * times
