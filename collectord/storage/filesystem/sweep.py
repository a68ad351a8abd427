"""
The sweep: a process clears away what dead processes left in their staging directories.

An intent record there, C{<id>.json}, means that a crash was being kept or removed when its process died. Unless its raw
crash is in its place, the crash is not kept, and whatever else of it is in its place is removed. So a sweep need not
walk through the store.
"""

import fcntl
import json
import os
from collections.abc import Sequence

from attrs import field, frozen

from collectord.crashid import is_crash_id
from collectord.storage.filesystem.fsops import list_directory, locked, remove_tree
from collectord.storage.filesystem.layout import dump_files_of, place_at
from collectord.storage.filesystem.peers import CrashContended
from collectord.storage.filesystem.removal import remove_rest
from collectord.storage.filesystem.staging import StagingDirectory, remove_all_but_lock


@frozen
class Swept:
    """
    What a sweep did.

    @ivar files: how many files in staging directories were removed.
    @ivar failed: why some directories could not be cleared; the next sweep tries again.
    @ivar crashes: the ids of the crashes of which something was removed from its place.
    """

    files: int
    failed: Sequence[OSError]
    crashes: Sequence[str] = field(factory=list)


def sweep(staging: StagingDirectory) -> Swept:
    """
    Remove what dead processes left in the store of C{staging}. What can't be removed harms nobody. It blocks.

    @raise OSError: the staging directories can't be listed.
    """
    files, failed, crashes = 0, [], list[str]()
    with staging.no_sweep():
        for entry in os.scandir(staging.area):
            if entry.path != staging.path and entry.is_dir(follow_symlinks=False):
                try:
                    if staging.peers.owner_is_gone(entry.path):
                        files += _sweep_directory(staging, entry.path, crashes)
                except OSError as e:
                    failed.append(e)
    return Swept(files, failed, crashes)


def _sweep_directory(staging: StagingDirectory, directory: str, crashes: list[str]) -> int:
    """
    Clear one staging directory whose process is gone.

    @return: how many files were in it.
    """
    peers = staging.peers.listed()
    # Holding its lock makes its process look alive, so everybody else stays away from the crashes that it had in hand.
    with locked(f"{directory}/lock", fcntl.LOCK_EX):
        files = [file for file in os.listdir(directory) if file != "lock"]
        for file in files:
            crash_id = file.removesuffix(".json")
            if file.endswith(".json") and is_crash_id(crash_id):
                is_ours = os.path.lexists(staging.intent_record(crash_id))
                if is_ours or staging.peers.contender(peers, crash_id, os.path.basename(directory)):
                    raise CrashContended("somebody has this crash in hand", crash_id)  # the next sweep tries again
                if _remove_unfinished(staging.root, crash_id, f"{directory}/{file}"):
                    crashes.append(crash_id)
        remove_all_but_lock(directory)
    remove_tree(directory)
    return len(files)


def _remove_unfinished(root: str, crash_id: str, record: str) -> bool:
    """Remove what is in place of a crash that is not kept; whether there was anything."""
    try:
        with open(record, encoding="utf-8") as file:
            place = place_at(root, crash_id, json.load(file)["submitted_timestamp"])
    except (ValueError, LookupError, TypeError, AttributeError):
        return False  # it was cut off while it was written, so nothing had been put in place yet
    if os.path.exists(place.raw_crash):
        return False
    dumps = [f"{place.name_dir}/{file}" for file in dump_files_of(crash_id, list_directory(place.name_dir))]
    links = [place.link] if os.path.lexists(place.link) else []
    remove_rest(place.name_dir, dumps, links)
    return bool(dumps or links)
