"""
The quarantine: crashes that are put aside, each with the reason, until somebody releases or removes them by hand.

C{<root>/quarantine/<id>/} has all files of a crash. If a crash of that id is put aside again while the first is still
there, it gets C{<id>.2}, and so on. All of it blocks. A kill or a power cut at any time leaves a crash whole, in the
quarantine or in its place.
"""

import filecmp
import json
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from itertools import count

from collectord.errors import CollectordError
from collectord.model import RawCrash, checksums_in, metadata_of
from collectord.storage.files import sync_and_close
from collectord.storage.filesystem.finder import FoundCrash, find_crash, problems_of, sha256_of
from collectord.storage.filesystem.fsops import fsync_directory, unlink_if_there
from collectord.storage.filesystem.layout import QUARANTINE, REASON, Place, place_at
from collectord.storage.filesystem.manual import make_directories
from collectord.storage.filesystem.staging import StagingDirectory

_TRIES = 5
_TIME = re.compile(r"\d{4}-\d\d-\d\dT([01]\d|2[0-3]):[0-5]\d:[0-5]\d.*")


class CannotRelease(CollectordError):
    """The crash stays in the quarantine; the text says why."""


def make_directory(place: Place, names: Collection[str], reason: str, at: str, make: Callable[[str], object]) -> str:
    """
    Make a directory in the quarantine for files of a crash, and write the reason in it. Both are durable.

    It is a new directory, or one that an earlier try did not finish, if none of these files is in it.

    @param names: of the files that will be put there.
    @param at: the time, ISO 8601.
    @param make: C{mkdir}.
    @return: its path.

    @raise OSError: it may not be durable.
    """
    with suppress(FileExistsError):
        make(f"{place.root}/{QUARANTINE}")
    raw_crash = os.path.basename(place.raw_crash)
    for number in count(1):
        directory = f"{place.root}/{QUARANTINE}/{place.crash_id}{f'.{number}' if number > 1 else ''}"
        try:
            make(directory)
        except FileExistsError:
            if not {raw_crash, *names}.isdisjoint(os.listdir(directory)):
                continue
        break
    with open(f"{directory}/{REASON}", "w", encoding="utf-8", opener=_open_private) as file:
        file.write(f"{at} {reason}\n")
        file.flush()
        os.fsync(file.fileno())
    # What is put into a directory is only as durable as the directories that lead to it.
    for path in (place.root, f"{place.root}/{QUARANTINE}", directory):
        fsync_directory(path)
    return directory


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def put_aside(place: Place, names: Sequence[str], directory: str) -> bool:
    """
    Move files of a crash to its directory in the quarantine.

    @param names: of the files; one that is gone by now is left out.
    @return: False if all are gone by now. Then the directory is gone as well.

    @raise OSError: some of them are still in their place.
    """
    raw_crash = os.path.basename(place.raw_crash)
    # The raw crash goes last. A link without one would look like the rest of a removal, and the dumps would be removed.
    for name in sorted(names, key=raw_crash.__eq__):
        with suppress(FileNotFoundError):
            os.rename(f"{place.name_dir}/{name}", f"{directory}/{name}")
    if os.listdir(directory) == [REASON]:
        os.unlink(f"{directory}/{REASON}")
        os.rmdir(directory)
        return False
    fsync_directory(directory)
    return True


def release(crash: FoundCrash, staging: StagingDirectory, *, as_it_is: bool = False) -> Place:
    """
    Put a crash from the quarantine back in its place as a new one, so that the crashmover tries it again.

    Every file is copied, and leaves the quarantine only once the copy is durable: nobody knows whether an earlier sync
    of the files in the quarantine failed. Meanwhile the raw crash is in the staging directory, so that nobody takes the
    link without a raw crash for the rest of a removal.

    @param staging: of this process in the same store.
    @param as_it_is: accept dumps that are not those that were received; the raw crash will say so.
    @return: where the crash is now.

    @raise CannotRelease: it would be put aside again at once, or something else is in its place.
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
        fsync_directory(place.name_dir)  # an earlier release may have been cut off before that
    else:
        _publish(crash, place, staging)
    # It leaves the quarantine in one step. What is left in the staging directory is swept.
    os.rename(os.path.dirname(crash.raw_crash), f"{staging.path}/{crash.crash_id}")
    fsync_directory(f"{crash.root}/{QUARANTINE}")
    return place


def _refuse_unlike(crash: FoundCrash, place: Place) -> None:
    """What is in its place has to be this crash, and whole: the copy in the quarantine will be removed."""
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
    """Write the raw crash again, with the checksums of the dumps that are there, and a note of what is wrong."""
    metadata = dict(metadata_of(raw_crash))
    notes = metadata.get("collector_notes")
    metadata["collector_notes"] = [*(notes if isinstance(notes, list) else []), *(f"released: {p}" for p in problems)]
    if checksums_in(raw_crash) is not None:
        metadata["dump_checksums"] = {name: sha256_of(path) for name, path in crash.dumps.items()}
    accepted: Mapping[str, object] = {**raw_crash, "uuid": crash.crash_id, "metadata": metadata}
    path, fd = staging.write("accepted", [json.dumps(accepted).encode()])
    sync_and_close(fd)
    os.rename(path, crash.raw_crash)
    fsync_directory(os.path.dirname(crash.raw_crash))


def _publish(crash: FoundCrash, place: Place, staging: StagingDirectory) -> None:
    """Copy all files of the crash to their places, the raw crash last."""
    received = checksums_in(crash.read()) or {}
    staged = _copy(crash.raw_crash, f"{crash.crash_id}.json", sha256_of(crash.raw_crash), staging)
    staging.peers.refresh()
    staging.peers.refuse_contended(crash.crash_id)
    if os.path.lexists(place.raw_crash):
        raise CannotRelease(f"another crash of this id is in its place: {place.raw_crash}")
    for left in range(_TRIES, 0, -1):
        try:
            make_directories(place.name_dir, crash.root, staging)
            make_directories(place.date_dir, crash.root, staging)
            for name, path in crash.dumps.items():
                copy = _copy(path, "dump", received.get(name) or sha256_of(path), staging)
                # A file that has the name now is left over: its raw crash is not there.
                os.rename(copy, f"{place.name_dir}/{os.path.basename(path)}")
            with suppress(FileExistsError):
                staging.mark_new(place.link, place.link_target)
            fsync_directory(place.name_dir)
            fsync_directory(place.date_dir)
            break
        except FileNotFoundError:  # the crashmover removed a directory that was still empty
            if left == 1:
                raise
    os.rename(staged, place.raw_crash)
    fsync_directory(place.name_dir)


def _copy(path: str, name: str, sha256: str, staging: StagingDirectory) -> str:
    """Copy a file to the staging directory, durably."""
    unlink_if_there(f"{staging.path}/{name}")  # an earlier try may have left one
    copy, fd = staging.copy(name, path, sha256)
    sync_and_close(fd)
    return copy
