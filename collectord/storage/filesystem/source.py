"""
New crashes in a store on a file system: found by the date branch, read, removed, or put aside.
"""

import errno
import json
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from collectord.concurrency.threadpool import ThreadRunner
from collectord.concurrency.timeouts import with_timeout
from collectord.crashid import is_crash_id
from collectord.errors import StorageError, UnreadableCrash
from collectord.interfaces import ICrashSource
from collectord.metrics import DANGLING
from collectord.model import Crash, NewCrash, checksums_in
from collectord.storage.content import stored_dump
from collectord.storage.filesystem.fsops import unlink_if_there
from collectord.storage.filesystem.layout import Place, differ_by_case, dump_name, place_in
from collectord.storage.filesystem.quarantine import QUARANTINE, directories_of, make_directory, put_aside
from collectord.storage.filesystem.staging import StagingDirectory
from collectord.storage.filesystem.versions import version_of

T = TypeVar("T")

_DAY = re.compile(r"\d{8}")
_HOUR = re.compile(r"\d\d")
_SLOT = re.compile(r"\d\d_\d\d")
_SETTLED = timedelta(minutes=5)
"""A slot so old gets no new crash but by chance; while it is younger, a process may count on its directory."""
_PRUNED = timedelta(days=2)
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_NEVER = datetime.max.replace(tzinfo=UTC)
_YOUNG_S = 10.0
"""What changed so recently may be on its way in."""


@implementer(ICrashSource)
class FilesystemCrashSource:
    """
    @param in_thread: threads of its own: a hung mount must not hold those that save.
    @param now: in UTC.
    @param timeout: seconds for one step, such as reading a crash.
    @param ready: returns once the store is; nothing is listed before.
    @param staging: of this process in the store.
    """

    _log = Logger()

    def __init__(
        self,
        root: str,
        in_thread: ThreadRunner,
        clock: IReactorTime,
        now: Callable[[], datetime],
        timeout: float,
        ready: Callable[[], Awaitable[object]],
        staging: StagingDirectory,
    ) -> None:
        self._staging = staging
        self._taken_out: set[str] = set()  # removals of ours that are not done
        self._dangling: set[str] = set()  # in this pass
        self._dangling_told = 0
        self._ready = ready
        self._is_ready = False
        self.name = self._root = root
        self._in_thread = in_thread
        self._clock = clock
        self._now = now
        self._timeout = timeout
        self._prune_at: dict[str, datetime] = {}

    async def new_crashes(self) -> AsyncIterator[Sequence[NewCrash]]:
        if not self._is_ready:
            # Before its store has its staging area, a destination can't know that it is the same place.
            await self._ready()
            self._is_ready = True
        walk = self._walk()
        while batch := await self._do(lambda: next(walk, None)):
            yield batch

    async def load(self, new: NewCrash) -> Crash | None:
        return await self._do(lambda: self._load(new))

    async def remove(self, new: NewCrash, crash: Crash, *, keep: bool) -> None:
        await self._do(lambda: self._remove(self._place(new), crash, keep))

    async def quarantine(self, new: NewCrash, reason: str) -> None:
        await self._do(lambda: self._quarantine(self._place(new), reason))

    async def _do(self, work: Callable[[], T]) -> T:
        def checked() -> T:
            self._staging.refuse_other()
            return work()

        try:
            return await with_timeout(self._in_thread(checked), self._timeout, self._clock, self.name)
        except OSError as e:
            raise StorageError(f"{self.name}: {e.strerror or e}: {e.filename}") from e

    def _place(self, new: NewCrash) -> Place:
        return place_in(self._root, new.crash_id, new.slot)

    def _walk(self) -> Iterator[Sequence[NewCrash]]:
        self._tell_dangling()
        failed: list[OSError] = []  # told in the end: the others are listed nevertheless
        for day in _names(self._root, _DAY):
            dates = f"{self._root}/{day}/date"
            for hour in _names(dates, _HOUR, failed):
                hours = f"{dates}/{hour}"
                for slot in _names(hours, _SLOT, failed):
                    path = f"{hours}/{slot}"
                    new = [NewCrash(name, path) for name in sorted(listed(path, failed)) if is_crash_id(name)]
                    if new:
                        yield new
                    elif self._age(day, hour, slot) > _SETTLED:
                        self._remove_directory(path)
                if self._age(day, hour, "59_59") > _SETTLED:
                    self._remove_directory(hours)
            if self._age(day, "00", "00_00") > _PRUNED and self._prune_at.get(day, _LONG_AGO) <= self._now():
                self._prune(day)
        if failed:
            raise failed[0]

    def _age(self, day: str, hour: str, slot: str) -> timedelta:
        try:
            return self._now() - datetime.strptime(f"{day}{hour}{slot} +0000", "%Y%m%d%H%M_%S %z").astimezone(UTC)
        except ValueError:
            return timedelta(0)

    def _prune(self, day: str) -> None:
        """What was moved leaves up to 65,792 empty directories a day. Once, and again where some of them are new."""
        self._prune_at[day] = _NEVER
        for directory, _, _ in os.walk(f"{self._root}/{day}", topdown=False):
            if not self._remove_directory(directory):
                self._prune_at[day] = self._now() + _SETTLED

    def _remove_directory(self, path: str) -> bool:
        """False: it changed of late, and is left for now: whoever copies a backup makes directories first."""
        with suppress(OSError):  # it is not empty, or gone
            if self._changed_within(_SETTLED.total_seconds(), path):
                return False
            os.rmdir(path)
        return True

    def _changed_within(self, seconds: float, *paths: str) -> bool:
        """By the one time of a file that nobody can set."""
        for path in paths:
            with suppress(FileNotFoundError):
                if abs(self._now().timestamp() - os.lstat(path).st_ctime) < seconds:
                    return True
        return False

    def _load(self, new: NewCrash) -> Crash | None:
        place = self._place(new)
        try:
            return self._read(place)
        except FileNotFoundError:
            self._without_raw_crash(place)
            return None
        except UnreadableCrash:
            # Whoever copies a backup puts one file after the other, and some write them where they belong.
            if self._changed_within(_YOUNG_S, *self._all_of(place)):
                return None
            raise

    def _without_raw_crash(self, place: Place) -> None:
        """Only what is left of a removal of ours is removed: a backup that is copied here may bring the link first."""
        if place.crash_id in self._taken_out:
            self._remove_rest(place, self._dump_names(place))
        elif not self._is_arriving(place) and not self._is_aside(place) and os.path.lexists(place.link):
            self._dangling.add(place.crash_id)

    def _tell_dangling(self) -> None:
        """Of the last pass; once, until there are more."""
        DANGLING.labels(self.name).set(len(self._dangling))
        if len(self._dangling) > self._dangling_told:
            self._log.warn(
                "{store}: {count} links lead to no raw crash, as that of {crash_id}: they are left alone, for nothing "
                "here has removed it; it may still come from a backup, or was removed by hand",
                store=self.name,
                count=len(self._dangling),
                crash_id=min(self._dangling),
            )
        self._dangling_told = len(self._dangling)
        self._dangling.clear()

    def _read(self, place: Place) -> Crash:
        try:
            with open(place.raw_crash, "rb") as file:
                seen = version_of(file.fileno())
                raw_crash = json.load(file)
        except (ValueError, RecursionError) as e:
            raise UnreadableCrash(f"the raw crash is no JSON: {e}") from e
        if not isinstance(raw_crash, dict):
            raise UnreadableCrash("the raw crash is no JSON object")
        checksums = checksums_in(raw_crash)
        if checksums is None:  # Socorro's
            checksums = dict.fromkeys(self._dump_names(place))
        try:
            paths = _dump_paths(place, checksums)
            dumps = [stored_dump(name, paths[name], checksums[name], self._in_thread) for name in checksums]
        except FileNotFoundError as e:
            if not os.path.exists(place.raw_crash):
                raise
            raise UnreadableCrash(f"a dump is missing: {e.filename}") from e
        except ValueError as e:
            raise UnreadableCrash(f"a dump has no name: {e}") from e
        return Crash(crash_id=place.crash_id, raw_crash=raw_crash, dumps=dumps, seen=seen)

    def _dump_names(self, place: Place) -> list[str]:
        return [dump_name(place.crash_id, file) for file in _files(place) if file.endswith(".dump")]

    def _all_of(self, place: Place) -> list[str]:
        """What is there of a crash, with what a copy of a file is called while it is made."""
        return [f"{place.name_dir}/{name}" for name in listed(place.name_dir) if place.crash_id in name]

    def _is_arriving(self, place: Place) -> bool:
        """
        Whether somebody is putting it in place, or taking it out.

        Its raw crash goes from the staging area to its place in one step: what is neither here nor then there is gone.
        """
        staging = f"{self._root}/staging"
        arriving = any(os.path.exists(f"{staging}/{process}/{place.crash_id}.json") for process in listed(staging))
        return arriving or os.path.exists(place.raw_crash) or self._changed_within(_YOUNG_S, place.link)

    def _remove(self, place: Place, crash: Crash, keep: bool) -> None:
        if keep:
            unlink_if_there(place.link)
            return
        # The raw crash first, so that no half crash is ever seen; where it goes a sweep finds it, if this is cut off.
        try:
            self._staging.take_out(place.crash_id, place.raw_crash, crash.seen)
        except FileNotFoundError:
            return  # somebody else was first
        self._taken_out.add(place.crash_id)
        self._remove_rest(place, [dump.name for dump in crash.dumps])

    def _remove_rest(self, place: Place, dump_names: Sequence[str]) -> None:
        """The link last but for the raw crash, so that nothing is forgotten."""
        for path in (*_dump_paths(place, dump_names).values(), place.link, self._staging.intent_record(place.crash_id)):
            unlink_if_there(path)
        self._taken_out.discard(place.crash_id)

    def _is_aside(self, place: Place) -> bool:
        """Whether it is in the quarantine: then only its link is left to be removed."""
        names = listed(f"{self._root}/{QUARANTINE}")
        aside = directories_of(self._root, place.crash_id, names)
        return any(os.path.lexists(f"{directory}/{place.crash_id}.json") for directory in aside)

    def _quarantine(self, place: Place, reason: str) -> None:
        with self._staging.claimed(place.crash_id):
            # Somebody may have sent it again since it was read, and a whole copy has taken its place.
            if self._changed_within(_YOUNG_S, *self._all_of(place)):
                raise OSError(errno.EBUSY, "it has changed since", place.raw_crash)
            files = _files(place)
            put_aside(place, files, make_directory(place, files, reason, self._now().isoformat(), _mkdir))
            unlink_if_there(place.link)


def _mkdir(path: str) -> None:
    os.mkdir(path, 0o700)


def _dump_paths(place: Place, names: Collection[str]) -> Mapping[str, str]:
    paths = place.dumps(names)
    if not differ_by_case(names):
        return paths
    found = [file for file in _files(place) if file.endswith(".dump")]
    return {**paths, **{dump_name(place.crash_id, file): f"{place.name_dir}/{file}" for file in found}}


def _files(place: Place) -> list[str]:
    """The names of a crash's files; its neighbours share the directory."""
    return sorted(name for name in listed(place.name_dir) if name.startswith(f"{place.crash_id}."))


def _names(path: str, pattern: re.Pattern[str], failed: list[OSError] | None = None) -> list[str]:
    return sorted(filter(pattern.fullmatch, listed(path, failed)))


def listed(path: str, failed: list[OSError] | None = None) -> list[str]:
    """
    What is in a directory; nothing, where it is not there.

    @param failed: takes any other error, which is raised without it.
    """
    try:
        return os.listdir(path)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as e:
        if failed is None:
            raise
        failed.append(e)
        return []
