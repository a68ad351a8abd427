from base64 import encodebytes
from itertools import pairwise
from quopri import encodestring

from hypothesis import example, given
from hypothesis import strategies as st

from collectord.intake.transfer import decoder_for
from tests.support.cases import for_each
from tests.unit.intake.parts import annotation, body, part, receive

MINIDUMP = b"MDMP\x93\xa7\0\0=?" + bytes(range(256)) * 3


def decoded(encoding: str, *pieces: bytes) -> tuple[bytes, str | None]:
    decoder = decoder_for(encoding)
    assert decoder is not None
    content = b"".join([*map(decoder.feed, pieces), decoder.finish()])
    return content, decoder.problem


@for_each("encoding", [None, "", " ", "7bit", "8BIT ", "binary", "8bit;", '"binary"'])
def test_what_is_not_encoded(encoding: str | None) -> None:
    assert decoder_for(encoding) is None


@for_each("encoding", ["base64", " BASE64 ", '"base64"', "base64;", "base64 (RFC 2045)"])
def test_a_name_with_more_around_it(encoding: str) -> None:
    assert decoded(encoding, b"TURNUA==") == (b"MDMP", None)


@given(st.binary(max_size=300), st.lists(st.integers(0, 500)))
def test_all_that_is_encoded_comes_back_however_it_is_split(content: bytes, cuts: list[int]) -> None:
    for name, encoded in (
        ("base64", encodebytes(content)),
        ("Quoted-Printable", encodestring(content, quotetabs=True)),
    ):
        at = [0, *sorted(cuts), len(encoded)]
        if content.startswith(b"MDMP"):
            continue
        pieces = [encoded[one:other] for one, other in pairwise(at)]
        back, problem = decoded(name, *pieces)
        assert (back, problem) == (content, None)


@given(st.binary(max_size=200), st.integers(0, 200))
@example(b"A" * 70 + b"!", 65)
@example(b"a==zz", 2)
@example(b"=\r", 1)
@example(b"==3d", 2)
@example(b"A" * 62 + b"==AA=A", 65)
@example(b"A" * 64 + b"A=A!", 66)
@example(b"=0" * 32 + b"=", 64)
def test_whatever_claims_to_be_encoded_does_not_depend_on_its_split(content: bytes, cut: int) -> None:
    for name in ("base64", "quoted-printable", "x-uuencode"):
        assert decoded(name, content) == decoded(name, content[:cut], content[cut:])


@for_each(
    ("encoding", "sent", "content", "problem"),
    [
        ("base64", b"TURNUA", b"MDMP", None),
        ("base64", b"TURNU", b"MDM", "its base64 is cut off"),
        ("base64", b"TUR NU\r\nA==\r\n", b"MDMP", None),
        ("base64", b"TQ==RE1Q\r\nMQ=Mg==", b"MDMP12", None),
        ("base64", MINIDUMP, MINIDUMP, "it is not base64, though it says so: kept as it was sent"),
        ("base64", b"{plain}", b"{plain}", "it is not base64, though it says so: kept as it was sent"),
        ("base64", b"AAAA" * 20 + b"!AAAA", bytes(63), "characters that are not base64 are left out"),
        ("quoted-printable", b"a=3D=\r\nb=zz=", b"a=b=zz=", None),
        ("quoted-printable", MINIDUMP, MINIDUMP, "it is not quoted-printable, though it says so: kept as it was sent"),
        ("quoted-printable", b"caf\xe9=20" + b"=C3=A9" * 20 + b"=", b"caf\xe9 " + "é".encode() * 20 + b"=", None),
        ("x-unknown", b"abc", b"abc", "its transfer encoding is unknown: kept as it was sent"),
    ],
)
def test_one_by_one(encoding: str, sent: bytes, content: bytes, problem: str | None) -> None:
    assert decoded(encoding, sent) == (content, problem)


@for_each(("encoding", "encode"), [(b"base64", encodebytes), (b"Quoted-Printable", encodestring), (b"binary", bytes)])
def test_a_dump(encoding: bytes, encode: object) -> None:
    assert callable(encode)
    headers = [
        b'Content-Disposition: form-data; name="upload_file_minidump"; filename="a.dmp"',
        b"Content-Transfer-Encoding: " + encoding,
    ]
    received = receive([body(annotation(b"a"), part(headers, encode(MINIDUMP)))])
    assert received.contents == {"upload_file_minidump": MINIDUMP}
    assert received.notes == []


def test_a_dump_that_is_not_what_it_says() -> None:
    headers = [
        b'Content-Disposition: form-data; name="upload_file_minidump"; filename="a.dmp"',
        b"Content-Transfer-Encoding: base64",
    ]
    received = receive([body(annotation(b"a"), part(headers, MINIDUMP))])
    assert received.contents == {"upload_file_minidump": MINIDUMP}
    assert received.notes == ["upload_file_minidump: it is not base64, though it says so: kept as it was sent"]
