from typing import Any

import multipart
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectord.errors import MalformedReport
from collectord.intake.formdata import FormDataParser, boundary_of, text_of


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        (b"multipart/form-data; boundary=xyzzy", b"xyzzy"),
        (b"multipart/mixed; boundary=xyzzy", b"xyzzy"),
        (b"Multipart/Form-Data;BOUNDARY=XyZzY", b"XyZzY"),
        (b"MULTIPART/MIXED ; Boundary = xyzzy ", b"xyzzy"),
        (b"  multipart/form-data\t;\tboundary=xyzzy", b"xyzzy"),
        (b'multipart/form-data; boundary="xyzzy"', b"xyzzy"),
        (b'multipart/form-data; boundary="xy;zz y"', b"xy;zz y"),
        (b'multipart/form-data; boundary="a\\"b\\\\c\\d"', b'a"b\\cd'),
        (b"multipart/form-data; charset=utf-8; boundary=xyzzy", b"xyzzy"),
        (b"multipart/form-data; boundary=xyzzy; charset=utf-8", b"xyzzy"),
        (b'multipart/form-data; x="; boundary=no"; boundary=yes', b"yes"),
        (b'multipart/form-data; x="\\"; boundary=no"; boundary=yes', b"yes"),
        (b"multipart/form-data; xboundary=no; boundary=yes; boundaryx=no", b"yes"),
        (b"multipart/form-data;; boundary=yes;", b"yes"),
        (b"multipart/form-data; boundary=; boundary=second", b"second"),
        (b"multipart/form-data; boundary=----WebKitFormBoundary7MA4YW", b"----WebKitFormBoundary7MA4YW"),
        (b"multipart/form-data; boundary=---MultipartBoundary-LmQ==---", b"---MultipartBoundary-LmQ==---"),
        (b"multipart/form-data; boundary=a'()+_,-./:=?", b"a'()+_,-./:=?"),
    ],
)
def test_boundaries(content_type: bytes, boundary: bytes) -> None:
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize(
    ("content_type", "reason"),
    [
        (None, "no_content_type"),
        (b"", "no_content_type"),
        (b" \t", "no_content_type"),
        (b"application/json", "wrong_content_type"),
        (b"multipart/form-datax; boundary=xyzzy", "wrong_content_type"),
        (b"multipart/related; boundary=xyzzy", "wrong_content_type"),
        (b"application/x-www-form-urlencoded", "wrong_content_type"),
        (b"; boundary=xyzzy", "wrong_content_type"),
        (b"boundary=xyzzy", "wrong_content_type"),
        (b"multipart/form-data", "no_boundary"),
        (b"multipart/form-data;", "no_boundary"),
        (b"multipart/form-data; boundary", "no_boundary"),
        (b"multipart/form-data; boundary=", "no_boundary"),
        (b'multipart/form-data; boundary=""', "no_boundary"),
        (b"multipart/form-data; boundary=  ; x=y", "no_boundary"),
        (b"multipart/form-data; boundaryx=a", "no_boundary"),
        (b'multipart/form-data; x="; boundary=no"', "no_boundary"),
        (b"multipart/form-data boundary=xyzzy", "wrong_content_type"),
    ],
)
def test_refusals(content_type: bytes | None, reason: str) -> None:
    with pytest.raises(MalformedReport) as refused:
        boundary_of(content_type)
    assert refused.value.reason == reason


@given(st.binary(min_size=1, max_size=40).filter(lambda boundary: not set(boundary) & set(b"\r\n\0")))
def test_any_boundary_can_be_quoted(boundary: bytes) -> None:
    quoted = boundary.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    assert boundary_of(b'multipart/form-data; a=b; boundary="' + quoted + b'"; c="d;e"') == boundary


@given(st.binary(max_size=60))
def test_any_header_has_a_boundary_or_a_reason(header: bytes) -> None:
    reason = ""
    try:
        boundary = boundary_of(b"multipart/mixed" + header)
    except MalformedReport as e:
        reason, boundary = e.reason, b"none"
    assert boundary
    assert reason in ("", "no_boundary", "wrong_content_type")


@pytest.mark.parametrize(
    ("header", "text"),
    [("plain", "plain"), ("", ""), ("Ã©", "é"), ("é", None), ("Ã", None), ("â\x82¬", "€")],
)
def test_text_of(header: str, text: str | None) -> None:
    assert text_of(header) == text


# ——— parts ———


def parts(*pieces: bytes) -> list[tuple[str | None, bytes]]:
    """The names and contents of the parts of a body that comes in C{pieces}."""
    found: list[tuple[str | None, bytes]] = []
    parser = FormDataParser(b"xyzzy")
    for piece in pieces:
        for event in parser.parse(piece):
            if event is not None and not isinstance(event, bytes):
                found.append((event.name, b""))
            elif event is not None:
                name, content = found.pop()
                found.append((name, content + event))
    parser.close()
    return found


NAMED = b'--xyzzy\r\nContent-Disposition: form-data; name="a"\r\n'


def test_a_wrong_length_of_a_part_is_ignored() -> None:
    assert parts(NAMED + b"Content-Length: 1\r\n\r\nhello\r\n--xyzzy--") == [("a", b"hello")]


def test_a_part_need_not_be_form_data() -> None:
    assert parts(b"--xyzzy\r\nX: y\r\n\r\nhello\r\n--xyzzy--") == [(None, b"hello")]


@pytest.mark.parametrize(
    "preamble",
    [
        pytest.param(b"", id="none"),
        pytest.param(b"\r\n", id="empty line"),
        pytest.param(b"This is MIME.\r\n", id="a line"),
        pytest.param(b"--xyzz\r\n--xyzz\r\r\n", id="almost a boundary"),
        pytest.param(b"x" * 1000 + b"\r\n", id="long"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 10, 11, 10_000])
def test_a_preamble_is_passed_over(preamble: bytes, size: int) -> None:
    sent = preamble + NAMED + b"\r\nhello\r\n--xyzzy--"
    assert parts(*(sent[at : at + size] for at in range(0, len(sent), size))) == [("a", b"hello")]


@pytest.mark.parametrize("preamble", [b"x", b"\n", b"\r", b"--xyzz", b"x" * 1000], ids=len)
@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 10, 11, 10_000])
def test_a_first_boundary_begins_a_line(preamble: bytes, size: int) -> None:
    sent = preamble + NAMED + b"\r\nhello\r\n--xyzzy--"
    with pytest.raises(MalformedReport) as refused:
        parts(*(sent[at : at + size] for at in range(0, len(sent), size)))
    assert refused.value.reason == "invalid_payload_structure"


@pytest.mark.parametrize("sent", [b"", b"preamble", b"--xyzzy\r\n", NAMED + b"\r\nhello"], ids=len)
def test_a_body_has_an_end(sent: bytes) -> None:
    with pytest.raises(MalformedReport):
        parts(sent)


def test_the_private_parts_of_the_package_are_there_and_are_called() -> None:
    """One line of a header and one part at a time; and a length that is taken back does not count."""
    lines: list[bytes] = []
    segments: list[Any] = []
    limits: list[int] = []

    class Parser(multipart.PushMultipartParser):  # type: ignore[misc]
        _segment_limit: int

        def _on_segment_headerline(self, line: bytes) -> None:
            lines.append(line)
            super()._on_segment_headerline(line)

        def _create_segment(self, headerlist: list[tuple[str, str]]) -> Any:
            limits.append(self._segment_limit)
            self._segment_limit = -1
            segments.append(super()._create_segment(headerlist))
            return segments[-1]

    sent = NAMED + b" ; x=y\r\nContent-Length: 1\r\n\r\nhello\r\n"
    events = list(Parser(b"xyzzy").parse(sent + sent + b"--xyzzy--"))
    assert lines == [b'Content-Disposition: form-data; name="a"', b" ; x=y", b"Content-Length: 1"] * 2
    assert limits == [1, 1]
    assert events == [segments[0], b"hello", None, segments[1], b"hello", None]
