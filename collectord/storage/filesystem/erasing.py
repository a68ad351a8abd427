"""
Erasing all that a store has of one crash: in its place, in the quarantine, and the ids that are still to be published.

The crash is claimed and taken out of its place as the crashmover does it, so a daemon that runs beside it neither moves
it meanwhile, nor counts on it; and a kill leaves what a sweep, or the same command, removes. All of it blocks.
"""

import os

from collectord.storage.filesystem.claims import claimed, take_out
from collectord.storage.filesystem.finder import quarantined_copies, remains_of, symlinks_of
from collectord.storage.filesystem.fsops import fsync_directory, list_directory, unlink_if_there
from collectord.storage.filesystem.layout import dump_paths, place_in
from collectord.storage.filesystem.moving import MoveClaims
from collectord.storage.filesystem.peers import CrashContended
from collectord.storage.filesystem.removal import remove, remove_rest
from collectord.storage.filesystem.staging import StagingDirectory
from collectord.storage.filesystem.unpublished import entries_of


def erase(crash_id: str, staging: StagingDirectory) -> bool:
    """
    Erase a crash from the store of C{staging}, durably.

    @param staging: the staging directory of this process there.
    @return: whether there was anything.

    @raise CrashContended: another process has the crash in hand, or moves it right now: try again.
    @raise OSError: some of it may still be there.
    """
    claims = MoveClaims(staging, "moving")
    if not claims.take(crash_id):
        raise CrashContended("it is being moved right now", crash_id)
    try:
        found = [_erase_in_place(crash_id, staging)]
        for copy in quarantined_copies(staging.root, crash_id):
            remove(copy)
            found.append(True)
        for path in entries_of(staging.root, crash_id):
            unlink_if_there(path)
            fsync_directory(os.path.dirname(path))
            found.append(True)
        return any(found)
    finally:
        claims.drop(crash_id)


def _erase_in_place(crash_id: str, staging: StagingDirectory) -> bool:
    place = place_in(staging.root, crash_id, date_dir="")
    try:
        take_out(staging, crash_id, place.raw_crash)
    except FileNotFoundError:
        return _erase_remains(crash_id, staging)
    links = place.links()
    dumps = dump_paths(crash_id, place.name_dir, list_directory(place.name_dir))
    fsync_directory(place.name_dir)
    remove_rest(place.name_dir, dumps.values(), links, durable=True)
    unlink_if_there(staging.intent_record(crash_id))
    return True


def _erase_remains(crash_id: str, staging: StagingDirectory) -> bool:
    """Erase dumps and links without a raw crash."""
    left = remains_of(staging.root, crash_id)
    if left is None:
        return False
    with claimed(staging, crash_id):
        remove_rest(os.path.dirname(left.raw_crash), left.dumps.values(), symlinks_of(left), durable=True)
    return True
