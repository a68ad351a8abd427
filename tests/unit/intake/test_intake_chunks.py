"""
Chunked bodies: as Twisted decodes them, in whatever pieces they come.
"""

from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.web.http import _ChunkedTransferDecoder, _MalformedChunkedDataError

from collectord.intake.chunks import ChunkedDecoder, MalformedChunks
from tests.support.cases import for_each

MALFORMED = None


def decoded(pieces: Iterable[bytes], decoder: type) -> tuple[bytes, bytes | None] | None:
    """The body, and what comes behind it if it has ended."""
    behind: list[bytes] = []
    body = bytearray()
    decode = decoder(body.extend, behind.append)
    try:
        for piece in pieces:
            if behind:
                behind[0] += piece
            else:
                decode.dataReceived(piece)
    except (MalformedChunks, _MalformedChunkedDataError):
        return MALFORMED
    return bytes(body), behind[0] if behind else None


def split(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


TOKENS = st.sampled_from(
    [b"\r\n", b"\r", b"\n", b"0", b"1", b"5", b"a", b"x", b";", b" ", b"0\r\n", b"\r\n\r\n", b"3\r\nabc\r\n"]
)


@given(st.lists(TOKENS, max_size=12).map(b"".join), st.integers(1, 8))
@example(b"5;ext=1\r\nhello\r\n0\r\n\r\nGET", 3)
@example(b"5;e\\xt\r\nhello\r\n", 3)
@example(b"0\r\nTrailer: x\r\nOther: y\r\n\r\nGET", 5)
@example(b"0\r\n\rx", 1)
@example(b"0\r\na\r\n\r", 1)
@example(b"5 \r\nhello\r\n", 1)
@example(b"-5\r\nhello\r\n", 1)
@example(b"0x5\r\nhello\r\n", 1)
@example(b"", 1)
@example(b"1\r\na\n", 1)
def test_as_twisted(sent: bytes, size: int) -> None:
    whole = decoded([sent], ChunkedDecoder)
    # Behind a chunk Twisted waits for a second byte before it refuses what is no end of line.
    more = [b"x"] if whole is MALFORMED else []
    assert whole == decoded([sent, *more], _ChunkedTransferDecoder)
    assert decoded(split(sent, size), ChunkedDecoder) == whole


@given(st.lists(st.binary(min_size=1, max_size=40)), st.integers(1, 50))
def test_any_split(chunks: list[bytes], size: int) -> None:
    sent = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\nbehind"
    assert decoded(split(sent, size), ChunkedDecoder) == (b"".join(chunks), b"behind")


@for_each(
    "sent",
    [
        b"1" * 1025,
        b"1;" + b"x" * 1023 + b"\r\n",
        b"\r\n",
        b"5\r\nhelloXX",
        b"5\r\nhello\rX",
        b"zz\r\n",
        b"0\r\n" + b"a: b\r\n" * 20_000,
        b"0\r\n" + b"a" * 65537,
    ],
    ids=lambda sent: f"{sent[:15]!r}",
)
def test_what_is_malformed(sent: bytes) -> None:
    assert decoded([sent], ChunkedDecoder) is MALFORMED
    assert decoded(split(sent, 1000), ChunkedDecoder) is MALFORMED


def test_the_chunks_of_one_read_come_at_once() -> None:
    pieces: list[bytes] = []
    decoder = ChunkedDecoder(pieces.append, lambda behind: None)
    decoder.dataReceived(b"1\r\na\r\n2\r\nbc\r\n5\r\nde")
    decoder.dataReceived(b"fgh\r\n1\r\ni\r\nnonsense"[:-8])
    with pytest.raises(MalformedChunks):
        decoder.dataReceived(b"1\r\nj\r\nnonsense\r\n")
    assert pieces == [b"abcde", b"fghi", b"j"]
