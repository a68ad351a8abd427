"""
Claims: a process lets the others see that it has a crash in hand, and takes it out of its place.

The claim is an intent record in the staging directory of the process. It is made before the process looks for those of
others. So of two processes that want the same crash, at least one sees the other and gives up. All of it blocks.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from collectord.storage.filesystem.fsops import FULL, create_empty, unlink_if_there
from collectord.storage.filesystem.peers import CrashContended
from collectord.storage.filesystem.staging import StagingDirectory
from collectord.storage.filesystem.versions import version_of


@contextmanager
def claimed(staging: StagingDirectory, crash_id: str) -> Iterator[None]:
    """
    Keep every other process from putting this crash in its place, for the length of a C{with} block.

    @raise FileExistsError: this process is keeping the crash right now.
    @raise CrashContended: another process has the crash in hand.
    """
    claim = staging.intent_record(crash_id)
    create_empty(claim)  # a sweep ignores an empty raw crash
    try:
        staging.peers.refuse_contended_now(crash_id)
        yield
    finally:
        unlink_if_there(claim)


def take_out(staging: StagingDirectory, crash_id: str, raw_crash: str, version: tuple[int, ...] | None = None) -> None:
    """
    Move a raw crash from its place to the staging directory. From then on the crash is not kept, and if this process
    dies, a sweep removes the rest of it. If the disk is full, the raw crash is just removed.

    A link or a dump without a raw crash could also come from a backup that is being copied here. Only the record in the
    staging directory says that we were removing the crash.

    @param raw_crash: its path.
    @param version: the L{version_of} the raw crash when it was read; None: take out whatever is there.

    @raise FileNotFoundError: no raw crash is in its place.
    @raise CrashContended: it stays in its place, because another process has the crash in hand, or because it changed
        since it was read.
    @raise OSError: it is, or may be, still in its place.
    """
    record = staging.intent_record(crash_id)
    try:
        how = _claim(raw_crash, record, crash_id)
    except FileNotFoundError as e:
        if os.path.lexists(raw_crash):
            raise OSError(errno.EIO, "the staging directory is gone", staging.path) from e
        raise
    try:
        # From here on no other process puts the crash in its place, or counts on it there. Now look for one that
        # began before.
        staging.peers.refuse_contended_now(crash_id, may_be_swept=True)
        if version is not None and version_of(raw_crash) != version:
            raise CrashContended("it has changed since it was read: somebody counts on it", crash_id)
        if how == "empty file":
            os.rename(raw_crash, record)
        else:
            os.unlink(raw_crash)
    except BaseException:
        if how != "disk is full":
            unlink_if_there(record)
        raise


def _claim(raw_crash: str, record: str, crash_id: str) -> Literal["hard link", "empty file", "disk is full"]:
    """
    Make the intent record of a crash that is to be taken out: a hard link to its raw crash, or where the file system
    has no hard links, an empty file. A full disk has room for neither, and the others see nothing.
    """
    try:
        os.link(raw_crash, record)
    except FileNotFoundError:
        raise
    except OSError as e:
        if os.path.lexists(record):
            raise CrashContended("this process keeps it once more right now", crash_id) from e
        if e.errno in FULL:
            return "disk is full"
    else:
        return "hard link"
    create_empty(record)
    return "empty file"
