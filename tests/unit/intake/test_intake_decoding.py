import gzip
import random
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Mapping, Sequence

import brotli
import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from collectord.errors import MalformedReport, TooLarge
from collectord.intake.decoding import decoder_for

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

NOT_ENCODED = "the Content-Encoding is wrong: the body is not encoded"
BODY = b"--xyzzy\r\n" + random.Random(1).randbytes(1000) * 20


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


ENCODERS: Mapping[str, tuple[bytes, Callable[[bytes], bytes]]] = {
    "gzip": (b"gzip", gzip.compress),
    "deflate": (b"deflate", zlib.compress),
    "deflate without a header": (b"deflate", raw_deflate),
    "br": (b"br", lambda data: bytes(brotli.compress(data, quality=5))),
    "zstd": (b"zstd", zstd.compress),
}
encoders = pytest.mark.parametrize(("encoding", "encode"), ENCODERS.values(), ids=ENCODERS)


@frozen
class Decoded:
    """What was made of a body."""

    content: bytes
    notes: Sequence[str]
    largest: int
    reserved: int


def decode(encoding: bytes, *pieces: bytes, limit: int = 10**9) -> Decoded:
    reserved: list[int] = []
    decoder = decoder_for(encoding, b"xyzzy", limit, reserved.append)
    assert decoder is not None
    decoded = [content for piece in pieces for content in decoder.feed(piece)]
    decoder.finish()
    assert decoder.is_plain == (NOT_ENCODED in [note.text for note in decoder.notes])
    return Decoded(
        b"".join(decoded), [note.text for note in decoder.notes], max(map(len, decoded), default=0), sum(reserved)
    )


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@encoders
@pytest.mark.parametrize("size", [1, 2, 100, 1_000_000])
def test_a_body(encoding: bytes, encode: Callable[[bytes], bytes], size: int) -> None:
    decoded = decode(encoding, *cut(encode(BODY), size))
    assert (decoded.content, decoded.notes) == (BODY, [])


@pytest.mark.parametrize("encoding", [b"x-gzip", b"gzip, identity", b"identity,GZIP", b" gzip ,", b"gzip, gzip"])
def test_names_of_gzip(encoding: bytes) -> None:
    assert decode(encoding, gzip.compress(BODY)).content == BODY


@pytest.mark.parametrize("encoding", [b"", b" ", b"identity", b"Identity, identity", b","])
def test_not_encoded(encoding: bytes) -> None:
    assert decoder_for(encoding, b"xyzzy", 1000, lambda size: None) is None


@encoders
@pytest.mark.parametrize("size", [1, 4, 1000])
def test_announced_and_not_so(encoding: bytes, encode: Callable[[bytes], bytes], size: int) -> None:
    for begin in (b"--xyzzy", b"\r\n--xyzzy", b"\n--xyzzy"):
        decoded = decode(encoding, *cut(begin + b"\r\n", size))
        assert (decoded.content, decoded.notes) == (begin + b"\r\n", [NOT_ENCODED])


@encoders
@pytest.mark.parametrize("size", [10, 1_000_000])
def test_cut_off(encoding: bytes, encode: Callable[[bytes], bytes], size: int) -> None:
    decoded = decode(encoding, *cut(encode(BODY + random.Random(2).randbytes(200_000))[:-2000], size))
    assert decoded.content.startswith(BODY)
    assert decoded.notes == [f"the {encoding.decode()} body is cut off; its end may be missing"]


def test_all_that_a_br_body_which_is_cut_off_gives_is_read_at_once() -> None:
    whole = brotli.compress(bytes(random.Random(0).choices(b"abcd", k=40_000)), quality=5)[:-40]
    assert decode(b"br", whole).content == decode(b"br", *cut(whole, 1)).content


@encoders
@pytest.mark.parametrize("size", [1, 1_000_000])
@pytest.mark.parametrize("trailing", [b"x", b"garbage", b"\xff" * 1000, b"\r\n"], ids=len)
def test_trailing_garbage(encoding: bytes, encode: Callable[[bytes], bytes], size: int, trailing: bytes) -> None:
    sent = cut(encode(BODY) + trailing, size)
    if encoding == b"br":  # its package can't tell where the end was
        with pytest.raises(MalformedReport):
            decode(encoding, *sent)
    else:
        decoded = decode(encoding, *sent)
        assert decoded.content == BODY
        assert decoded.notes == [f"bytes after the end of the {encoding.decode()} body are left out"]


@pytest.mark.parametrize("size", [1, 3, 1_000_000])
@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_several_streams(name: str, size: int) -> None:
    encoding, encode = ENCODERS[name]
    decoded = decode(encoding, *cut(encode(BODY) + encode(b"") + encode(b"more"), size))
    assert (decoded.content, decoded.notes) == (BODY + b"more", [])


@encoders
def test_nonsense(encoding: bytes, encode: Callable[[bytes], bytes]) -> None:
    for sent in (b"nonsense" * 10, b"\x1f", b"", b"--xyzz"):
        with pytest.raises(MalformedReport) as refused:
            decode(encoding, sent)
        assert refused.value.reason == f"bad_{encoding.decode()}"


@encoders
def test_the_limit(encoding: bytes, encode: Callable[[bytes], bytes]) -> None:
    assert decode(encoding, encode(BODY), limit=len(BODY)).content == BODY
    with pytest.raises(TooLarge):
        decode(encoding, encode(BODY), limit=len(BODY) - 1)


@pytest.mark.slow
@encoders
def test_a_bomb_is_decoded_in_bounded_pieces(encoding: bytes, encode: Callable[[bytes], bytes]) -> None:
    bomb = encode(bytes(40_000_000))
    decoder = decoder_for(encoding, b"xyzzy", 30_000_000, lambda size: None)
    assert decoder is not None
    pieces = decoder.feed(bomb)
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            assert max(map(len, pieces)) <= 100 * 1024
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.slow
def test_the_memory_of_a_window_is_reserved() -> None:
    """As much as was decoded, up to the largest window. gzip needs so little that it does not count."""
    large, mib = bytes(20_000_000), 1024 * 1024
    assert decode(b"gzip", gzip.compress(large)).reserved == 0
    assert decode(b"zstd", zstd.compress(large)).reserved == 8 * mib + 256 * 1024
    assert decode(b"br", ENCODERS["br"][1](large)).reserved == 16 * mib + 256 * 1024
    assert decode(b"zstd", zstd.compress(BODY)).reserved == len(BODY) + 256 * 1024


def test_a_window_of_zstd_has_a_limit() -> None:
    def windowed(log: int) -> bytes:
        noise = random.Random(1).randbytes(1000) * 18_000
        return zstd.compress(noise, options={int(zstd.CompressionParameter.window_log): log})

    assert decode(b"zstd", windowed(23)).notes == []
    with pytest.raises(MalformedReport):
        decode(b"zstd", windowed(24))


@given(st.binary(max_size=100), st.integers(1, 20), st.sampled_from(sorted(ENCODERS)), st.integers(0, 30))
def test_any_split_of_anything(data: bytes, size: int, name: str, start: int) -> None:
    encoding, encode = ENCODERS[name]
    sent = encode(b"hello")[:start] + data

    def outcome(pieces: Sequence[bytes]) -> object:
        try:
            decoded = decode(encoding, *pieces)
        except MalformedReport as e:
            return e.reason
        return decoded.content, decoded.notes

    assert outcome(cut(sent, size)) == outcome([sent])
