import json
import struct
from collections.abc import Sequence

import pytest

from collectord.dialects.documents import members_at, read_document, text_at
from collectord.dialects.msgpack import read_msgpack
from tests.support.cases import for_each
from tests.support.msgpackwriter import packed

EVENT = {
    "release": "App@1.0",
    "n": 7,
    "user": {"id": "u"},
    "tags": [["a", "b"], ["c", None]],
    "list": ["x", {"y": "z"}],
}
WRITTEN = {"json": json.dumps(EVENT).encode(), "msgpack": packed(EVENT)}


@for_each("kind", list(WRITTEN))
@for_each(
    ("path", "expected"),
    [
        ("release", "App@1.0"),
        ("n", "7"),
        ("user/id", "u"),
        ("user", '{"id": "u"}'),
        ("list/0", "x"),
        ("list/1/y", "z"),
        ("list/-1/y", "z"),
        ("list/-2", "x"),
        ("list/2", None),
        ("list/-3", None),
        ("list/x", None),
        ("list/²", None),
        ("list/99999999999999999999", None),
        ("user/id/x", None),
        ("missing", None),
        ("tags/1/1", None),
    ],
)
def test_what_is_at_a_path(kind: str, path: str, expected: str | None) -> None:
    assert text_at(read_document(kind, WRITTEN[kind]), path.split("/")) == expected


@for_each("kind", list(WRITTEN))
def test_all_members(kind: str) -> None:
    document = read_document(kind, WRITTEN[kind])
    assert list(members_at(document, ["user"])) == [("id", "u")]
    assert list(members_at(document, ["tags"])) == [("a", "b")]
    assert list(members_at(document, ["release"])) == []
    assert list(members_at(document, ["none"])) == []


@for_each(
    ("data", "expected"),
    [
        (b"\x05", 5),
        (b"\xff", -1),
        (b"\xcd\x01\x00", 256),
        (b"\xd1\xff\x00", -256),
        (b"\xca" + struct.pack(">f", 0.5), 0.5),
        (b"\xcb" + struct.pack(">d", 0.25), 0.25),
        (b"\xa2ab", "ab"),
        (b"\xd9\x02ab", "ab"),
        (b"\xc4\x02a\xff", "a\ufffd"),
        (b"\x92\x01\xc3", [1, True]),
        (b"\x81\xa1a\xc0", {"a": None}),
        (b"\x81\x01\x02", {"1": 2}),
        (b"\xd6\xff1234", None),  # a timestamp
        (b"\xc7\x02\x05ab", None),
        (b"\x01\x02", 1),  # the first value
    ],
)
def test_kinds_of_message_pack(data: bytes, expected: object) -> None:
    assert read_msgpack(data, 100) == expected


@for_each(
    "data",
    [
        b"",
        b"\xa5ab",
        b"\x92\x01",
        b"\xc1",
        b"\xdd\xff\xff\xff\xff" + bytes(200),
        b"\x91" * 200,
        b"\xdb\xff\xff\xff\xff",
        b"\xca\0",
    ],
)
def test_broken_message_pack(data: bytes) -> None:
    with pytest.raises(ValueError, match="it "):
        read_msgpack(data, 100)


XML = b"""\xef\xbb\xbf<?xml version="1.0" encoding="UTF-8"?>
<FGenericCrashContext><RuntimeProperties a="b">
  <GameName>UE4-App</GameName><Empty></Empty><Text>a &amp; b &#252; <![CDATA[<c>]]></Text><GameName>second</GameName>
</RuntimeProperties></FGenericCrashContext>\n\0"""


@for_each(
    "data",
    [
        XML,
        XML.decode("utf-8-sig").encode("utf-16"),
        b"\xfe\xff" + XML.decode("utf-8-sig").encode("utf-16-be"),
        XML.replace(b"UTF-8", b"zlib_codec"),
        XML.replace(b"UTF-8", b"idna"),
        XML.replace(b"UTF-8", b"none"),
    ],
)
def test_xml(data: bytes) -> None:
    document = read_document("xml", data)
    path = ["FGenericCrashContext", "RuntimeProperties"]
    assert list(members_at(document, path)) == [("GameName", "UE4-App"), ("Empty", ""), ("Text", "a & b \u00fc <c>")]


def test_xml_with_a_byte_that_is_no_text() -> None:
    assert text_at(read_document("xml", b"<a>\xff</a>"), ["a"]) == "\ufffd"


BOMB = '<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb">{}]><a>&b;</a>'


@for_each(
    ("kind", "data", "why"),
    [
        ("json", b"{", "Expecting"),
        ("json", b"\xff\xff", "decode"),
        ("json", b"[" * 5000, "too many"),
        ("json", b"[" + b"[]," * 20_000 + b"1]", "too many"),
        ("json", b"[" * 101 + b"]" * 101, "too many levels"),
        ("json", b'"' + b"x" * 1024 * 1024 + b'"', "more than 1048576 bytes"),
        ("xml", b"", "no XML"),
        ("xml", b"<a>", "no XML"),
        ("xml", b"<a>&b;</a>", "no XML"),
        ("xml", BOMB.format("").encode(), "DOCTYPE"),
        ("xml", BOMB.format("").encode("utf-16"), "DOCTYPE"),
        ("xml", b'<!DOCTYPE a [<!ATTLIST b c CDATA "">]><a><b/></a>', "DOCTYPE"),
        ("xml", b'<!DOCTYPE a [<!ENTITY % b SYSTEM "file:///etc/passwd">%b;]><a/>', "DOCTYPE"),
        ("xml", b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>', "DOCTYPE"),
        ("xml", b"<a>" + b"<b/>" * 20_000 + b"</a>", "too many"),
        ("xml", b"<a>" * 200, "too many"),
        ("xml", b"<a " + b"b=''" * 20_000 + b"/>", "too many"),
    ],
)
def test_what_can_not_be_read(kind: str, data: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_document(kind, data)


@for_each("path", [["a"], [""], []])
def test_nothing_is_in_what_is_no_mapping(path: Sequence[str]) -> None:
    assert list(members_at(7, path)) == []
