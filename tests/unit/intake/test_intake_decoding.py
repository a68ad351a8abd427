import gzip
import random
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Mapping, Sequence
from itertools import chain

import brotli
import pytest
from attrs import evolve, frozen
from hypothesis import given
from hypothesis import strategies as st

from collectord.errors import MalformedReport, TooLarge
from collectord.intake.layers import BodyDecoder, codings_of
from tests.support.cases import for_each

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

NOT_ENCODED = "the Content-Encoding is wrong: the body is not encoded"
BEGINS = (b"--xyzzy", b"\r\n--xyzzy", b"\n--xyzzy")
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
encoders = for_each(("encoding", "encode"), ENCODERS.values(), ids=ENCODERS)


@frozen
class Decoded:
    """What was made of a body."""

    content: bytes
    notes: Sequence[str]
    largest: int
    reserved: int
    is_whole: bool


def decode(encoding: bytes, *pieces: bytes, limit: int = 10**9) -> Decoded:
    reserved: list[int] = []
    decoder = BodyDecoder(codings_of(encoding), BEGINS, limit, reserved.append)
    decoded = [content for piece in pieces for content in decoder.feed(piece)]
    decoded += decoder.finish()
    notes = [note.text for note in decoder.notes]
    assert decoder.is_plain == (NOT_ENCODED in notes or (not codings_of(encoding) and not notes))
    return Decoded(b"".join(decoded), notes, max(map(len, decoded), default=0), sum(reserved), decoder.is_whole)


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@encoders
@for_each("size", [1, 2, 100, 1_000_000])
def test_a_body(encoding: bytes, encode: Callable[[bytes], bytes], size: int) -> None:
    decoded = decode(encoding, *cut(encode(BODY), size))
    assert (decoded.content, decoded.notes) == (BODY, [])


@for_each("encoding", [b"x-gzip", b"gzip, identity", b"identity,GZIP", b" gzip ,", b"gzip, gzip", b"UTF-8, gzip"])
def test_names_of_gzip(encoding: bytes) -> None:
    assert decode(encoding, gzip.compress(BODY)).content == BODY


@for_each("encoding", [b"", b" ", b"identity", b"Identity, identity", b",", b'""', b"UTF-8", b'utf-8, ""'])
def test_not_encoded(encoding: bytes) -> None:
    decoder = BodyDecoder(codings_of(encoding), BEGINS, 1000, lambda size: None)
    assert all(map(decoder.is_needless, (b"--xyzzy", b"\r\n", b"\n")))
    assert not any(map(decoder.is_needless, (b"x", b"\x1f", b"")))
    for sent in (b"--xyzzy\r\n", b"before\r\n--xyzzy", b"b", b"", b"\x1f\x8b", b"\x1f\x8b\x09\0" * 10):
        assert decode(encoding, *cut(sent, 1)).content == sent
        assert decode(encoding, sent).notes == []


@encoders
@for_each("size", [1, 4, 1000])
def test_announced_and_not_so(encoding: bytes, encode: Callable[[bytes], bytes], size: int) -> None:
    for begin in (b"--xyzzy", b"\r\n--xyzzy", b"\n--xyzzy"):
        decoded = decode(encoding, *cut(begin + b"\r\n", size))
        assert (decoded.content, decoded.notes) == (begin + b"\r\n", [NOT_ENCODED])


@encoders
@for_each("size", [100, 1_000_000])
def test_cut_off(encoding: bytes, encode: Callable[[bytes], bytes], size: int) -> None:
    decoded = decode(encoding, *cut(encode(BODY + random.Random(2).randbytes(200_000))[:-2000], size))
    assert decoded.content.startswith(BODY)
    assert decoded.notes == [f"the {encoding.decode()} body is cut off; its end may be missing"]


def test_all_that_a_br_body_which_is_cut_off_gives_is_read_at_once() -> None:
    whole = brotli.compress(bytes(random.Random(0).choices(b"abcd", k=40_000)), quality=5)[:-40]
    assert decode(b"br", whole).content == decode(b"br", *cut(whole, 1)).content


@encoders
@for_each("size", [1, 1_000_000])
@for_each("trailing", [b"x", b"garbage", b"\xff" * 64, b"\r\n", b"\xff" * 1000], ids=len)
def test_trailing_garbage(encoding: bytes, encode: Callable[[bytes], bytes], size: int, trailing: bytes) -> None:
    sent = cut(encode(BODY) + trailing, size)
    if encoding == b"br" and len(trailing) > 64:  # its package can't tell where the end was
        with pytest.raises(MalformedReport):
            decode(encoding, *sent)
    else:
        decoded = decode(encoding, *sent)
        assert (decoded.content, decoded.is_whole) == (BODY, True)
        assert decoded.notes == [f"bytes after the end of the {encoding.decode()} body are left out"]


CHECKED: Mapping[str, tuple[bytes, bytes]] = {
    "gzip": (b"gzip", gzip.compress(BODY)[:-8] + b"\0" * 8),
    "the length of gzip": (b"gzip", gzip.compress(BODY)[:-1] + b"\1"),
    "gzip with padding": (b"gzip", gzip.compress(BODY)[:-8] + b"\1" * 8 + b"\0" * 1000),
    "gzip of tiny blocks": (b"gzip", gzip.compress(BODY, 0)[:-8] + b"\1" * 8),
    "deflate": (b"deflate", zlib.compress(BODY)[:-4] + b"\0" * 4),
    "zstd": (b"zstd", zstd.compress(BODY, options={int(zstd.CompressionParameter.checksum_flag): 1})[:-1] + b"\0"),
}


@for_each("size", [1, 100, 1_000_000])
@for_each(("encoding", "sent"), CHECKED.values(), ids=CHECKED)
def test_a_wrong_checksum(encoding: bytes, sent: bytes, size: int) -> None:
    decoded = decode(encoding, *cut(sent, size))
    assert (decoded.content, decoded.is_whole) == (BODY, False)
    (note,) = decoded.notes
    assert note == (
        f"the checksum of the {encoding.decode()} body is wrong: it may be damaged, and what follows is left out"
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gzip", "deflate"])
@pytest.mark.parametrize("at", [900, 1040, 5000, 20_000, 20_900])
def test_all_that_is_before_a_damage_is_kept(name: str, at: int) -> None:
    encoding, encode = ENCODERS[name]
    chance = random.Random(1)
    whole = b"--xyzzy\r\n" + b"".join(b"%x" % chance.getrandbits(32) for _ in range(6000))
    packed = encode(whole)
    sent = packed[:at] + b"\xff" * 400 + packed[at + 400 :]
    decoded, *others = [evolve(decode(encoding, *cut(sent, size)), largest=0) for size in (1, 77, 1_000_000)]
    assert others == [decoded, decoded]
    assert not decoded.is_whole
    kept, before = decoded.content, decode(encoding, packed[:at]).content
    assert len(before) > at
    assert kept.startswith(before)
    (note,) = decoded.notes
    assert note in (
        f"the {encoding.decode()} body is damaged: what follows {len(kept)} bytes of it is left out",
        f"the checksum of the {encoding.decode()} body is wrong: it may be damaged, and what follows is left out",
    )


def all_of(*encoders: Callable[[bytes], bytes]) -> bytes:
    data = BODY
    for encode in encoders:
        data = encode(data)
    return data


ZIP, BR, ZSTD, DEFLATE = (ENCODERS[name][1] for name in ("gzip", "br", "zstd", "deflate"))


@for_each("size", [1, 100, 1_000_000])
@for_each(
    ("encoding", "sent"),
    [
        (b"br, gzip", all_of(BR, ZIP)),
        (b"gzip, br", all_of(ZIP, BR)),
        (b"gzip,gzip", all_of(ZIP, ZIP)),
        (b"zstd, identity, deflate", all_of(ZSTD, DEFLATE)),
        (b"br, zstd, gzip", all_of(BR, ZSTD, ZIP)),
        (b"br, br", all_of(BR)),
    ],
)
def test_a_body_in_several_codings(encoding: bytes, sent: bytes, size: int) -> None:
    decoded = decode(encoding, *cut(sent, size))
    assert (decoded.content, decoded.notes, decoded.is_whole) == (BODY, [], True)


@for_each("size", [1, 100, 1_000_000])
@for_each(
    ("encoding", "sent", "notes"),
    [
        (b"", all_of(ZIP), ["encoded in gzip"]),
        (b"", all_of(ZSTD), ["encoded in zstd"]),
        (b"identity", all_of(ZSTD, ZIP), ["encoded in gzip", "encoded in zstd"]),
        (b"gzip", all_of(ZIP, ZIP), ["encoded in gzip"]),
        (b"x-unknown", all_of(ZIP), ["encoded in gzip"]),
        (b"deflate", all_of(ZIP), ["encoded in gzip"]),
        (b"zstd", all_of(ZIP), ["encoded in gzip"]),
        (b"gzip, zstd", all_of(ZSTD, ZIP), ["encoded in gzip"]),
        (b"br, gzip", all_of(ZIP), ["not encoded in br"]),
        (b"br, gzip", BODY, ["not encoded"]),
    ],
)
def test_what_the_body_shows_counts(encoding: bytes, sent: bytes, notes: Sequence[str], size: int) -> None:
    decoded = decode(encoding, *cut(sent, size))
    assert decoded.content == BODY
    assert decoded.notes == [f"the Content-Encoding is wrong: the body is {note}" for note in notes]


def test_a_body_in_too_many_codings() -> None:
    with pytest.raises(MalformedReport) as refused:
        decode(b"gzip, br, gzip, br", all_of(ZIP, BR, ZIP, BR))
    assert refused.value.reason == "unknown_content_encoding"
    left = decode(b"", all_of(ZIP, ZIP, ZIP, ZIP)).content  # gzip may be its own content, for ever
    assert left == all_of(ZIP)


def test_a_bomb_in_a_bomb() -> None:
    bomb = ZIP(ZIP(bytes(40_000_000)))
    decoder = BodyDecoder(codings_of(b"gzip, gzip"), BEGINS, 30_000_000, lambda size: None)
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            assert max(map(len, chain(decoder.feed(bomb), decoder.finish()))) <= 100 * 1024
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3_000_000


@for_each("size", [1, 3, 1_000_000])
@for_each("name", ["gzip", "zstd"])
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
    decoder = BodyDecoder(codings_of(encoding), BEGINS, 30_000_000, lambda size: None)
    pieces = chain(decoder.feed(bomb), decoder.finish())
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
