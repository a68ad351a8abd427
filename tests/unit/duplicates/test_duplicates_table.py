"""
The memory of kept reports: what it knows, forgets and lets go, in one process and in several.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from collectord.duplicates.table import KeptTable
from tests.support.cases import for_each

DIGEST = bytes(range(16))
CRASH_ID = "8f63752c-57c6-4e5d-b2cf-cabde2160622"
OTHER_ID = "8f63aaaa-57c6-4e5d-b2cf-cabde2160622"

_CHILD = """
import sys
from collectord.duplicates.table import KeptTable
table = KeptTable(int(sys.argv[1]))
for line in sys.stdin:
    print(eval(line), flush=True)
"""


def known(table: KeptTable, digest: bytes = DIGEST, now: float = 100.0) -> str | None:
    return table.crash_id_of(digest, now - 60, now + 60)


class Child:
    """Another process with the same memory."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def says(self, expression: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{expression}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def claims(self) -> str:
        return self.says(f"table.claim({DIGEST!r})")


@contextmanager
def child(table: KeptTable) -> Iterator[Child]:
    process = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(table.descriptor)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=[table.descriptor],
    )
    with process:
        try:
            yield Child(process)
        finally:
            process.kill()


def test_what_was_added_is_known_within_its_time() -> None:
    table = KeptTable()
    assert known(table) is None
    table.add(DIGEST, CRASH_ID, 100.0)
    assert known(table) == CRASH_ID
    assert known(table, b"\0" * 16) is None
    assert [known(table, now=now) for now in (39.9, 40.0, 160.0, 160.1)] == [None, CRASH_ID, CRASH_ID, None]


def test_the_last_one_counts() -> None:
    table = KeptTable()
    table.add(DIGEST, CRASH_ID, 100.0)
    table.add(DIGEST, OTHER_ID, 101.0)
    assert known(table) == OTHER_ID


def test_nothing_is_known_of_zeros() -> None:
    assert known(KeptTable(), b"\0" * 16, now=0.0) is None


def test_the_oldest_make_room() -> None:
    table = KeptTable()
    same_bucket = [DIGEST[:4] + bytes([number]) * 12 for number in range(10)]
    for at, digest in enumerate(same_bucket):
        table.add(digest, CRASH_ID, 100.0 + at)
    assert [known(table, digest) for digest in same_bucket] == [None, None, *[CRASH_ID] * 8]


def test_a_clock_that_was_far_ahead_takes_no_room_for_ever() -> None:
    table = KeptTable()
    same_bucket = [DIGEST[:4] + bytes([number]) * 12 for number in range(16)]
    for digest in same_bucket[:8]:
        table.add(digest, OTHER_ID, 1e9)
    for digest in same_bucket[8:]:
        table.add(digest, CRASH_ID, 100.0)
    assert [known(table, digest) for digest in same_bucket[8:]] == [CRASH_ID] * 8


def test_which_crashes_were_moved() -> None:
    table = KeptTable()
    assert not table.was_moved(CRASH_ID)
    for _ in range(20):
        table.set_moved(CRASH_ID)
        table.set_moved(OTHER_ID)
    assert (table.was_moved(CRASH_ID), table.was_moved(OTHER_ID)) == (True, True)
    assert known(table) is None


def test_of_too_many_that_were_moved_the_newest_are_known() -> None:
    table = KeptTable()
    same_bucket = [f"{CRASH_ID[:9]}{number:04x}{CRASH_ID[13:]}" for number in range(12)]
    for crash_id in same_bucket:
        table.set_moved(crash_id)
    assert [table.was_moved(crash_id) for crash_id in same_bucket] == [False] * 4 + [True] * 8


@for_each("place", range(0, 44, 3))
def test_an_entry_that_was_only_half_written_is_not_known(place: int) -> None:
    table = KeptTable()
    table.add(DIGEST, CRASH_ID, 100.0)
    memory = table._memory
    entry = memory.find(DIGEST)
    memory[entry + place] ^= 0xFF
    assert known(table) is None


def test_a_claim_is_held_by_one() -> None:
    table = KeptTable()
    assert table.claim(DIGEST)
    assert not table.claim(DIGEST)
    assert table.claim(DIGEST[::-1])
    table.release(DIGEST)
    assert table.claim(DIGEST)


def test_other_processes_share_it() -> None:
    table = KeptTable()
    assert table.claim(DIGEST)
    with child(table) as other:
        assert other.claims() == "False"
        table.add(DIGEST, CRASH_ID, 100.0)
        table.set_filled()
        table.release(DIGEST)
        assert other.says(f"table.crash_id_of({DIGEST!r}, 0, 200), table.is_filled") == f"('{CRASH_ID}', True)"
        assert other.claims() == "True"
        assert not table.claim(DIGEST)
        other.process.kill()
        other.process.wait()
        assert table.claim(DIGEST)


def test_how_much_it_takes() -> None:
    table = KeptTable()
    for number in range(10_000):
        table.add(os.urandom(16), CRASH_ID, float(number))
        table.set_moved(str(UUID(bytes=os.urandom(16))))
    assert os.fstat(table.descriptor).st_size == 4096 + 8 * 1024 * 1024
