"""
The paths of a crash below the root of a store: Socorro's dated radix tree, unchanged.

C{<yyyymmdd>/name/8f/63/<id>.json} is the raw crash; its dumps are beside it. C{<yyyymmdd>/date/15/19_49/<id>} is a
relative symlink to their directory. As long as it is there, the crash is new: the crashmover has not moved it yet.

C{quarantine/<id>/} has all files of a crash that was put aside, and the reason.
"""

import glob
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping

from attrs import frozen

from collectord.crashid import depth_of, is_crash_id
from collectord.model import MINIDUMP, Crash

QUARANTINE = "quarantine"
"""The directory of the quarantine, in the root."""

REASON = "reason.txt"
"""The file that says why a crash is in the quarantine, in the crash's directory there."""


@frozen
class Place:
    """
    The paths of one crash.

    @ivar name_dir: the directory of its files, in Socorro's name branch. Other crashes have their files there, too.
    @ivar date_dir: the directory of its symlink, in Socorro's date branch.
    """

    crash_id: str
    name_dir: str
    date_dir: str

    @property
    def root(self) -> str:
        """The root of the store."""
        return self._day_dir.rpartition("/")[0]

    @property
    def _day_dir(self) -> str:
        return self.name_dir.rpartition("/name/")[0]

    @property
    def raw_crash(self) -> str:
        """The path of the raw crash. It is the commit marker: the crash is kept once this file is there."""
        return f"{self.name_dir}/{self.crash_id}.json"

    @property
    def link(self) -> str:
        """The path of the symlink that says that the crash is new."""
        return f"{self.date_dir}/{self.crash_id}"

    def links(self) -> list[str]:
        """Look for the symlinks of this crash that exist, under any time of its day. It blocks."""
        return glob.glob(f"{glob.escape(self._day_dir)}/date/*/*/{self.crash_id}")

    @property
    def link_target(self) -> str:
        """The text of the symlink: the path from L{date_dir} to L{name_dir}."""
        return "../../../name/" + self.name_dir.rpartition("/name/")[2]

    def dump(self, name: str) -> str:
        """The path of the dump of that name."""
        return f"{self.name_dir}/{dump_file(self.crash_id, name)}"

    def dumps(self, names: Collection[str], *, case: bool = True) -> Mapping[str, str]:
        """
        The paths of all dumps of the crash, by their names.

        @param case: whether the file system tells file names apart that differ only by case. If it does not, all but
            the first of such names get a number.
        """
        paths = {name: self.dump(name) for name in names}
        if case or not differ_by_case(names):
            return paths
        seen: Counter[str] = Counter()
        for name in sorted(names):
            seen[name.lower()] += 1
            if (number := seen[name.lower()]) > 1:
                paths[name] = f"{self.name_dir}/{self.crash_id}.{name}{_NUMBER}{number}.dump"
        return paths


_TIME = re.compile(r"([0-9]{2}):([0-9]{2}):([0-9]{2})")
_NUMBER = "~"
"""What stands before the number. No name of a dump contains it."""


def differ_by_case(names: Collection[str]) -> bool:
    """Whether some of these names of dumps differ only by case."""
    return len({name.lower() for name in names}) < len(names)


def dump_file(crash_id: str, name: str) -> str:
    """The file name of a dump."""
    return f"{crash_id}.dump" if name == MINIDUMP else f"{crash_id}.{name}.dump"


def dump_name(crash_id: str, file: str) -> str:
    """The name of the dump in a file: what L{dump_file} and L{Place.dumps} make, the other way round."""
    return file.removeprefix(crash_id).removesuffix(".dump")[1:].partition(_NUMBER)[0] or MINIDUMP


def files_of(crash_id: str, names: Iterable[str]) -> list[str]:
    """Which of the file names C{names} belong to a crash; its neighbours share its directory."""
    return sorted(name for name in names if name.startswith(f"{crash_id}."))


def dump_files_of(crash_id: str, names: Iterable[str]) -> list[str]:
    """Which of the file names C{names} are dumps of a crash."""
    return [name for name in files_of(crash_id, names) if name.endswith(".dump")]


def dump_paths(crash_id: str, directory: str, names: Iterable[str]) -> dict[str, str]:
    """The paths of the dumps of a crash in a directory, by their names; C{names} are the file names there."""
    return {dump_name(crash_id, file): f"{directory}/{file}" for file in dump_files_of(crash_id, names)}


def place_of(root: str, crash: Crash) -> Place:
    """
    Where a crash belongs in the store at C{root}.

    @raise LookupError: its raw crash has no time.
    @raise ValueError: its time is no ISO 8601.
    """
    return place_at(root, crash.crash_id, str(crash.raw_crash["submitted_timestamp"]))


def place_at(root: str, crash_id: str, submitted_timestamp: str) -> Place:
    """
    Where the crash of this id and time (ISO 8601, UTC) belongs.

    @raise ValueError: the time is no ISO 8601.
    """
    time = _TIME.fullmatch(submitted_timestamp[11:19])
    if time is None:
        raise ValueError(f"no ISO 8601: {submitted_timestamp[:40]!r}")
    hour, minute, second = time.groups()
    return place_in(root, crash_id, f"{root}/20{crash_id[-6:]}/date/{hour}/{minute}_{second}")


def place_in(root: str, crash_id: str, date_dir: str) -> Place:
    """Where the crash of this id is if its symlink is in C{date_dir}."""
    radix = "/".join(crash_id[i * 2 : i * 2 + 2] for i in range(depth_of(crash_id)))
    return Place(crash_id=crash_id, name_dir=f"{root}/20{crash_id[-6:]}/name/{radix}", date_dir=date_dir)


def quarantine_dirs(root: str, crash_id: str, names: Iterable[str]) -> Iterator[str]:
    """
    The directories of one crash in the quarantine, in the order in which they were made.

    @param names: of all directories in the quarantine.
    """
    mine = [name for name in names if crash_id_of(name) == crash_id]
    for name in sorted(mine, key=lambda name: int(name[len(crash_id) + 1 :] or 1)):
        yield f"{root}/{QUARANTINE}/{name}"


def crash_id_of(name: str) -> str:
    """The id of the crash that has a directory of that name in the quarantine; empty if no crash has."""
    crash_id, _, number = name.partition(".")
    return crash_id if is_crash_id(crash_id) and (not number or number.isdecimal()) else ""
