"""
Where a crash lies under a store's root: Socorro's dated radix tree, unchanged.

C{<yyyymmdd>/name/8f/63/<id>.json} and its dumps, and C{<yyyymmdd>/date/15/19_49/<id>}, a relative symlink: it is new.
"""

import glob
from collections import Counter
from collections.abc import Collection, Mapping

from attrs import frozen

from collectord.crashid import depth_of
from collectord.model import MINIDUMP, Crash


@frozen
class Place:
    """
    The paths of one crash.

    @ivar name_dir: the directory of its files, shared with its neighbours.
    @ivar date_dir: the directory of its symlink.
    """

    crash_id: str
    name_dir: str
    date_dir: str

    @property
    def root(self) -> str:
        """Of the store."""
        return self.name_dir.rpartition("/name/")[0].rpartition("/")[0]

    @property
    def raw_crash(self) -> str:
        """The commit marker."""
        return f"{self.name_dir}/{self.crash_id}.json"

    @property
    def link(self) -> str:
        """The symlink that says it is new."""
        return f"{self.date_dir}/{self.crash_id}"

    def links(self) -> list[str]:
        """Those that are there, in whatever slot of that day; it blocks."""
        return glob.glob(f"{glob.escape(self.name_dir.rpartition('/name/')[0])}/date/*/*/{self.crash_id}")

    @property
    def link_target(self) -> str:
        """What the symlink says: where L{name_dir} is, seen from L{date_dir}."""
        return "../../../name/" + self.name_dir.rpartition("/name/")[2]

    def dump(self, name: str) -> str:
        """The path of a dump."""
        return f"{self.name_dir}/{dump_file(self.crash_id, name)}"

    def dumps(self, names: Collection[str], *, case: bool = True) -> Mapping[str, str]:
        """
        The paths of all its dumps, by their names.

        @param case: whether file names that differ by case only are two. Else all but the first of these bear a number.
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


_NUMBER = "~"
"""Before it; no name of a dump has it."""


def differ_by_case(names: Collection[str]) -> bool:
    """Whether some of these names of dumps differ by case only."""
    return len({name.lower() for name in names}) < len(names)


def dump_file(crash_id: str, name: str) -> str:
    """The file name of a dump."""
    return f"{crash_id}.dump" if name == MINIDUMP else f"{crash_id}.{name}.dump"


def dump_name(crash_id: str, file: str) -> str:
    """The name of the dump in the file of that name."""
    return file.removeprefix(crash_id).removesuffix(".dump")[1:].partition(_NUMBER)[0] or MINIDUMP


def place_of(root: str, crash: Crash) -> Place:
    """Where C{crash} belongs."""
    return place_at(root, crash.crash_id, str(crash.raw_crash["submitted_timestamp"]))


def place_at(root: str, crash_id: str, submitted_timestamp: str) -> Place:
    """Where the crash of this id and time (ISO 8601, UTC) belongs."""
    hour, minute, second = submitted_timestamp[11:19].split(":")
    return place_in(root, crash_id, f"{root}/20{crash_id[-6:]}/date/{hour}/{minute}_{second}")


def place_in(root: str, crash_id: str, date_dir: str) -> Place:
    """Where the crash of this id is whose symlink is in C{date_dir}."""
    radix = "/".join(crash_id[i * 2 : i * 2 + 2] for i in range(depth_of(crash_id)))
    return Place(crash_id=crash_id, name_dir=f"{root}/20{crash_id[-6:]}/name/{radix}", date_dir=date_dir)
