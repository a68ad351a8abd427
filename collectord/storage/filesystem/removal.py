"""
The one order in which the files of a crash are removed.

The raw crash goes first, so that nobody ever takes half a crash for a whole one. The dumps follow. The link that says
that the crash is new goes last, so that nothing is forgotten if the removal is cut off: whoever follows the link finds
what is left. All of it blocks.
"""

import os
from collections.abc import Iterable
from contextlib import suppress

from collectord.storage.filesystem.claims import take_out
from collectord.storage.filesystem.finder import FoundCrash, symlinks_of
from collectord.storage.filesystem.fsops import fsync_directory, remove_tree, unlink_if_there
from collectord.storage.filesystem.staging import StagingDirectory


def remove(crash: FoundCrash) -> None:
    """
    Remove all files of a crash by hand, and nothing of its neighbours. Each step is durable before the next begins.

    @raise OSError: the crash is not removed, or not all of it.
    """
    name_dir = os.path.dirname(crash.raw_crash)
    links = symlinks_of(crash)
    unlink_if_there(crash.raw_crash)
    _sync_if_there(name_dir)
    remove_rest(name_dir, crash.dumps.values(), links, durable=True)
    if crash.reason:
        remove_tree(name_dir)
        fsync_directory(os.path.dirname(name_dir))


def remove_claimed(crash: FoundCrash, staging: StagingDirectory, version: tuple[int, ...]) -> None:
    """
    Remove a crash beside daemons that use its store: one that somebody counts on stays, and what a kill leaves of it is
    removed by a sweep. Each step is durable before the next begins.

    @param version: as L{collectord.storage.filesystem.versions.version_of} told it when the crash was looked at.

    @raise FileNotFoundError: it is gone.
    @raise CrashContended: another process has it in hand, or it has changed since then.
    @raise OSError: it is not removed, or not all of it.
    """
    name_dir = os.path.dirname(crash.raw_crash)
    links = symlinks_of(crash)
    take_out(staging, crash.crash_id, crash.raw_crash, version)
    _sync_if_there(name_dir)
    remove_rest(name_dir, crash.dumps.values(), links, durable=True)
    unlink_if_there(staging.intent_record(crash.crash_id))


def remove_rest(name_dir: str, dumps: Iterable[str], links: Iterable[str], *, durable: bool = False) -> None:
    """
    Remove what is left of a crash whose raw crash is gone: the dumps, and then the links that say that it is new.

    @param name_dir: the directory of the dumps.
    @param dumps: their paths; some may be gone.
    @param links: the paths of the links; some may be gone.
    @param durable: each step is durable before the next begins. The daemon does without: a sweep, or the next pass of
        the crashmover, removes what a power cut brings back.

    @raise OSError: some of it is left.
    """
    for path in dumps:
        unlink_if_there(path)
    if durable:
        _sync_if_there(name_dir)
    for link in links:
        unlink_if_there(link)
        if durable:
            _sync_if_there(os.path.dirname(link))


def _sync_if_there(directory: str) -> None:
    with suppress(FileNotFoundError):  # of a crash there may be only the link; the crashmover removes empty directories
        fsync_directory(directory)
