"""
Finding crashes in a store: by id, by day, or in the quarantine. All of it blocks.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress

from attrs import frozen

from collectord.crashid import is_crash_id
from collectord.model import RawCrash, checksums_in
from collectord.storage.filesystem.fsops import list_directory
from collectord.storage.filesystem.layout import (
    QUARANTINE,
    REASON,
    crash_id_of,
    dump_paths,
    place_at,
    place_in,
    quarantine_dirs,
)


@frozen(kw_only=True)
class FoundCrash:
    """
    A crash that was found in a store.

    @ivar root: of the store.
    @ivar raw_crash: the path of the raw crash.
    @ivar dumps: the paths of the dumps, by their names.
    @ivar reason: why the crash is in the quarantine; empty if it is not there.
    """

    crash_id: str
    root: str
    raw_crash: str
    dumps: Mapping[str, str]
    reason: str = ""

    def read(self) -> RawCrash:
        """
        Read its raw crash.

        @raise OSError: it can't be read.
        @raise ValueError: it is no JSON object.
        """
        with open(self.raw_crash, "rb") as file:
            try:
                raw_crash = json.load(file)
            except RecursionError as e:
                raise ValueError("nested too deeply") from e
        if not isinstance(raw_crash, dict):
            raise ValueError("the raw crash is no JSON object")
        return raw_crash

    def is_new(self) -> bool:
        """Whether the crash waits to be moved."""
        if self.reason:
            return False
        try:
            links = links_of(self, self.read())
        except (OSError, ValueError):
            links = symlinks_of(self)
        return any(map(os.path.lexists, links))


def links_of(crash: FoundCrash, raw_crash: RawCrash) -> Sequence[str]:
    """
    The paths where a link says that a crash is new, if it is.

    Socorro's collector, which noted no checksums, has links by another time than that in the raw crash.
    """
    link = link_of(crash.root, crash.crash_id, raw_crash) if checksums_in(raw_crash) is not None else ""
    return [link] if link else symlinks_of(crash)


def link_of(root: str, crash_id: str, raw_crash: RawCrash) -> str:
    """The path of the symlink that says that a crash is new; empty if its raw crash does not say when it came."""
    with suppress(ValueError):
        return place_at(root, crash_id, str(raw_crash.get("submitted_timestamp"))).link
    return ""


def find_crash(root: str, crash_id: str) -> FoundCrash | None:
    """
    Find a crash in the store at C{root}, or in its quarantine.

    @return: None if it is in neither.

    @raise OSError: the store can't be read.
    """
    names = place_in(root, crash_id, date_dir="").name_dir
    if f"{crash_id}.json" in list_directory(names):
        return _found(root, crash_id, names)
    return quarantined_crash(root, crash_id)


def remains_of(root: str, crash_id: str) -> FoundCrash | None:
    """
    Find what is left of a crash whose raw crash is gone: dumps, a link, or both.

    @param root: of the store.
    @return: None if nothing is left.

    @raise OSError: the store can't be read.
    """
    crash = _found(root, crash_id, place_in(root, crash_id, date_dir="").name_dir)
    return crash if crash.dumps or symlinks_of(crash) else None


def symlinks_of(crash: FoundCrash) -> list[str]:
    """The symlinks that say that a crash is new, at whatever time of its day it came: one or none."""
    return place_in(crash.root, crash.crash_id, date_dir="").links()


def quarantined_crash(root: str, crash_id: str) -> FoundCrash | None:
    """
    Find a crash in the quarantine of the store at C{root}; if several have its id, the first.

    @return: None if it is not there.

    @raise OSError: the store can't be read.
    """
    return next(quarantined_copies(root, crash_id), None)


def quarantined_copies(root: str, crash_id: str) -> Iterator[FoundCrash]:
    """
    Yield all that is in the quarantine of the store at C{root} under this id.

    @raise OSError: the store can't be read.
    """
    return _copies(root, crash_id, list_directory(f"{root}/{QUARANTINE}"))


def crash_at(root: str, directory: str, crash_id: str) -> FoundCrash:
    """
    Return the crash of this id in a directory of the store at C{root}; nothing of it needs to be there any more.

    @raise OSError: the directory can't be read.
    """
    _, _, files = next(_walk(directory, _refuse), (directory, [], []))
    return _found(root, crash_id, directory, files=files)


def crash_days(root: str) -> list[str]:
    """The days, as C{yyyymmdd}, of which the store at C{root} has crashes or had some."""
    return sorted(name for name in list_directory(root) if len(name) == 8 and name.isdigit())


def crashes_of_day(root: str, day: str) -> Iterator[FoundCrash]:
    """
    Yield the crashes of one day (C{yyyymmdd}) in the order of their ids. One directory at a time is read.

    @raise OSError: a directory can't be read.
    """
    return (crash for crash in crashes_below(root, day) if crash is not None)


def _refuse(error: OSError) -> None:
    raise error


def crashes_below(root: str, day: str, on_error: Callable[[OSError], None] = _refuse) -> Iterator[FoundCrash | None]:
    """
    Yield as L{crashes_of_day}, and None after each directory, so that no step takes long.

    @param on_error: called with the error of each directory that can't be read. By default it is raised.
    """
    for directory, directories, files in _walk(f"{root}/{day}/name", on_error):
        directories.sort()
        for name in sorted(files):
            crash_id = name.removesuffix(".json")
            if name.endswith(".json") and is_crash_id(crash_id):
                yield _found(root, crash_id, directory, files=files)
        yield None


def links_of_day(root: str, day: str) -> list[tuple[str, str]]:
    """
    Return the links of one day (C{yyyymmdd}), which may be symlinks or small files.

    @return: the crash id and the path of each. Several links may have the same id.

    @raise OSError: a directory can't be read.
    """
    # os.walk lists a symlink to a directory among the directories, and does not follow it.
    walk = _walk(f"{root}/{day}/date", _refuse)
    return [(name, f"{slot}/{name}") for slot, dirs, files in walk for name in (*dirs, *files) if is_crash_id(name)]


def _walk(top: str, on_error: Callable[[OSError], None]) -> Iterator[tuple[str, list[str], list[str]]]:
    """Go through a tree as os.walk does. Unlike os.walk alone, tell if a directory can't be read."""

    def tell(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):  # The directory was removed meanwhile.
            on_error(error)

    return os.walk(top, onerror=tell)


def quarantined_crashes(root: str) -> Iterator[FoundCrash]:
    """The crashes in the quarantine of the store at C{root}."""
    names = list_directory(f"{root}/{QUARANTINE}")
    for crash_id in sorted({crash_id_of(name) for name in names} - {""}):
        yield from _copies(root, crash_id, names)


def _copies(root: str, crash_id: str, names: Sequence[str]) -> Iterator[FoundCrash]:
    for directory in quarantine_dirs(root, crash_id, names):
        if os.path.isdir(directory):
            yield _found(root, crash_id, directory, _reason(directory))


def problems_of(crash: FoundCrash) -> list[str]:
    """
    Read all files of a crash, and compare them with what its raw crash says.

    @return: what is wrong, in words; empty if nothing is, or if the crash is gone by now.
    """
    problems = list(_problems(crash))
    return problems if os.path.lexists(crash.raw_crash) or crash.reason else []


def _problems(crash: FoundCrash) -> Iterator[str]:
    try:
        raw_crash = crash.read()
    except (OSError, ValueError) as e:
        yield f"the raw crash can't be read: {e}"
        return
    if raw_crash.get("uuid") != crash.crash_id:
        yield f"the raw crash says uuid {raw_crash.get('uuid')!r}"
    checksums = checksums_in(raw_crash)
    if checksums is None:
        return
    for name in sorted({*checksums, *crash.dumps}):
        if name not in checksums:
            yield f"the dump {name} has no checksum in the raw crash"
        elif name not in crash.dumps:
            yield f"the dump {name} is missing"
        else:
            try:
                found = sha256_of(crash.dumps[name])
            except OSError as e:
                yield f"the dump {name} can't be read: {e.strerror}"
                continue
            if found != checksums[name]:
                yield f"the dump {name} has the checksum {found}; it was received with {checksums[name]}"


def sha256_of(path: str) -> str:
    """
    The SHA-256 of a file, in hex.

    @raise OSError: it can't be read.
    """
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _found(root: str, crash_id: str, directory: str, reason: str = "", files: list[str] | None = None) -> FoundCrash:
    dumps = dump_paths(crash_id, directory, list_directory(directory) if files is None else files)
    return FoundCrash(
        crash_id=crash_id, root=root, raw_crash=f"{directory}/{crash_id}.json", dumps=dumps, reason=reason
    )


def _reason(directory: str) -> str:
    with suppress(OSError), open(f"{directory}/{REASON}", encoding="utf-8", errors="replace") as file:
        return file.read().strip() or "unknown"
    return "unknown"
