"""
The crashes of a store that are new: listed, claimed, read, removed once they are moved, or put aside.
"""

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from collectord.concurrency.sharing import Batches
from collectord.concurrency.threadpool import ThreadRunner
from collectord.errors import CrashGone, StorageError, UnreadableCrash
from collectord.interfaces import ICrashSource
from collectord.metrics import DANGLING
from collectord.model import Crash, InMemory, NewCrash, checksums_in
from collectord.storage.content import stored_dump
from collectord.storage.filesystem.checks import describe_error
from collectord.storage.filesystem.claims import claimed, take_out
from collectord.storage.filesystem.datebranch import DateBranch
from collectord.storage.filesystem.fsops import list_directory, see_changes, unlink_if_there
from collectord.storage.filesystem.layout import (
    QUARANTINE,
    Place,
    differ_by_case,
    dump_files_of,
    dump_name,
    dump_paths,
    files_of,
    place_in,
    quarantine_dirs,
)
from collectord.storage.filesystem.moving import MoveClaims
from collectord.storage.filesystem.peers import CrashContended
from collectord.storage.filesystem.quarantine import make_directory, put_aside
from collectord.storage.filesystem.removal import remove_rest
from collectord.storage.filesystem.staging import StagingDirectory
from collectord.storage.filesystem.steps import SourceSteps
from collectord.storage.filesystem.unpublished import ToPublish, UnpublishedIds
from collectord.storage.filesystem.versions import read_with_version

_IN_MEMORY = 1024 * 1024
"""The bytes of the dumps of one crash that stay in memory while it is moved. Larger dumps are read again."""
_YOUNG_S = 10.0
"""A crash of which something changed so recently may still be on its way to its place."""


@implementer(ICrashSource)
class FilesystemCrashSource:
    """
    The new crashes of the store at C{root}. Its methods are called on the reactor thread.

    The other parameters are those of L{SourceSteps}.

    @param now: the time, in UTC.
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
        self._in_thread = in_thread
        self._claims = MoveClaims(staging, "moving")
        self._do = SourceSteps(root, in_thread, clock, timeout, ready, staging, self._claims)
        self._taken_out: set[str] = set()  # ids of crashes whose removal has begun and is not complete
        self._dangling: set[str] = set()  # ids of links without a raw crash, in this pass
        self._dangling_reported = 0
        self.name = self._root = root
        self._now = now
        self._date_branch = DateBranch(root, now)
        unpublished = UnpublishedIds(staging, now)
        self._remember = Batches[ToPublish](lambda ids: self._do(lambda: unpublished.add(ids)))

    def new_crashes(self) -> AsyncIterator[Sequence[NewCrash]]:
        return self._do.listed(self._walk())

    async def load(self, new: NewCrash) -> Crash | None:
        return await self._do(lambda: self._load(new))

    async def release(self, new: NewCrash) -> None:
        await self._do.release(new)

    async def is_gone(self, new: NewCrash, crash: Crash) -> bool:
        try:
            return await self._do(lambda: self._is_gone(self._place(new)))
        except StorageError:
            return False

    async def remember(self, new: NewCrash, crash: Crash, publisher: str) -> None:
        try:
            await self._remember(ToPublish(new.crash_id, self._place(new).raw_crash, publisher))
        except OSError as e:
            raise StorageError(describe_error(self.name, e)) from e

    async def remove(self, new: NewCrash, crash: Crash, *, keep: bool) -> None:
        await self._do(lambda: self._remove(self._place(new), crash, keep))

    async def quarantine(self, new: NewCrash, reason: str) -> None:
        await self._do(lambda: self._quarantine(self._place(new), reason))

    # What follows runs on threads.

    def _place(self, new: NewCrash) -> Place:
        return place_in(self._root, new.crash_id, new.slot)

    def _walk(self) -> Iterator[Sequence[NewCrash]]:
        self._report_dangling()
        yield from self._date_branch.new_crashes()

    def _report_dangling(self) -> None:
        """Report the dangling links of the last pass, if there are more of them than before."""
        DANGLING.labels(self.name).set(len(self._dangling))
        if len(self._dangling) > self._dangling_reported:
            self._log.warn(
                "{store}: links without a raw crash: {count}, such as that of {crash_id}; they are left alone, because "
                "collectord did not remove the crashes; they may still come from a backup, or were removed by hand",
                store=self.name,
                count=len(self._dangling),
                crash_id=min(self._dangling),
            )
        self._dangling_reported = len(self._dangling)
        self._dangling.clear()

    def _load(self, new: NewCrash) -> Crash | None:
        place = self._place(new)
        if not self._claims.take(new.crash_id):
            return None
        crash = self._whole(place)
        if crash is None:
            self._claims.drop(new.crash_id)
        return crash

    def _is_gone(self, place: Place) -> bool:
        return not (os.path.lexists(place.link) and os.path.lexists(place.raw_crash))

    def _whole(self, place: Place) -> Crash | None:
        try:
            crash = self._read(place)
            # While this process looked for claims, another one may have moved the crash, and left it here as such.
            see_changes(place.date_dir)
            return crash if os.path.lexists(place.link) else None
        except FileNotFoundError:
            self._without_raw_crash(place)
            return None
        except UnreadableCrash:
            # A backup that is being copied here arrives one file after the other, and some tools write each file in
            # its final place.
            if self._date_branch.changed_within(_YOUNG_S, *self._all_of(place)):
                return None
            raise

    def _without_raw_crash(self, place: Place) -> None:
        """
        Deal with a link whose raw crash is missing: finish the removal if we began it, and otherwise leave it alone. A
        backup that is being copied here may bring the link first.
        """
        if place.crash_id in self._taken_out:
            self._remove_rest(place, self._dump_names(place))
        elif not self._is_arriving(place) and not self._is_in_quarantine(place) and os.path.lexists(place.link):
            self._dangling.add(place.crash_id)

    def _read(self, place: Place) -> Crash:
        try:
            content, source_version = read_with_version(place.raw_crash)
            raw_crash = json.loads(content)
        except (ValueError, RecursionError) as e:
            raise UnreadableCrash(f"the raw crash is no JSON: {e}") from e
        if not isinstance(raw_crash, dict):
            raise UnreadableCrash("the raw crash is no JSON object")
        checksums = checksums_in(raw_crash)
        if checksums is None:  # a crash that Socorro's collector wrote
            checksums = dict.fromkeys(self._dump_names(place))
        try:
            paths = _dump_paths(place, checksums)
            dumps = []
            room = _IN_MEMORY
            for name, checksum in checksums.items():
                dumps.append(stored_dump(name, paths[name], checksum, self._in_thread, room))
                if isinstance(dumps[-1].content, InMemory):
                    room -= dumps[-1].size
        except FileNotFoundError as e:
            if not os.path.exists(place.raw_crash):
                raise
            raise UnreadableCrash(f"a dump is missing: {e.filename}") from e
        except ValueError as e:
            raise UnreadableCrash(f"a dump has no name: {e}") from e
        return Crash(crash_id=place.crash_id, raw_crash=raw_crash, dumps=dumps, source_version=source_version)

    def _dump_names(self, place: Place) -> list[str]:
        files = dump_files_of(place.crash_id, list_directory(place.name_dir))
        return [dump_name(place.crash_id, file) for file in files]

    def _all_of(self, place: Place) -> list[str]:
        """The paths of all files of a crash, with the temporary names that a copying tool makes of its id."""
        return [f"{place.name_dir}/{name}" for name in list_directory(place.name_dir) if place.crash_id in name]

    def _is_arriving(self, place: Place) -> bool:
        """
        Whether somebody is putting the crash in its place, or taking it out.

        Its raw crash goes from a staging directory to its place in one step. So if it is not in a staging directory,
        and then not in its place either, it is gone.
        """
        area = self._staging.area
        is_staged = any(os.path.exists(f"{area}/{name}/{place.crash_id}.json") for name in list_directory(area))
        is_placed = is_staged or os.path.exists(place.raw_crash)
        return is_placed or self._date_branch.changed_within(_YOUNG_S, place.link)

    def _is_in_quarantine(self, place: Place) -> bool:
        """Whether the crash is in the quarantine; then only its link is left to be removed."""
        names = list_directory(f"{self._root}/{QUARANTINE}")
        directories = quarantine_dirs(self._root, place.crash_id, names)
        return any(os.path.lexists(f"{directory}/{place.crash_id}.json") for directory in directories)

    def _remove(self, place: Place, crash: Crash, keep: bool) -> None:
        if keep:
            unlink_if_there(place.link)
        elif self._is_taken_out(place, crash):
            self._taken_out.add(place.crash_id)
            self._remove_rest(place, [dump.name for dump in crash.dumps])
        self._claims.drop(place.crash_id)

    def _is_taken_out(self, place: Place, crash: Crash) -> bool:
        """Take the raw crash out of its place; False: somebody else was first."""
        try:
            take_out(self._staging, place.crash_id, place.raw_crash, crash.source_version)
        except FileNotFoundError:
            return False
        return True

    def _remove_rest(self, place: Place, dump_names: Sequence[str]) -> None:
        remove_rest(place.name_dir, _dump_paths(place, dump_names).values(), [place.link])
        unlink_if_there(self._staging.intent_record(place.crash_id))
        self._taken_out.discard(place.crash_id)

    def _quarantine(self, place: Place, reason: str) -> None:
        with claimed(self._staging, place.crash_id):
            # Since it was read, a whole copy of the crash may have taken its place, for somebody sent it again.
            if self._date_branch.changed_within(_YOUNG_S, *self._all_of(place)):
                raise CrashContended("it has changed since", place.raw_crash)
            files = files_of(place.crash_id, list_directory(place.name_dir))
            directory = make_directory(place, files, reason, self._now().isoformat(), _mkdir)
            if not put_aside(place, files, directory) and not self._is_in_quarantine(place):
                # A network file system may show files for some time that are gone.
                raise CrashGone(f"{place.crash_id}: another process has removed it")
            unlink_if_there(place.link)
            self._claims.drop(place.crash_id)


def _mkdir(path: str) -> None:
    os.mkdir(path, 0o700)


def _dump_paths(place: Place, names: Collection[str]) -> Mapping[str, str]:
    """
    The paths of the dumps of these names. Where some names differ only by case, and the file system does not tell such
    file names apart, the files have other names; they are looked up.
    """
    paths = place.dumps(names)
    if not differ_by_case(names):
        return paths
    return {**paths, **dump_paths(place.crash_id, place.name_dir, list_directory(place.name_dir))}
