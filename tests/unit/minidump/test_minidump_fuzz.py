"""
Damaged and hostile minidumps: nothing but our own error comes out, after a bounded number of reads.
"""

from collections.abc import Callable, Sequence
from functools import cache
from struct import pack

import pytest
from attrs import define
from hypothesis import given
from hypothesis import strategies as st

from collectord.errors import UnreadableMinidump
from collectord.fingerprints.minidumps import facts_in
from collectord.model import CrashFacts
from collectord.pieces import Pieces
from tests.support.cases import for_each
from tests.support.hostileminidumps import HOSTILE
from tests.support.minidumps import MadeMinidump, MadeModule

MOST_READS = 224
MOST_BYTES = 2**20


@define
class Counted:
    """A file that counts what is read of it."""

    file: Pieces
    reads: int = 0
    size: int = 0

    def read_at(self, at: int, size: int) -> bytes:
        assert at >= 0
        assert size >= 0
        found = self.file.read_at(at, size)
        self.reads += 1
        self.size += len(found)
        return found


def examined(data: bytes) -> CrashFacts | None:
    """None if it can't be read."""
    half = len(data) // 2
    file = Counted(Pieces([data[:half], data[half:]]))
    try:
        return facts_in(file)
    except UnreadableMinidump:
        return None
    finally:
        assert file.reads <= MOST_READS
        assert file.size <= MOST_BYTES


@cache
def samples() -> Sequence[bytes]:
    """Small ones, so that most of their bytes matter."""
    modules = [
        MadeModule(0x1_0000, 0x5000, "/bin/app", bytes(range(16))),
        MadeModule(0x3_0000, 0x5000, "libc.so.6", bytes(range(16))),
        MadeModule(0x5_0000, 0x5000, "a.ttf"),
    ]
    stack = [1, 0x3_1235, 0x1_1235, 0x5_1235, 0x1_2347]
    return [
        MadeMinidump(
            style=style, cpu=cpu, pointer=0x2_0000, modules=modules, instruction=0x1_1111, stack=stack, threads=1
        ).write()
        for cpu in ("x86", "arm", "amd64", "arm64")
        for style in ("crashpad", "breakpad", "windows")
    ]


@pytest.mark.slow
@for_each("make", HOSTILE.values(), ids=HOSTILE)
def test_hostile_ones_are_read_in_bounds(make: Callable[[], bytes]) -> None:
    assert examined(make()) is not None


def test_the_samples_are_read() -> None:
    assert all((found := examined(sample)) and found.fingerprint for sample in samples())


NUMBERS = st.sampled_from([0, 1, 7, 8, 12, 48, 108, 2**16, 2**31 - 1, 2**31, 2**32 - 1]) | st.integers(0, 2**32 - 1)
CHANGES = st.lists(st.tuples(st.integers(0, 10_000), NUMBERS), max_size=8)


@given(st.integers(0, 11), CHANGES, st.none() | st.integers(0, 10_000))
def test_changed_numbers(sample: int, changes: Sequence[tuple[int, int]], cut: int | None) -> None:
    data = bytearray(samples()[sample])
    for at, number in changes:
        at = at % len(data) & ~3
        data[at : at + 4] = pack("<I", number)
    examined(bytes(data[:cut]))


@given(st.integers(0, 11), st.lists(st.tuples(st.integers(0, 1500), NUMBERS), min_size=1, max_size=4))
def test_changed_headers(sample: int, changes: Sequence[tuple[int, int]]) -> None:
    data = bytearray(samples()[sample])
    for at, number in changes:
        at = 4 + at % 200 & ~3
        data[at : at + 4] = pack("<I", number)
    examined(bytes(data))


@given(st.integers(0, 11), st.integers(0, 10_000))
def test_cut_off(sample: int, size: int) -> None:
    examined(samples()[sample][:size])


@given(st.binary(max_size=500))
def test_anything(data: bytes) -> None:
    examined(data)
    examined(pack("<4sIIIII", b"MDMP", 0xA793, 5, 24, 0, 0) + data)
