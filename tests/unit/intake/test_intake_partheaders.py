import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectord.errors import MalformedReport, UnsupportedReport
from collectord.intake.partheaders import Part, boundary_of, part_of, text_of
from tests.support.cases import for_each


@for_each(
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
        (b'multipart/form-data; boundary="xyzzy', b"xyzzy"),
    ],
)
def test_boundaries(content_type: bytes, boundary: bytes) -> None:
    assert boundary_of(content_type) == boundary


@for_each(
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


@for_each("content_type", [b"application/reports+json", b"Application/CSP-Report; charset=utf-8"])
def test_what_browsers_report_of_pages(content_type: bytes) -> None:
    with pytest.raises(UnsupportedReport) as refused:
        boundary_of(content_type)
    assert refused.value.reason == "reporting_api"


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


@for_each(
    ("header", "text"),
    [("plain", "plain"), ("", ""), ("Ã©", "é"), ("é", None), ("Ã", None), ("â\x82¬", "€")],
)
def test_text_of(header: str, text: str | None) -> None:
    assert text_of(header) == text


# ——— parts ———

FORM = b"\nContent-Disposition: form-data; "


@for_each(
    ("parameters", "name", "filename"),
    [
        (b'name="a"', "a", None),
        (b'name="a"; filename="b"', "a", "b"),
        (b'filename="b"; name="a"', "a", "b"),
        (b'name=""; filename=""', "", ""),
        (b"name=a", "a", None),
        (b"name=a;filename=b", "a", "b"),
        (b"NAME = a ; FileName = b", "a", "b"),
        (b"name=sentry[release]", "sentry[release]", None),
        (b"name=Foo Bar ; filename=a b.dmp", "Foo Bar", "a b.dmp"),
        (b"name=a=b; x", "a=b", None),
        (b"name='a'", "'a'", None),
        (b'name=a"b"c', 'a"b"c', None),
        (b'name="a;b"; filename="c; name=d"', "a;b", "c; name=d"),
        (b'name="a\\"b\\\\c"', 'a"b\\c', None),
        (b'name="a%22b%0D%0Ac%20%41"', 'a"b\r\nc%20%41', None),
        (b"name=a%22b", 'a"b', None),
        (b'name="a"; filename="C:\\new\\a.dmp"', "a", "C:\\new\\a.dmp"),
        (b'name="a', "a", None),
        (b'name="a\\', "a\\", None),
        (b'name="a";;; filename="b";', "a", "b"),
        (b'name="a"junk; filename="b"', "a", "b"),
        (b'name="caf\xc3\xa9"', "caf\xc3\xa9", None),
        (b"name=caf\xc3\xa0", "caf\xc3\xa0", None),
        (b'name="a"; name="b"', "b", None),
        (b"filename*=UTF-8''%e2%82%ac%20x.dmp", None, "\xe2\x82\xac x.dmp"),
        (b"filename*=iso-8859-1'en'%A3.dmp", None, "\xc2\xa3.dmp"),
        (b"filename*=\"UTF-8''a%20b\"", None, "a b"),
        (b"filename*=a%20b", None, "a b"),
        (b'filename*="a%20b"', None, "a b"),
        (b"filename=old; filename*=UTF-8''new", None, "new"),
        (b"name*=UTF-8''n; filename*0=\"a;\"; filename*1=b; filename*3=d", "n", "a;b"),
        (b"filename*0*=UTF-8''%e2; filename*1*=%82%ac; filename*2=.txt", None, "\xe2\x82\xac.txt"),
        (b"x=y", None, None),
        (b"name", None, None),
    ],
)
def test_names(parameters: bytes, name: str | None, filename: str | None) -> None:
    part = part_of(FORM + parameters)
    assert (part.name, part.filename) == (name, filename)


@for_each(
    ("head", "part"),
    [
        (b"", Part()),
        (b"\nX: y", Part()),
        (b"\ncontent-DISPOSITION :form-data; name=a\r", Part("a")),
        (FORM + b'name="a"\r\nContent-Type: text/plain\r', Part("a", content_type="text/plain")),
        (
            FORM + b'name="a"\nContent-Type:TEXT/Plain ; Charset="UTF-16"',
            Part("a", None, "text/plain", "UTF-16", whole_type='TEXT/Plain ; Charset="UTF-16"'),
        ),
        (FORM + b'name="a"\r\nContent-Type: \r', Part("a")),
        (FORM + b'name="a\rb"\r', Part("a")),
        (FORM + b'name="a"; filename="b\rc"\r', Part("a", "b")),
        (FORM + b'name="a"\r\nContent-Length: nonsense\r', Part("a")),
        (FORM + b'name="a"\nContent-Transfer-Encoding: Base64 \r', Part("a", transfer_encoding="base64")),
        (b"\nno colon" + FORM + b"name=a\nBad Name: 1", Part("a")),
        (b"\n continues nothing" + FORM + b"name=a", Part("a")),
        (FORM + b'\r\n\tname="a";\r\n filename="b\r\n c"\r', Part("a", "b c")),
        (FORM + b"name=a" + FORM + b"name=b", Part("a")),
        (b"\nX-Content-Disposition: form-data; name=b" + FORM + b"name=a", Part("a")),
        (b"\nContent-Type: x; name=b" + FORM + b"name=a", Part("a", content_type="x", whole_type="x; name=b")),
        (b'\nContent-Disposition: attachment; filename="a.dmp"', Part(filename="a.dmp")),
    ],
)
def test_headers(head: bytes, part: Part) -> None:
    assert part_of(head) == part


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r\n\\%"), min_size=1))
def test_any_name_can_be_quoted(name: str) -> None:
    quoted = name.replace('"', "%22").encode()
    assert text_of(part_of(FORM + b'name="' + quoted + b'"').name or "") == name
    escaped = name.replace('"', '\\"').encode()
    assert text_of(part_of(FORM + b'x=y; name="' + escaped + b'"').name or "") == name


@given(st.binary(max_size=60))
def test_any_header_can_be_read(header: bytes) -> None:
    assert part_of(b"\n" + header)
    assert part_of(FORM + header)
