from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from collectord.pieces import Pieces


@given(st.binary(max_size=60), st.lists(st.integers(0, 60)), st.integers(0, 80), st.integers(0, 80))
def test_reads_what_is_there(data: bytes, cuts: list[int], at: int, size: int) -> None:
    ends = sorted({0, len(data), *(cut for cut in cuts if cut <= len(data))})
    pieces = [data[begin:end] for begin, end in pairwise(ends)]
    assert Pieces(pieces).read_at(at, size) == data[at : at + size]


def test_empty_pieces_do_no_harm() -> None:
    assert Pieces([b"", b"ab", b"", b"cd", b""]).read_at(1, 9) == b"bcd"
    assert Pieces([]).read_at(0, 1) == b""
