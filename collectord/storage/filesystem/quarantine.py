"""
Crashes that are put aside: C{<root>/quarantine/<id>/}, all their files and the reason.

What is put aside again, while the first is still there, is in C{<id>.2} and so on. All of it blocks.
"""

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from itertools import count

from collectord.crashid import is_crash_id
from collectord.storage.filesystem.fsops import fsync_directory
from collectord.storage.filesystem.layout import Place

QUARANTINE = "quarantine"
REASON = "reason.txt"


def make_directory(place: Place, names: Collection[str], reason: str, at: str, make: Callable[[str], object]) -> str:
    """
    A directory in the quarantine for files of a crash, and in it the reason; durable, but for what is put there.

    It is new, or one that was not finished, where these are missing.

    @param names: of the files.
    @param at: the time, ISO 8601.
    @param make: C{mkdir}.
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
    with open(f"{directory}/{REASON}", "w", encoding="utf-8", opener=_open_for_us) as file:
        file.write(f"{at} {reason}\n")
        file.flush()
        os.fsync(file.fileno())
    # What is put into a directory is only as durable as the way to it.
    for path in (place.root, f"{place.root}/{QUARANTINE}", directory):
        fsync_directory(path)
    return directory


def _open_for_us(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def put_aside(place: Place, names: Sequence[str], directory: str) -> None:
    """
    Move files of a crash to its directory in the quarantine.

    @param names: of the files; one that is gone by now is left out.
    """
    raw_crash = os.path.basename(place.raw_crash)
    # The raw crash last: a link without one is what a removal left, and the rest would be removed.
    for name in sorted(names, key=raw_crash.__eq__):
        with suppress(FileNotFoundError):
            os.rename(f"{place.name_dir}/{name}", f"{directory}/{name}")
    fsync_directory(directory)


def directories_of(root: str, crash_id: str, names: Sequence[str]) -> Iterator[str]:
    """Those of one crash among C{names}, which are in the quarantine: the first that was put aside first."""
    mine = [name for name in names if crash_id_of(name) == crash_id]
    for name in sorted(mine, key=lambda name: int(name[len(crash_id) + 1 :] or 1)):
        yield f"{root}/{QUARANTINE}/{name}"


def crash_id_of(name: str) -> str:
    """The crash whose directory in the quarantine has that name; empty: it is none."""
    crash_id, _, number = name.partition(".")
    return crash_id if is_crash_id(crash_id) and (not number or number.isdecimal()) else ""
