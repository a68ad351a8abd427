"""
Removing crashes that were kept for long enough: those that are too old, and the oldest ones of too many.

The work is done in small steps, so that whoever drives it can pause between any two of them. Each crash is removed as
the crashmover does it (L{collectord.storage.filesystem.claims.take_out}). So a kill at any time leaves a crash whole,
or what a sweep removes; and a crash that another process has in hand, or that somebody was just told is kept, stays.
What lies in the quarantine, or in C{unpublished/}, waits for somebody, and is never touched. What can't be removed or
read does not keep the others. All of it blocks.
"""

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from heapq import heappush, heappushpop
from itertools import chain
from math import inf
from uuid import UUID

from attrs import frozen

from collectord.model import RawCrash
from collectord.storage.filesystem.claims import take_out
from collectord.storage.filesystem.datebranch import DateBranch
from collectord.storage.filesystem.finder import (
    FoundCrash,
    crash_at,
    crash_days,
    crashes_below,
    links_of,
    symlinks_of,
)
from collectord.storage.filesystem.fsops import unlink_if_there
from collectord.storage.filesystem.keeplimits import KeepLimits, is_over
from collectord.storage.filesystem.peers import CrashContended
from collectord.storage.filesystem.removal import remove_rest
from collectord.storage.filesystem.staging import StagingDirectory
from collectord.storage.filesystem.versions import version_of

YOUNG_S = 60.0
"""A crash that came, or was confirmed, so recently is not removed to make space: it may not be acknowledged yet."""
_AT_ONCE = 20_000
"""The oldest crashes of a day are looked for so many at a time, which bounds the memory, and the time to sort them."""
_BAD_IN_A_ROW = 20
"""If so many crashes or directories can't be removed or read, one after the other, the fault lies with the store."""
_LOOK_AGAIN = timedelta(hours=12)
"""A day is searched for deferred crashes so often."""
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@frozen(kw_only=True)
class Expired:
    """
    A crash that was removed.

    @ivar why: the setting that wanted it so: C{keep_days}, C{keep_deferred_days} or C{keep_bytes}.
    """

    crash_id: str
    why: str


Steps = Generator[Expired | None, None, None]
"""Gives a crash that was removed, or None when a small piece of work is done."""


_Old = tuple[int, int, int, str]
"""A crash: when it came and its id, both negative, so that the newest sorts first; its bytes; and its directory."""


@frozen
class _Begun:
    """A crash that is being removed, with its links, and the setting that wants it so."""

    crash: FoundCrash
    links: Sequence[str]
    why: str


class StoreExpiry:
    """
    Removes from one store what its limits do not allow any more.

    @param staging: the staging directory of this process in the store.
    @param waits: tells whether a link means that the crash waits to be moved; in a store out of which nothing is ever
        moved all crashes have one.
    @ivar limits: what may be kept.
    @ivar kept_bytes: what all crashes took when they were last counted.
    @ivar over: whether there is more than C{max_bytes} allows, and nothing of it may be removed.
    """

    def __init__(self, staging: StagingDirectory, limits: KeepLimits, waits: Callable[[], bool]) -> None:
        self._root = staging.root
        self._staging = staging
        self.limits = limits
        self._waits = waits
        self._begun: dict[str, _Begun] = {}  # taken out, and not all of it is removed yet
        self._looked: dict[str, datetime] = {}  # when a day was searched for deferred crashes
        self._emptied: set[str] = set()  # days that may have empty directories
        self._failure: OSError | None = None  # the first one of this pass
        self._bad_in_a_row = 0
        self.kept_bytes: int | None = None
        self.over = False

    def steps(self, now: datetime, clock: Callable[[], datetime]) -> Steps:
        """
        Make one pass over the store.

        @param now: the time by which the age of a crash counts, in UTC; it may lag behind.
        @param clock: returns what the system's clock says. A pass may take hours.
        @raise OSError: the store can't be read. Or some crashes can't be read or removed; that is raised at the end.
        """
        self._failure, self._bad_in_a_row = None, 0
        for begun in list(self._begun.values()):
            yield self._tried(partial(self._finish, begun))
        if self.limits.count_days:
            yield from self._too_old(now)
        if self.limits.max_bytes:
            yield from self._too_many(clock)
        yield from self._empty_directories(clock)
        if self._failure is not None:
            raise self._failure

    def _tried(self, remove: Callable[[], Expired | None]) -> Expired | None:
        """Remove one crash. A failure is put off, so that one bad crash does not keep all others."""
        try:
            removed = remove()
        except OSError as e:
            self._failed(e)
            return None
        self._bad_in_a_row = 0
        return removed

    def _failed(self, error: OSError) -> None:
        self._failure = self._failure or error
        self._bad_in_a_row += 1
        if self._bad_in_a_row >= _BAD_IN_A_ROW:
            raise self._failure

    def _crashes(self, day: str) -> Iterator[FoundCrash | None]:
        return crashes_below(self._root, day, self._failed)

    def _too_old(self, now: datetime) -> Steps:
        for day in crash_days(self._root):
            if not self._may_be_over(day, now):
                continue
            self._looked[day] = now
            for crash in self._crashes(day):
                removed = None if crash is None else self._tried(partial(self._remove_old, crash, now))
                if removed:
                    self._emptied.add(day)
                yield removed

    def _may_be_over(self, day: str, now: datetime) -> bool:
        """Whether some crashes of a day may be too old."""
        limits = self.limits
        if limits.days and is_over(day, limits.days, now):
            self._emptied.add(day)
            return True
        looked = self._looked.get(day, _LONG_AGO)
        return (
            bool(limits.deferred_days) and is_over(day, limits.deferred_days, now) and abs(now - looked) >= _LOOK_AGAIN
        )

    def _remove_old(self, crash: FoundCrash, now: datetime) -> Expired | None:
        found = self._look_at(crash)
        if found is None:
            return None
        raw_crash, version, links = found
        days = self.limits.days_of(raw_crash)
        if not days or not is_over(f"20{crash.crash_id[-6:]}", days, now) or _age(version, now) < days * 86400:
            return None
        why = "keep_days" if days == self.limits.days else "keep_deferred_days"
        return self._remove(_Begun(crash, links, why), version)

    def _too_many(self, clock: Callable[[], datetime]) -> Steps:
        sizes: dict[str, int] = {}
        for day in crash_days(self._root):
            yield from self._measure(day, sizes)
        self.kept_bytes = sum(sizes.values())
        for day in crash_days(self._root):
            after: tuple[float, int] = (inf, 0)
            while self.kept_bytes > self.limits.max_bytes and (oldest := (yield from self._oldest(day, after, sizes))):
                for modified, number, size, directory in oldest:
                    if self.kept_bytes <= self.limits.max_bytes:
                        break
                    after = modified, number
                    crash_id = str(UUID(int=-number))
                    removed = self._tried(partial(self._remove_for_space, directory, crash_id, clock()))
                    if removed:
                        self._emptied.add(day)
                    if not os.path.lexists(f"{directory}/{crash_id}.json"):  # it need not be us who has removed it
                        sizes[day] -= size
                        self.kept_bytes -= size
                    yield removed
        self.over = self.kept_bytes > self.limits.max_bytes

    def _measure(self, day: str, sizes: dict[str, int]) -> Generator[None, None, None]:
        sizes[day] = 0
        for crash in self._crashes(day):
            sizes[day] += 0 if crash is None else self._size(crash)
            yield None

    def _oldest(
        self, day: str, after: tuple[float, int], sizes: dict[str, int]
    ) -> Generator[None, None, Sequence[_Old]]:
        """
        Find the oldest crashes of a day, by the time at which they came, that come C{after} those before. All of it is
        measured again: others remove crashes, too, and what is gone must not be made up for by more removals.
        """
        found: list[_Old] = []
        before, sizes[day] = sizes.get(day, 0), 0
        for crash in self._crashes(day):
            if crash is not None:
                sizes[day] += (size := self._size(crash))
                with suppress(OSError):  # it is gone, or was told of
                    old = -version_of(crash.raw_crash)[1], -UUID(crash.crash_id).int
                    if old < after:
                        push = heappush if len(found) < _AT_ONCE else heappushpop
                        push(found, (*old, size, os.path.dirname(crash.raw_crash)))
            yield None
        self.kept_bytes = (self.kept_bytes or 0) - before + sizes[day]
        return sorted(found, reverse=True)

    def _size(self, crash: FoundCrash) -> int:
        """How many bytes of the disk a crash takes; those of its dumps that are gone by now take none."""
        size = 0
        for path in chain([crash.raw_crash], crash.dumps.values()):
            try:
                found = os.stat(path)
                size += max(found.st_size, found.st_blocks * 512)
                self._bad_in_a_row = 0
            except FileNotFoundError:
                continue
            except OSError as e:
                self._failed(e)
        return size

    def _remove_for_space(self, directory: str, crash_id: str, clock: datetime) -> Expired | None:
        crash = crash_at(self._root, directory, crash_id)
        found = self._look_at(crash)
        if found is None:
            return None
        _, version, links = found
        if abs(_age(version, clock)) < YOUNG_S:
            return None
        return self._remove(_Begun(crash, links, "keep_bytes"), version)

    def _look_at(self, crash: FoundCrash) -> tuple[RawCrash, tuple[int, ...], Sequence[str]] | None:
        """
        Read a crash.

        @return: its raw crash (empty if that is damaged), its version and its links; None: it is gone, or has to stay.
        """
        try:
            version = version_of(crash.raw_crash)
            raw_crash = crash.read()
            links = links_of(crash, raw_crash)
        except FileNotFoundError:
            return None
        except ValueError:
            raw_crash, links = {}, symlinks_of(crash)
        if self._waits() and not self.limits.waiting and any(map(os.path.lexists, links)):
            return None
        return raw_crash, version, links

    def _remove(self, begun: _Begun, version: tuple[int, ...]) -> Expired | None:
        """Remove a crash; None: somebody has it in hand, or has changed or removed it meanwhile."""
        crash = begun.crash
        try:
            take_out(self._staging, crash.crash_id, crash.raw_crash, version)
        except (FileNotFoundError, CrashContended):
            return None
        self._begun[crash.crash_id] = begun
        return self._finish(begun)

    def _finish(self, begun: _Begun) -> Expired | None:
        crash = begun.crash
        if os.path.lexists(crash.raw_crash):  # a sweep has ended the removal since, and the crash came back
            del self._begun[crash.crash_id]
            return None
        remove_rest(os.path.dirname(crash.raw_crash), crash.dumps.values(), begun.links)
        unlink_if_there(self._staging.intent_record(crash.crash_id))
        del self._begun[crash.crash_id]
        return Expired(crash_id=crash.crash_id, why=begun.why)

    def _empty_directories(self, clock: Callable[[], datetime]) -> Steps:
        branch = DateBranch(self._root, clock)
        for day in sorted(self._emptied):
            was_left = False
            for is_left in branch.prune(day):
                was_left |= is_left
                yield None
            if not was_left:
                self._emptied.discard(day)


def _age(version: tuple[int, ...], now: datetime) -> float:
    return now.timestamp() - version[1] / 1e9
