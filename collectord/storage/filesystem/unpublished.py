"""
The ids that are still to be published, of crashes that are at their destinations already.

C{<root>/unpublished/<publisher>/<yyyymmdd>T<hhmm>/<id>.json} is a hard link to the raw crash, or a copy where there are
no hard links. So its content is durable, and stays when the crash is removed. All of it blocks.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from urllib.parse import quote, unquote

from attrs import frozen

from collectord.crashid import is_crash_id
from collectord.model import NewCrash, RawCrash
from collectord.storage.files import sync_and_close
from collectord.storage.filesystem.fsops import fsync_directory, list_directory, try_hard_link, unlink_if_there
from collectord.storage.filesystem.staging import StagingDirectory

UNPUBLISHED = "unpublished"
"""The directory of the ids in the root."""
_REFUSED = "refused"
"""The directory of the ids that a publisher never took."""
_MINUTE = re.compile(r"\d{8}T\d{4}")
_SETTLED = timedelta(minutes=5)
"""Nothing is added to a directory of a minute that is so long ago."""
_LONGEST = 200
_TRIES = 5


@frozen
class ToPublish:
    """
    An id that is to be published.

    @ivar raw_crash: the path of the raw crash in the store.
    @ivar publisher: the name of the publisher.
    """

    crash_id: str
    raw_crash: str
    publisher: str


class UnpublishedIds:
    """
    The ids in one store.

    @param staging: the staging directory of this process in the store.
    @param now: the time, in UTC.
    """

    def __init__(self, staging: StagingDirectory, now: Callable[[], datetime]) -> None:
        self._staging = staging
        self._now = now
        self._durable: set[str] = set()  # directories whose entry in the one above is durable

    def add(self, ids: Sequence[ToPublish]) -> list[Exception | None]:
        """
        Add ids durably.

        @return: why each may not be durable; None: it is.
        """
        errors: list[Exception | None] = []
        directories = {each.publisher: self._minute_of(each.publisher) for each in ids}
        for each in ids:
            try:
                self._put(each, directories[each.publisher])
            except OSError as e:
                errors.append(e)
            else:
                errors.append(None)
        unsynced = {publisher: self._problem_of_sync(directory) for publisher, directory in directories.items()}
        for index, each in enumerate(ids):
            problem = unsynced[each.publisher]
            if problem is not None and errors[index] is None:
                errors[index] = problem
                # The next sync of this directory may claim that all is well. So the next try has to add it anew.
                with suppress(OSError):
                    unlink_if_there(_entry(directories[each.publisher], each.crash_id))
        return errors

    def _minute_of(self, publisher: str) -> str:
        return f"{directory_of(self._staging.root, publisher)}/{self._now():%Y%m%dT%H%M}"

    def _put(self, each: ToPublish, directory: str) -> None:
        entry = _entry(directory, each.crash_id)
        for left in range(_TRIES, 0, -1):
            try:
                with suppress(FileExistsError):
                    if not try_hard_link(each.raw_crash, entry):
                        self._copy(each, entry)
                return
            except FileNotFoundError:
                if left == 1 or not os.path.lexists(each.raw_crash):
                    raise
                self._make(directory)

    def _copy(self, each: ToPublish, entry: str) -> None:
        with open(each.raw_crash, "rb") as file:
            content = file.read()
        name = f"{each.crash_id}.{UNPUBLISHED}"
        unlink_if_there(f"{self._staging.path}/{name}")
        path, fd = self._staging.write(name, [content])
        sync_and_close(fd)
        os.rename(path, entry)

    def _make(self, directory: str) -> None:
        for path in _up_to(directory, self._staging.root):
            with suppress(FileExistsError):
                self._staging.make_directory(path)
                self._durable.discard(path)

    def _problem_of_sync(self, directory: str) -> OSError | None:
        try:
            for path in _up_to(directory, self._staging.root):
                if path not in self._durable:
                    fsync_directory(os.path.dirname(path))
                    self._durable.add(path)
            fsync_directory(directory)
        except OSError as e:
            self._durable.clear()
            return e
        return None

    def of(self, publisher: str) -> Iterator[Sequence[NewCrash]]:
        """
        The ids for a publisher, the oldest first, a minute at a time.

        @raise OSError: they can't be listed.
        """
        base = directory_of(self._staging.root, publisher)
        for minute in sorted(filter(_MINUTE.fullmatch, list_directory(base))):
            path = f"{base}/{minute}"
            names = sorted(name.removesuffix(".json") for name in list_directory(path) if name.endswith(".json"))
            if ids := [NewCrash(name, path) for name in names if is_crash_id(name)]:
                yield ids
            elif self._now() - datetime.strptime(f"{minute} +0000", "%Y%m%dT%H%M %z") > _SETTLED:
                with suppress(OSError):  # it is not empty, or gone
                    os.rmdir(path)

    def refuse(self, new: NewCrash) -> None:
        """
        Put an id aside that a publisher never took.

        @raise OSError: it is where it was.
        """
        aside = f"{os.path.dirname(new.slot)}/{_REFUSED}"
        self._make(aside)
        os.rename(_entry(new.slot, new.crash_id), _entry(aside, new.crash_id))


def read_unpublished(new: NewCrash) -> RawCrash:
    """
    Read the raw crash of an id that is to be published; empty if it is damaged, for the id counts.

    @raise OSError: it can't be read.
    """
    with open(_entry(new.slot, new.crash_id), "rb") as file, suppress(ValueError, RecursionError):
        found = json.load(file)
        if isinstance(found, dict):
            return found
    return {}


def remove_unpublished(new: NewCrash) -> None:
    """
    Remove an id that was published.

    @raise OSError: it may still be there.
    """
    unlink_if_there(_entry(new.slot, new.crash_id))


def entries_of(root: str, crash_id: str) -> Iterator[str]:
    """
    Yield the paths of all entries of one id, for whichever publisher, and of those that a publisher never took.

    @param root: of the store.
    @raise OSError: they can't be listed.
    """
    base = f"{root}/{UNPUBLISHED}"
    for publisher in list_directory(base):
        for part in list_directory(f"{base}/{publisher}"):
            entry = _entry(f"{base}/{publisher}/{part}", crash_id)
            if os.path.lexists(entry):
                yield entry


def count_unpublished(root: str) -> dict[str, int]:
    """
    Count the ids that are to be published, by the names of their publishers.

    @param root: of the store.
    @raise OSError: they can't be listed.
    """
    base = f"{root}/{UNPUBLISHED}"
    return {
        unquote(name): sum(
            len(list_directory(f"{base}/{name}/{minute}"))
            for minute in filter(_MINUTE.fullmatch, list_directory(f"{base}/{name}"))
        )
        for name in list_directory(base)
    }


def without_publisher(counts: Mapping[str, int], publishers: Iterable[str]) -> dict[str, int]:
    """Choose those of L{count_unpublished} that wait for none of C{publishers}."""
    known = {unquote(os.path.basename(directory_of("", publisher))) for publisher in publishers}
    return {name: count for name, count in counts.items() if count and name not in known}


def left_over_in_words(publisher: str, count: int) -> str:
    """Say what an operator has to know about ids that wait for a publisher that is not in the settings."""
    ids = "1 id waits" if count == 1 else f"{count} ids wait"
    return (
        f"{ids} for a publisher {publisher!r} that the settings do not have: give it that name again, or let others "
        f'publish them: collectord republish --left-over "{publisher}"'
    )


def left_over(root: str, publisher: str) -> Iterator[NewCrash]:
    """
    The ids that wait for a publisher of that name.

    @raise OSError: they can't be listed.
    """
    base = f"{root}/{UNPUBLISHED}"
    for name in list_directory(base):
        if unquote(name) == publisher:
            for minute in sorted(filter(_MINUTE.fullmatch, list_directory(f"{base}/{name}"))):
                slot = f"{base}/{name}/{minute}"
                ids = (file.removesuffix(".json") for file in sorted(list_directory(slot)) if file.endswith(".json"))
                yield from (NewCrash(crash_id, slot) for crash_id in ids if is_crash_id(crash_id))


def directory_of(root: str, publisher: str) -> str:
    """The directory of the ids for a publisher in the store at C{root}."""
    name = quote(publisher, safe=" :@,=+")
    if len(name) > _LONGEST or name.startswith("."):
        name = f"{name[:_LONGEST].lstrip('.')}~{hashlib.sha256(publisher.encode()).hexdigest()[:16]}"
    return f"{root}/{UNPUBLISHED}/{name}"


def _entry(directory: str, crash_id: str) -> str:
    return f"{directory}/{crash_id}.json"


def _up_to(directory: str, root: str) -> list[str]:
    """The directories from C{root}, which is left out, down to C{directory}."""
    paths = []
    while len(directory) > len(root):
        paths.append(directory)
        directory = os.path.dirname(directory)
    return paths[::-1]
