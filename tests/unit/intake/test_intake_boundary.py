import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectord.errors import MalformedReport
from collectord.intake.formdata import boundary_of, text_of


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
