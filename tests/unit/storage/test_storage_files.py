"""
The file operations and names that stores and journals share.
"""

import os
import re
import socket
from pathlib import Path

import pytest

from collectord.storage.files import is_of_this_host, new_process_name, sync_and_close
from tests.unit.storage.stores import failing, noted_syncs


def test_each_process_has_a_name_of_its_own() -> None:
    names = {new_process_name() for _ in range(10)}
    assert len(names) == 10
    for name in names:
        assert re.fullmatch(rf"{re.escape(socket.gethostname())}-{os.getpid()}-[0-9a-f]{{8}}", name)
        assert is_of_this_host(name)


@pytest.mark.parametrize(
    ("name", "is_ours"),
    [
        ("a-host-1-00c0ffee", True),
        ("a-1-00c0ffee", False),
        ("host-1-00c0ffee", False),
        ("a-host-2-1-00c0ffee", False),
    ],
)
def test_a_name_says_on_which_host_a_process_runs(name: str, is_ours: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "a-host")
    assert is_of_this_host(name) == is_ours


def test_a_file_is_synced_and_closed(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    with noted_syncs() as synced:
        sync_and_close(fd)
    assert synced == [str(tmp_path / "file")]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_a_file_that_cannot_be_synced_is_closed_too(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    with failing(tmp_path, "fsync", 1, OSError(5, "injected")), pytest.raises(OSError, match="injected"):
        sync_and_close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
