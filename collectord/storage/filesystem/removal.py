"""
Crashes leave a store by hand: removed for good, or out of the quarantine, back to where the crashmover finds them.

All of it blocks, and a kill at any time leaves the crash whole, in the quarantine or in its place, or removed.
"""

import filecmp
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from collectord.errors import CollectordError
from collectord.model import RawCrash, checksums_in, metadata_of
from collectord.storage.filesystem.capabilities import probe
from collectord.storage.filesystem.finder import FoundCrash, find_crash, problems_of, sha256_of, symlinks_of
from collectord.storage.filesystem.fsops import fsync_directory, remove_tree, unlink_if_there
from collectord.storage.filesystem.layout import Place, place_at
from collectord.storage.filesystem.quarantine import QUARANTINE
from collectord.storage.filesystem.staging import Modes, StagingDirectory

_TRIES = 5
_TIME = re.compile(r"\d{4}-\d\d-\d\dT([01]\d|2[0-3]):[0-5]\d:[0-5]\d.*")


class CannotRelease(CollectordError):
    """The crash stays in the quarantine; the text says why."""


def remove(crash: FoundCrash) -> None:
    """
    Remove all files of a crash, and nothing of its neighbours.

    @raise OSError: it is not removed, or not all of it.
    """
    # The raw crash first, so that no half crash is ever seen; the link last, so that nothing is forgotten.
    names = os.path.dirname(crash.raw_crash)
    links = symlinks_of(crash)
    unlink_if_there(crash.raw_crash)
    with suppress(FileNotFoundError):  # of what is left of a crash there may be the link alone
        fsync_directory(names)
    for path in crash.dumps.values():
        unlink_if_there(path)
    with suppress(FileNotFoundError):
        fsync_directory(names)
    for link in links:
        unlink_if_there(link)
        with suppress(FileNotFoundError):  # the crashmover removes empty slots
            fsync_directory(os.path.dirname(link))
    if crash.reason:
        remove_tree(names)
        fsync_directory(os.path.dirname(names))


@contextmanager
def staging_in(root: str, modes: Modes) -> Iterator[StagingDirectory]:
    """
    A place for what is neither in the quarantine nor in its place, while this process lives.

    @param modes: of the directories that are made.
    @raise CannotRelease: this is another user than the daemon's, which could neither read nor remove what is made.
    """
    of_daemon = next((path for path in (f"{root}/{QUARANTINE}", f"{root}/staging") if os.path.isdir(path)), root)
    owner = os.stat(of_daemon).st_uid
    if os.geteuid() != owner:
        raise CannotRelease(f"only the user of the daemon can do that: {of_daemon} belongs to uid {owner}")
    staging = StagingDirectory(root, modes)
    staging.make()
    staging.capabilities = probe(staging.path)
    try:
        yield staging
    finally:
        with suppress(OSError):  # the daemon sweeps
            staging.remove()


def release(crash: FoundCrash, staging: StagingDirectory, *, as_it_is: bool = False) -> Place:
    """
    Put a crash of the quarantine back in its place, as new: the crashmover tries again.

    Everything is copied to its place, and leaves the quarantine only when that is durable: of the files there nobody
    knows whether a sync of them has failed before. Meanwhile the raw crash lies in the staging area, so that nobody
    takes the link without a raw crash for the rest of a removal.

    @param staging: in the same store.
    @param as_it_is: its dumps may be others than those that were received; the raw crash then says so.
    @raise CannotRelease: it would come back at once, or something is in its way.
    @raise OSError: it is still in the quarantine.
    """
    place, raw_crash = _readable(crash)
    if os.path.lexists(place.raw_crash):
        _refuse_unlike(crash, place)
    problems = problems_of(crash)
    if problems and not as_it_is:
        raise CannotRelease("; ".join(problems))
    if problems:
        _accept(crash, raw_crash, problems, staging)
    if os.path.lexists(place.raw_crash):
        make_directories(place.name_dir, crash.root, staging)
        fsync_directory(place.name_dir)  # a release before this one may have failed to
    else:
        _publish(crash, place, staging)
    # In one step; what is left in the staging area is swept.
    os.rename(os.path.dirname(crash.raw_crash), f"{staging.path}/{crash.crash_id}")
    fsync_directory(f"{crash.root}/{QUARANTINE}")
    return place


def _refuse_unlike(crash: FoundCrash, place: Place) -> None:
    """What is in its place has to be this crash, whole: the copy in the quarantine is then removed."""
    if not filecmp.cmp(place.raw_crash, crash.raw_crash, shallow=False):
        raise CannotRelease(f"another crash of this id is in its place: {place.raw_crash}")
    there = find_crash(crash.root, crash.crash_id)
    problems = [] if there is None else problems_of(there)
    if problems:
        raise CannotRelease(f"what is in its place is not whole; put that elsewhere first: {'; '.join(problems)}")


def _readable(crash: FoundCrash) -> tuple[Place, RawCrash]:
    try:
        raw_crash = crash.read()
    except (OSError, ValueError) as e:
        raise CannotRelease(f"its raw crash can't be read: {e}") from e
    submitted = str(raw_crash.get("submitted_timestamp"))
    if not _TIME.fullmatch(submitted):
        raise CannotRelease(f"its raw crash does not say when it came: submitted_timestamp is {submitted!r}")
    return place_at(crash.root, crash.crash_id, submitted), raw_crash


def _accept(crash: FoundCrash, raw_crash: RawCrash, problems: list[str], staging: StagingDirectory) -> None:
    """Let the raw crash speak of the dumps that are there."""
    metadata = dict(metadata_of(raw_crash))
    notes = metadata.get("collector_notes")
    metadata["collector_notes"] = [*(notes if isinstance(notes, list) else []), *(f"released: {p}" for p in problems)]
    if checksums_in(raw_crash) is not None:
        metadata["dump_checksums"] = {name: sha256_of(path) for name, path in crash.dumps.items()}
    accepted: Mapping[str, object] = {**raw_crash, "uuid": crash.crash_id, "metadata": metadata}
    path, fd = staging.write("accepted", [json.dumps(accepted).encode()])
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(path, crash.raw_crash)
    fsync_directory(os.path.dirname(crash.raw_crash))


def _publish(crash: FoundCrash, place: Place, staging: StagingDirectory) -> None:
    received = checksums_in(crash.read()) or {}
    staged = _copy(crash.raw_crash, f"{crash.crash_id}.json", sha256_of(crash.raw_crash), staging)
    staging.refresh_peers()
    staging.refuse_contended(crash.crash_id)
    if os.path.lexists(place.raw_crash):
        raise CannotRelease(f"another crash of this id is in its place: {place.raw_crash}")
    for left in range(_TRIES, 0, -1):
        try:
            make_directories(place.name_dir, crash.root, staging)
            make_directories(place.date_dir, crash.root, staging)
            for name, path in crash.dumps.items():
                copy = _copy(path, "dump", received.get(name) or sha256_of(path), staging)
                # Whatever bears the name now is a leftover: its raw crash is not there.
                os.rename(copy, f"{place.name_dir}/{os.path.basename(path)}")
            with suppress(FileExistsError):
                staging.mark_new(place.link, place.link_target)
            fsync_directory(place.name_dir)
            fsync_directory(place.date_dir)
            break
        except FileNotFoundError:  # the crashmover removes empty slots
            if left == 1:
                raise
    os.rename(staged, place.raw_crash)
    fsync_directory(place.name_dir)


def make_directories(directory: str, root: str, staging: StagingDirectory) -> None:
    """Make a directory below a root, and sync the way to it whoever made it."""
    if directory == root:
        return
    make_directories(os.path.dirname(directory), root, staging)
    with suppress(FileExistsError):
        staging.make_directory(directory)
    fsync_directory(os.path.dirname(directory))


def _copy(path: str, name: str, sha256: str, staging: StagingDirectory) -> str:
    """A new file in the staging area, durable."""
    unlink_if_there(f"{staging.path}/{name}")  # left by a try before
    copy, fd = staging.copy(name, path, sha256)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    return copy
