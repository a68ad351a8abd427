"""
Remembers which crashes were erased lately, so that the id of none of them is answered for a report that comes again.

C{<root>/erased/<crash id>} is an empty file, in each store that could be reached then, since their order may change,
and some may be taken out. All of it blocks.
"""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from attrs import frozen

from collectord.storage.filesystem.fsops import fsync_directory, list_directory, unlink_if_there
from collectord.storage.filesystem.manual import make_directories
from collectord.storage.filesystem.staging import StagingDirectory

ERASED = "erased"
"""The directory in the root."""
_KEPT_S = 2 * 86400.0
"""No report is remembered for longer than a day. The other day is for clocks that differ."""


def note_erased(crash_ids: Sequence[str], staging: StagingDirectory) -> None:
    """
    Remember durably that crashes are about to be erased, and forget those that were erased days ago.

    @param staging: the staging directory of this process in a store.
    @raise OSError: it may not be remembered.
    """
    directory = f"{staging.root}/{ERASED}"
    make_directories(directory, staging.root, staging)
    for crash_id in crash_ids:
        path = f"{directory}/{crash_id}"
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        os.utime(path)
    fsync_directory(directory)
    _forget_old(directory)


def _forget_old(directory: str) -> None:
    for name in list_directory(directory):
        path = f"{directory}/{name}"
        with suppress(OSError):  # the next time
            if os.stat(path).st_mtime < time.time() - _KEPT_S:
                unlink_if_there(path)


@frozen
class ErasedReceipts:
    """
    The ids of crashes that were erased lately, as one store knows them.

    @ivar root: of the store.
    @ivar refuse_other: raises OSError if something else lies there.
    """

    root: str
    refuse_other: Callable[[], None]

    def has(self, crash_id: str) -> bool:
        """
        Tell whether a crash was erased, or is about to be.

        @raise OSError: that can't be found out.
        """
        self.refuse_other()
        try:
            os.lstat(f"{self.root}/{ERASED}/{crash_id}")
        except FileNotFoundError:
            return False
        return True
