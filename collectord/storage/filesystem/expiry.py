"""
Removing crashes that were kept for long enough: those that are too old, and the oldest ones of too many.

The work is done in small steps, so that whoever drives it can pause between any two of them. Each crash is removed as
the crashmover does it (L{collectord.storage.filesystem.claims.take_out}). So a kill at any time leaves a crash whole,
or what a sweep removes; and a crash that another process has in hand, or that somebody was just told is kept, stays.
What lies in the quarantine, or in C{unpublished/}, waits for somebody, and is never touched. All of it blocks.
"""

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from heapq import nsmallest
from itertools import chain

from attrs import frozen

from collectord.model import RawCrash
from collectord.storage.filesystem.claims import take_out
from collectord.storage.filesystem.datebranch import DateBranch
from collectord.storage.filesystem.finder import FoundCrash, crash_days, crashes_below, link_of, symlinks_of
from collectord.storage.filesystem.fsops import unlink_if_there
from collectord.storage.filesystem.peers import CrashContended
from collectord.storage.filesystem.removal import remove_rest
from collectord.storage.filesystem.staging import StagingDirectory
from collectord.storage.filesystem.versions import version_of

YOUNG_S = 60.0
"""A crash that came, or was confirmed, so recently is not removed to make space: it may not be acknowledged yet."""
_AT_ONCE = 20_000
"""The oldest crashes of a day are looked for so many at a time, to bound the memory."""
_LOOK_AGAIN = timedelta(hours=12)
"""A day is searched for deferred crashes so often."""
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@frozen(kw_only=True)
class KeepLimits:
    """
    How long crashes are kept in a store.

    @ivar days: after so many days they are removed; 0: never.
    @ivar deferred_days: the same for crashes that a throttle rule deferred; 0: as the others.
    @ivar max_bytes: while all crashes together take more, the oldest is removed; 0: there is no limit.
    @ivar waiting: remove also crashes that wait to be moved.
    """

    days: int = 0
    deferred_days: int = 0
    max_bytes: int = 0
    waiting: bool = False

    def __bool__(self) -> bool:
        return bool(self.count_days or self.max_bytes)

    @property
    def count_days(self) -> bool:
        """Whether the age of a crash matters."""
        return bool(self.days or self.deferred_days)

    def days_of(self, raw_crash: RawCrash) -> int:
        """Return for how many days this crash is kept; 0: for ever."""
        is_deferred = raw_crash.get("legacy_processing") not in (None, 0, "0")
        return (is_deferred and self.deferred_days) or self.days


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
        self.kept_bytes: int | None = None
        self.over = False

    def steps(self, now: datetime, clock: datetime) -> Steps:
        """
        Make one pass over the store.

        @param now: the time by which the age of a crash counts, in UTC; it may lag behind.
        @param clock: what the system's clock says.
        @raise OSError: the store can't be read, or something can't be removed; the next pass goes on with it.
        """
        for begun in list(self._begun.values()):
            yield self._finish(begun)
        if self.limits.count_days:
            yield from self._too_old(now)
        if self.limits.max_bytes:
            yield from self._too_many(now, clock)
        yield from self._empty_directories(clock)

    def _too_old(self, now: datetime) -> Steps:
        for day in crash_days(self._root):
            if not self._may_be_over(day, now):
                continue
            self._looked[day] = now
            for crash in crashes_below(self._root, day):
                removed = None if crash is None else self._remove_old(crash, now)
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
        return bool(limits.deferred_days) and is_over(day, limits.deferred_days, now) and now >= looked + _LOOK_AGAIN

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

    def _too_many(self, now: datetime, clock: datetime) -> Steps:
        total = 0
        for day in crash_days(self._root):
            for crash in crashes_below(self._root, day):
                total += 0 if crash is None else _size(crash)
                yield None
        self.kept_bytes = total
        for day in crash_days(self._root):
            after = (-1, "")
            while total > self.limits.max_bytes:
                oldest = yield from self._oldest(day, after)
                if not oldest:
                    break
                for modified, crash in oldest:
                    after = (modified, crash.crash_id)
                    if total <= self.limits.max_bytes:
                        break
                    size = _size(crash)
                    removed = self._remove_for_space(crash, clock)
                    if removed:
                        total -= size
                        self.kept_bytes = total
                        self._emptied.add(day)
                    yield removed
        self.over = total > self.limits.max_bytes

    def _oldest(self, day: str, after: tuple[int, str]) -> Generator[None, None, Sequence[tuple[int, FoundCrash]]]:
        """Find the oldest crashes of a day, by the time at which they came, that come C{after} those before."""
        found: list[tuple[int, str, FoundCrash]] = []
        for crash in crashes_below(self._root, day):
            if crash is not None:
                with suppress(FileNotFoundError):
                    each = version_of(crash.raw_crash)[1], crash.crash_id, crash
                    found += [each] if each[:2] > after else []
            if len(found) > 2 * _AT_ONCE:
                found = nsmallest(_AT_ONCE, found, key=_by_age)
            yield None
        return [(modified, crash) for modified, _, crash in nsmallest(_AT_ONCE, found, key=_by_age)]

    def _remove_for_space(self, crash: FoundCrash, clock: datetime) -> Expired | None:
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
            link = link_of(crash.root, crash.crash_id, raw_crash)
        except FileNotFoundError:
            return None
        except ValueError:
            raw_crash, link = {}, ""
        links = [link] if link else symlinks_of(crash)
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

    def _finish(self, begun: _Begun) -> Expired:
        crash = begun.crash
        remove_rest(os.path.dirname(crash.raw_crash), crash.dumps.values(), begun.links)
        unlink_if_there(self._staging.intent_record(crash.crash_id))
        del self._begun[crash.crash_id]
        return Expired(crash_id=crash.crash_id, why=begun.why)

    def _empty_directories(self, clock: datetime) -> Steps:
        branch = DateBranch(self._root, lambda: clock)
        for day in sorted(self._emptied):
            was_left = False
            for is_left in branch.prune(day):
                was_left |= is_left
                yield None
            if not was_left:
                self._emptied.discard(day)


def is_over(day: str, days: int, now: datetime) -> bool:
    """Tell whether a day (C{yyyymmdd}) ended at least so many days ago."""
    try:
        ended = datetime.strptime(f"{day} +0000", "%Y%m%d %z") + timedelta(days=1)
        return ended + timedelta(days=days) <= now
    except (ValueError, OverflowError):
        return False


def _by_age(each: tuple[int, str, FoundCrash]) -> tuple[int, str]:
    return each[:2]


def _age(version: tuple[int, ...], now: datetime) -> float:
    return now.timestamp() - version[1] / 1e9


def _size(crash: FoundCrash) -> int:
    """How many bytes of the disk a crash takes; those of its dumps that are gone by now take none."""
    size = 0
    for path in chain([crash.raw_crash], crash.dumps.values()):
        with suppress(FileNotFoundError):
            found = os.stat(path)
            size += max(found.st_size, found.st_blocks * 512)
    return size
