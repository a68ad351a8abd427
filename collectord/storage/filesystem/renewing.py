"""
Making a crash new again whose link is lost, so that the crashmover finds it. All of it blocks.
"""

import os
from contextlib import suppress

from collectord.errors import CollectordError
from collectord.storage.filesystem.finder import FoundCrash, link_of, problems_of
from collectord.storage.filesystem.fsops import fsync_directory
from collectord.storage.filesystem.layout import place_in
from collectord.storage.filesystem.manual import make_directories
from collectord.storage.filesystem.staging import StagingDirectory

_TRIES = 5


class CannotRenew(CollectordError):
    """The crash stays as it is; the text says why."""


def renew(crash: FoundCrash, staging: StagingDirectory) -> bool:
    """
    Make a crash new again, durably. The crashmover will move it, even to where it is already.

    @param staging: the staging directory of this process in the same store.
    @return: whether it was not new before.

    @raise CannotRenew: it is not whole, or nobody knows when it came.
    @raise CrashContended: another process has it in hand.
    @raise OSError: it may not be new.
    """
    if crash.reason:
        raise CannotRenew("it is in the quarantine: collectord quarantine release puts it back")
    if problems := problems_of(crash):
        raise CannotRenew("; ".join(problems))
    link = link_of(crash.root, crash.crash_id, crash.read())
    if not link:
        raise CannotRenew("its raw crash does not say when it came")
    staging.peers.refresh()
    staging.peers.refuse_contended(crash.crash_id)
    if crash.is_new():
        return False
    place = place_in(crash.root, crash.crash_id, os.path.dirname(link))
    for left in range(_TRIES, 0, -1):
        try:
            make_directories(place.date_dir, crash.root, staging)
            with suppress(FileExistsError):
                staging.mark_new(place.link, place.link_target)
            fsync_directory(place.date_dir)
            return True
        except FileNotFoundError:  # the crashmover removed the directory while it was empty
            if left == 1:
                raise
    raise AssertionError("it has been tried")
