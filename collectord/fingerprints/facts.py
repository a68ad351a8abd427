"""
Finds out what is known of a crash before the throttle rules judge it: from its minidump, or from its annotations.
"""

from collections.abc import Sequence

from attrs import evolve
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from collectord.concurrency.timeouts import with_timeout
from collectord.errors import StorageError, UnreadableMinidump
from collectord.fingerprints.annotations import facts_told
from collectord.fingerprints.minidumps import facts_in
from collectord.model import MINIDUMP, Annotations, CrashFacts, Dump, InMemory

READING_S = 2.0
"""Seconds for which a dump that was spilled to a disk is waited for. Its crash is kept without facts after that."""

_log = Logger()


async def facts_of(dumps: Sequence[Dump], annotations: Annotations, clock: IReactorTime) -> CrashFacts | None:
    """
    Return what is known of the crash of a report; None if nothing is. To be called on the reactor thread.

    A dump in memory is read at once, since that takes some 50 µs, and 2 ms at worst. One that was spilled to a disk is
    read on a thread of its store.
    """
    read = await _facts_read(dumps, clock)
    if read is not None and read.fingerprint:
        return read
    told = facts_told(annotations)
    if read is None or told is None:
        return read or told
    return evolve(read, fingerprint=told.fingerprint, place=told.place)


async def _facts_read(dumps: Sequence[Dump], clock: IReactorTime) -> CrashFacts | None:
    dump = _minidump_of(dumps)
    if dump is None:
        return None
    try:
        if isinstance(dump.content, InMemory):
            return await dump.content.examine(facts_in)
        return await with_timeout(dump.content.examine(facts_in), READING_S, clock, f"the dump {dump.name}")
    except UnreadableMinidump:
        return None
    except StorageError as e:
        _log.warn("a crash has no fingerprint: {why}", why=str(e))
        return None
    except Exception:
        _log.failure("a defect: a minidump could not be examined; its crash has no fingerprint")
        return None


def _minidump_of(dumps: Sequence[Dump]) -> Dump | None:
    """Return the dump called L{MINIDUMP}; if there is none, the first that is a minidump by its first bytes."""
    minidumps = [dump for dump in dumps if dump.is_minidump]
    return next((dump for dump in minidumps if dump.name == MINIDUMP), minidumps[0] if minidumps else None)
