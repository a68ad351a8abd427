"""
A file system that shuts down while eight threads sync: XFS then confirms, in one round of three, what it throws away.
"""

import os
import shutil
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from collectord.storage.filesystem.aborted import AbortedJournal
from collectord.storage.filesystem.identity import ConfirmedSync, StoreIdentity
from collectord.storage.filesystem.staging import Modes, StagingDirectory
from collectord.storage.filesystem.sync import sync_each
from tests.support.mounts import LoopDisk, can_mount, loop_xfs
from tests.support.wait import until

pytestmark = [
    pytest.mark.fault,
    pytest.mark.skipif(can_mount() != "", reason=can_mount()),
    pytest.mark.skipif(shutil.which("mkfs.xfs") is None, reason="no mkfs.xfs"),
]

THREADS = 8
ROUNDS = 6
AT_LEAST = 200

Refusals = Callable[[StagingDirectory], Sequence[Callable[[], None]]]


def as_in_a_store(staging: StagingDirectory) -> Sequence[Callable[[], None]]:
    return [staging.refuse_other, AbortedJournal(staging.path).refuse]


def none(staging: StagingDirectory) -> Sequence[Callable[[], None]]:
    return []


def lost(disk: LoopDisk, refusals: Refusals) -> set[str]:
    """@return: the files that were confirmed, and are gone when the file system is mounted again."""
    root, confirmed = disk.path / "root", set[str]()
    made = [StagingDirectory(str(root), Modes(), StoreIdentity(str(root))) for _ in range(THREADS)]

    def write(staging: StagingDirectory) -> None:
        sync, number = ConfirmedSync(sync_each, refusals(staging), lambda: None), 0
        while True:
            number += 1
            staged, path = f"{staging.path}/{number}", f"{root}/{staging.staging_id}-{number}"
            try:
                Path(staged).write_bytes(bytes(1400))
                failed = sync([(staged, os.open(staged, os.O_WRONLY))], [])
                os.rename(staged, path)
                failed |= sync([], [str(root)])
            except OSError:
                return
            if failed:
                return
            confirmed.add(path)

    for staging in made:
        staging.make()
    threads = [threading.Thread(target=write, args=(staging,)) for staging in made]
    for thread in threads:
        thread.start()
    until(lambda: len(confirmed) >= AT_LEAST)
    disk.power_cut()
    for thread in threads:
        thread.join()
    for staging in made:
        with suppress(OSError):
            staging.remove()  # which closes its lock
    disk.remount()
    return {path for path in confirmed if not os.path.exists(path)}


def rounds(path: Path, refusals: Refusals, most: int) -> set[str]:
    """Until something is lost."""
    for number in range(most):
        with loop_xfs(path / f"disk-{number}") as disk:
            if gone := lost(disk, refusals):
                return gone
    return set()


def test_nothing_is_confirmed_that_is_thrown_away(tmp_path: Path) -> None:
    assert rounds(tmp_path, as_in_a_store, ROUNDS) == set()
    assert rounds(tmp_path, none, 10 * ROUNDS) != set(), "so the test would not have found out"
