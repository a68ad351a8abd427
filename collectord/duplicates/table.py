"""
The memory of the reports that were kept lately, shared by all processes of a daemon.

It is a table of fixed size in a memory file, which the parent makes and its workers inherit. Nothing in it waits for a
disk. A worker that dies in the middle leaves an entry whose checksum is wrong, and a claim that the kernel takes back.
"""

import fcntl
import mmap
import os
from struct import Struct
from uuid import UUID
from zlib import crc32

from collectord.duplicates.digest import SIZE

_CHECKED = Struct(f"<{SIZE}s16sd")
"""Digest, crash id, and when the crash was kept."""
_CHECKSUM = Struct("<I4x")
_ENTRY = Struct(f"<{SIZE}s16sdI4x")
"""These, and their checksum."""
_TIMES = Struct("<" + 8 * f"{SIZE + 16}xd8x")
"""The times of a bucket."""
_BUCKET = 8 * _ENTRY.size
_BUCKETS = 1 << 14
_LONGEST_S = 86400.0
"""The longest window that may be set. An entry so much later than a new one is of a clock that was wrong."""
_HEADER = 4096
"""Its first byte is 1 once what is known of earlier processes is in the table."""
_MOVED = _HEADER + _BUCKETS * _BUCKET
"""Behind the entries there are the ids of crashes that were moved, the newest of each bucket first."""
_MOVED_BUCKET = 8 * 16
_CLAIMS = 1 << 62
"""A claim locks one byte of the file, by its number below this. The file need not be that long to be locked there."""


class KeptTable:
    """
    A table of kept reports: by the digest of each, the id of its crash. Older entries make room for newer ones.

    Every method takes microseconds. L{claim} and L{release} are for the reactor thread, the others for any thread.

    @ivar descriptor: of the memory file, to be inherited by a worker.

    @param descriptor: of the file of another process; None: a new file is made.
    @param is_shared: whether other processes claim reports, too. If none does, no lock of the kernel is needed.
    """

    def __init__(self, descriptor: int | None = None, *, is_shared: bool = True) -> None:
        size = _MOVED + _BUCKETS * _MOVED_BUCKET
        if descriptor is None:
            descriptor = os.memfd_create("collectord-kept")
            os.ftruncate(descriptor, size)
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, size)
        self._claimed: set[bytes] = set()
        self._is_shared = is_shared

    def crash_id_of(self, digest: bytes, earliest: float, latest: float) -> str | None:
        """Return the id of the crash of a report, if it was kept between two times, in seconds since the epoch."""
        start = _start_of(digest)
        bucket = self._memory[start : start + _BUCKET]
        if digest not in bucket:
            return None
        for number, (known, crash_id, at, checksum) in enumerate(_ENTRY.iter_unpack(bucket)):
            if known == digest and earliest <= at <= latest:
                entry = number * _ENTRY.size
                if crc32(bucket[entry : entry + _CHECKED.size]) == checksum:
                    return str(UUID(bytes=crash_id))
        return None

    def add(self, digest: bytes, crash_id: str, at: float) -> None:
        """
        Remember that a crash is kept, and durable.

        @param at: when it was kept, in seconds since the epoch.
        """
        start = _start_of(digest)
        bucket = self._memory[start : start + _BUCKET]
        times = _TIMES.unpack(bucket)
        # The new entry replaces that of the same report, if there is one. Else it replaces one of a time when the clock
        # was far ahead, since that would never become the oldest; else the oldest. An entry that was never used has the
        # time 0, so it counts as the oldest.
        if digest in bucket and digest in (digests := [known for known, *_ in _ENTRY.iter_unpack(bucket)]):
            number = digests.index(digest)
        else:
            latest = at + _LONGEST_S
            far_ahead = [time for time in times if time > latest]
            number = times.index(min(far_ahead or times))
        checked = _CHECKED.pack(digest, _packed(crash_id), at)
        start += number * _ENTRY.size
        self._memory[start : start + _ENTRY.size] = checked + _CHECKSUM.pack(crc32(checked))

    def set_moved(self, crash_id: str) -> None:
        """Remember that a crash was moved, or is about to be: a destination has confirmed it."""
        moved = _packed(crash_id)
        start = _start_of(moved, _MOVED, _MOVED_BUCKET)
        bucket = self._memory[start : start + _MOVED_BUCKET]
        if moved not in bucket:
            self._memory[start : start + _MOVED_BUCKET] = moved + bucket[: -len(moved)]

    def set_erased(self, crash_id: str) -> None:
        """Undo L{set_moved}: the crash was erased where it was moved to."""
        moved = _packed(crash_id)
        start = _start_of(moved, _MOVED, _MOVED_BUCKET)
        ids = [self._memory[at : at + len(moved)] for at in range(start, start + _MOVED_BUCKET, len(moved))]
        others = b"".join(each for each in ids if each != moved)
        self._memory[start : start + _MOVED_BUCKET] = others.ljust(_MOVED_BUCKET, b"\0")

    def was_moved(self, crash_id: str) -> bool:
        """Tell whether L{set_moved} was called for this crash, and not too often for others since then."""
        moved = _packed(crash_id)
        start = _start_of(moved, _MOVED, _MOVED_BUCKET)
        return moved in self._memory[start : start + _MOVED_BUCKET]

    def claim(self, digest: bytes) -> bool:
        """
        Claim a report, which is about to be saved: no one else has it until it is released, or this process ends.

        @return: False if it is claimed already, here or in another process.
        """
        if digest in self._claimed or (self._is_shared and not self._lock(digest)):
            return False
        self._claimed.add(digest)
        return True

    def _lock(self, digest: bytes) -> bool:
        try:
            fcntl.lockf(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _claim_of(digest))
        except BlockingIOError:
            return False
        except OSError:  # The kernel has no more locks, so only this process knows of the claim.
            pass
        return True

    def release(self, digest: bytes) -> None:
        """Release what L{claim} has claimed."""
        self._claimed.discard(digest)
        if self._is_shared:
            fcntl.lockf(self.descriptor, fcntl.LOCK_UN, 1, _claim_of(digest))

    @property
    def is_filled(self) -> bool:
        """Whether L{set_filled} was called, in any process."""
        return self._memory[0] == 1

    def set_filled(self) -> None:
        """Note that what is known of earlier processes is in the table."""
        self._memory[0] = 1


def _packed(crash_id: str) -> bytes:
    return bytes.fromhex(crash_id.replace("-", ""))  # much faster than a UUID is made


def _start_of(key: bytes, begin: int = _HEADER, size: int = _BUCKET) -> int:
    return begin + int.from_bytes(key[:4], "little") % _BUCKETS * size


def _claim_of(digest: bytes) -> int:
    return int.from_bytes(digest[:8], "little") % _CLAIMS
