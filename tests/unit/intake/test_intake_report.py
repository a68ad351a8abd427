import json
import re
import tracemalloc
from collections.abc import Sequence
from hashlib import sha256
from itertools import permutations
from time import process_time

import pytest
from attrs import evolve

from collectord.errors import MalformedReport, TooLarge
from collectord.intake.budget import MemoryBudget
from collectord.intake.receiver import Limits
from collectord.model import Note, Payload
from tests.support.cases import for_each
from tests.unit.intake.parts import (
    LIMITS,
    annotation,
    body,
    comparable,
    dump,
    extra,
    new_receiver,
    outcome,
    part,
    receive,
    refusal_of,
    result_of,
)


def malformed(reason: str) -> tuple[type[MalformedReport], str]:
    return MalformedReport, reason


def test_a_report() -> None:
    minidump = dump(b"upload_file_minidump", b"MDMP\0")
    sent = body(annotation(b"ProductName", b"Fenix"), annotation(b"Empty", b""), minidump)
    received = receive([sent])
    assert received.report.annotations == {"ProductName": "Fenix", "Empty": ""}
    assert received.dumps == [("upload_file_minidump", 5, sha256(b"MDMP\0").hexdigest(), b"MDMP\0")]
    assert received.notes == []
    assert received.report.payload == Payload(structure="multipart", compressed=False, size=len(sent), user_agent="")


def test_parts_in_any_order() -> None:
    parts = [annotation(b"a", b"1"), dump(b"d", b"one"), annotation(b"b", b"2"), dump(b"e", b"two")]
    forwards, backwards = receive([body(*parts)]), receive([body(*reversed(parts))])
    assert forwards.report.annotations == backwards.report.annotations == {"a": "1", "b": "2"}
    assert forwards.contents == backwards.contents == {"d": b"one", "e": b"two"}


def test_values_keep_their_line_ends() -> None:
    value = b"\r\nline\r\n\r\n--xyzz\nlast\r\n"
    assert receive([body(annotation(b"a", value), dump(b"d", value))]).contents == {"d": value}
    assert receive([body(annotation(b"a", value))]).report.annotations == {"a": value.decode()}


@for_each(
    "content",
    [
        b"",
        b"1",
        b"MDMP",
        b"MDM",
        b"a\0b",
        b"\x01\0",
        b"\x1b[0m",
        b"\xc3\xa9",
        b"\xff\0",
        b"\xff\xfea\0",
        b"9" * 300,
        b"a\n--xyzzy",
    ],
    ids=repr,
)
@for_each("name", [b"a", b"version", b"extra", b"_charset_", b"upload_file_minidump_x", b"a b", b"a%22", b"\xc3\xa9"])
def test_a_part_that_comes_at_once_is_what_it_is_in_pieces(name: bytes, content: bytes) -> None:
    limits = evolve(LIMITS, parts=3, annotations=200)
    sent = body(annotation(name, content), annotation(b"b", b"2"), annotation(name, content), annotation(b"c", b"3"))
    assert outcome([sent], limits=limits) == outcome([sent[at : at + 1] for at in range(len(sent))], limits=limits)


def test_the_last_of_an_annotation_counts() -> None:
    received = receive([body(annotation(b"a", b"1"), annotation(b"b", b"2"), annotation(b"a", b"3"))])
    assert received.report.annotations == {"a": "3", "b": "2"}


def test_preamble_and_epilogue_are_passed_over() -> None:
    sent = b"This is MIME.\r\n" + body(annotation(b"a", b"1")) + b"epilogue\r\n--xyzzy--\r\n"
    assert receive([sent]).report.annotations == {"a": "1"}


@for_each(
    "headers",
    [
        [b'Content-Disposition: form-data; name="a"'],
        [b'content-disposition: FORM-DATA; NAME="a"'],
        [b"Content-Disposition: form-data; name=a"],
        [b"Content-Type: text/plain; charset=utf-8", b'Content-Disposition: form-data; name="a"'],
        [b'CONTENT-DISPOSITION: form-data;name="a"', b"content-type: TEXT/PLAIN"],
        [b'Content-Disposition: form-data; name="a"; filename=""'],
        [b"Content-Disposition: form-data;", b' name="a"'],
        [b'Content-Disposition: attachment; name="a"'],
        [b'Content-Disposition: form-data; x=y; name="a"', b"X-Other: 1"],
        [b'Content-Disposition: form-data; name="a"', b"Content-Length: 5"],
        [b'Content-Disposition: form-data; name="a"', b"Content-Length: 3"],
        [b'Content-Disposition: form-data; name="a"', b"content-length: 500"],
        [b'Content-Disposition: form-data; name="a"', b"Content-Transfer-Encoding: binary"],
    ],
)
def test_annotations(headers: list[bytes]) -> None:
    received = receive([body(part(headers, b"value"))])
    assert received.report.annotations == {"a": "value"}
    assert received.dumps == []
    assert received.notes == []


@for_each(
    "headers",
    [
        [b'Content-Disposition: form-data; name="d"; filename="x"'],
        [b'Content-Disposition: form-data; name="d"; filename="x"', b"Content-Type: text/plain"],
        [b'Content-Disposition: form-data; name="d"', b"Content-Type: application/octet-stream"],
        [b"content-disposition: form-data; filename=x; name=d", b"content-type: application/vnd.tcpdump.pcap"],
        [b"Content-Type: application/json", b'Content-Disposition: form-data; name="d"; filename="d.json"'],
        [b'Content-Disposition: form-data; name="d"; filename="C:\\\\dumps\\\\x.dmp"', b"Content-Length: 2"],
        [b'Content-Disposition: form-data; name="d"; filename=""', b"Content-Type: text/html"],
    ],
)
def test_dumps(headers: list[bytes]) -> None:
    received = receive([body(annotation(b"a"), part(headers, b"{}\r\n"))])
    assert received.report.annotations == {"a": "value"}
    assert received.contents == {"d": b"{}\r\n"}


def test_extra_without_its_type_is_no_json() -> None:
    received = receive([body(part(b'Content-Disposition: form-data; name="extra"', b'{"a": "1"}'))])
    assert received.report.annotations == {"extra": '{"a": "1"}'}
    assert received.report.payload.structure == "multipart"


# ——— extra ———


def test_extra() -> None:
    received = receive([body(extra(b'{"ProductName": "Firefox", "Empty": ""}'), dump(b"d"))])
    assert received.report.annotations == {"ProductName": "Firefox", "Empty": ""}
    assert received.report.payload.structure == "json"
    assert received.notes == []
    assert received.contents == {"d": b"MDMP"}


@for_each("extra_first", [True, False])
def test_extra_wins(extra_first: bool) -> None:
    parts = [extra(b'{"a": "extra", "c": "extra"}'), annotation(b"a", b"part"), annotation(b"b", b"part")]
    received = receive([body(*(parts if extra_first else reversed(parts)))])
    assert received.report.annotations == {"a": "extra", "b": "part", "c": "extra"}
    assert received.notes == ["a: came as a part, too, with another value; that in the JSON counts"]
    assert received.report.payload.structure == "json"


@for_each(
    ("sent", "stored"),
    [
        ("1", "1"),
        ("-1.5e3", "-1.5e3"),
        ("true", "true"),
        ("null", "null"),
        ("[]", "[]"),
        ('["é", {"a" :1}]', '["é", {"a" :1}]'),
        ('{"a": [null]}', '{"a": [null]}'),
        ('""', ""),
        ('"é€😀"', "é€😀"),
        ('"a\\u0000b"', "ab"),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("9" * 4300, "9" * 4300),
        ("9" * 40_000, "9" * 40_000),
        ("1e999", "1e999"),
        ("1.10", "1.10"),
        ("-0", "-0"),
        ('{"k":1,"k":2}', '{"k":1,"k":2}'),
        ("[" * 50 + "]" * 50, "[" * 50 + "]" * 50),
    ],
)
def test_values_of_extra(sent: str, stored: str) -> None:
    received = receive([body(extra(b'{"a": ' + sent.encode() + b"}"))])
    assert received.report.annotations == {"a": stored}
    assert json.loads(json.dumps(received.report.annotations)) == received.report.annotations


@for_each("name", [b"extra", b"event"])
def test_json_that_is_cut_off(name: bytes) -> None:
    json_part = part(
        [b'Content-Disposition: form-data; name="%s"' % name, b"Content-Type: application/json; charset=utf-8"],
        b'{"a": "1", "n": 1.10, "b": "cut o',
    )
    received = receive([body(json_part, dump(b"d"))])
    assert received.report.annotations == {"a": "1", "n": "1.10", name.decode(): '"b": "cut o'}
    assert received.contents == {"d": b"MDMP"}
    assert [note.kind for note in received.report.notes] == ["repaired"]


def test_the_limits_of_json() -> None:
    items, levels = b'{"a": [1, 2, 3, 4]}', b'{"b": "x", "c": [[1]]}'
    sent = [body(extra(items), extra(levels))]
    within, beyond = evolve(LIMITS, items=5, levels=3), evolve(LIMITS, items=4, levels=2)
    assert receive(sent, limits=within).report.annotations == {"a": "[1, 2, 3, 4]", "b": "x", "c": "[[1]]"}
    received = receive(sent, limits=beyond)
    assert received.report.annotations == {"b": "x", "extra": items.decode(), "extra_2": '"c": [[1]]}'}


@for_each(
    "sent",
    ["{}", ' \n{ "a" : 1 , "b" : [ 1 , 2 ] , "a" : "last" } \t', '{"a":{},"":1,"\\u0041":-0.0}'],
)
@for_each("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32-be"])
def test_extra_however_it_is_written(sent: str, encoding: str) -> None:
    parsed = {name or "unnamed": value for name, value in json.loads(sent).items()}
    found = receive([body(annotation(b"z"), extra(sent.encode(encoding)))]).report.annotations
    assert sorted(found) == sorted(["z", *parsed])
    for name, value in parsed.items():
        assert found[name] == value if isinstance(value, str) else json.loads(found[name]) == value


@for_each("sent", [b"[]", b'"text"', b"1", b"null", b"true", b'[{"a": 1}]', b"{'a': 1}", b"\xff"])
def test_extra_is_no_object(sent: bytes) -> None:
    received = receive([body(annotation(b"a"), extra(sent))])
    assert received.report.annotations == {"a": "value", "extra": sent.decode(errors="replace")}
    assert received.notes[-1].endswith("what could not be read is kept as text, in extra")
    assert receive([body(dump(b"d"), extra(sent))]).report.annotations == {"extra": sent.decode(errors="replace")}


@for_each("parts", [[dump(b"d")], [extra(b"{}"), dump(b"d")], [extra(b""), dump(b"d")]])
def test_a_dump_alone(parts: list[bytes]) -> None:
    received = receive([body(*parts)])
    assert (received.report.annotations, received.contents) == ({}, {"d": b"MDMP"})
    assert Note("repaired", "the report came without annotations") in received.report.notes


@for_each(
    ("parts", "reason"),
    [
        ([], "no_annotations"),
        ([extra(b"{}")], "no_annotations"),
        ([extra(b"")], "no_annotations"),
        ([extra(b"{")], "invalid_json"),
        ([extra(b"[]")], "invalid_json_value"),
    ],
)
def test_nothing_that_can_be_understood(parts: list[bytes], reason: str) -> None:
    assert refusal_of([body(*parts)]) == malformed(reason)
    assert receive([body(*parts)], query=b"a=b").report.annotations["a"] == "b"


def test_an_empty_extra_leaves_the_parts() -> None:
    assert receive([body(extra(b"{}"), annotation(b"a", b"1"))]).report.annotations == {"a": "1"}


# ——— text ———


def test_nul_is_stripped() -> None:
    received = receive([body(annotation(b"a\0b", b"\0v\0\0w\0"), annotation(b"\0", b"nameless"))])
    assert received.report.annotations == {"ab": "vw", "unnamed": "nameless"}
    assert received.notes == [
        "ab: NUL characters in its name are left out",
        "a part without a name: NUL characters in its name are left out",
        "ab: its NUL characters are left out",
        "unnamed: this name was given to an annotation that has none",
    ]


@for_each(
    ("charset", "sent"),
    [(b"iso-8859-1", b"caf\xe9"), (b'"Windows-1252"', b"caf\xe9"), (b"utf-16", "café".encode("utf-16"))],
)
def test_the_charset_of_a_part(charset: bytes, sent: bytes) -> None:
    headers = [b'Content-Disposition: form-data; name="a"', b"Content-Type: text/plain; charset=" + charset]
    received = receive([body(part(headers, sent))])
    assert (received.report.annotations, received.notes) == ({"a": "café"}, [])


def test_text_in_a_transfer_encoding() -> None:
    def sent(name: bytes, content: bytes, encoding: bytes, *headers: bytes) -> bytes:
        disposition = b'Content-Disposition: form-data; name="%s"' % name
        return part([disposition, b"Content-Transfer-Encoding: " + encoding, *headers], content)

    json_type = b"Content-Type: application/json"
    received = receive(
        [
            body(
                sent(b"a", b"Y2Fmw6k=", b"base64"),
                sent(b"b", b"caf=E9=\r\n!", b"quoted-printable", b"Content-Type: text/plain; charset=latin1"),
                sent(b"c", b"plain", b"8bit"),
                sent(b"d", b"x", b"x-own"),
                sent(b"event", b"eyJlIjogMX0=", b"base64", json_type),
                sent(b"f", b"TURNUHg=", b"BASE64"),
            )
        ]
    )
    assert received.report.annotations == {"a": "café", "b": "café!", "c": "plain", "d": "x", "e": "1"}
    assert received.contents == {"f": b"MDMPx"}
    assert received.notes == [
        "d: its transfer encoding is unknown: kept as it was sent",
        "annotations came both as parts and as JSON",
    ]


def test_utf16_by_the_charset_of_the_form() -> None:
    sent = "é€".encode("utf-16-le")
    received = receive([body(annotation(b"_charset_", b"utf-16"), annotation(b"a", sent), annotation(b"d", b"MDMP\0"))])
    assert received.report.annotations == {"_charset_": "utf-16", "a": "é€"}
    assert received.contents == {"d": b"MDMP\0"}


def test_values_that_are_not_utf8() -> None:
    received = receive([body(annotation(b"a", b"caf\xe9!"), annotation(b"c", "é".encode()))])
    assert received.report.annotations == {"a": "caf\ufffd!", "c": "é"}
    assert received.report.notes == [Note("replaced", "a: not all of it is UTF-8; U+FFFD stands for the rest")]


# ——— the query of the URL ———


def test_the_query_completes_the_annotations() -> None:
    query = b"product=App&version=1.0&a=other&b=&guid=%7bA+B%7D"
    received = receive([body(annotation(b"a", b"1"), dump(b"d"))], query=query)
    assert received.report.annotations == {
        "a": "1",
        "product": "App",
        "version": "1.0",
        "b": "",
        "guid": "{A B}",
    }
    assert received.notes == ["a: came with another value in the query of the URL, which is left out"]
    assert receive([body(dump(b"d"))], query=b"a=b").notes == []


def test_the_query_is_limited_as_annotations_are() -> None:
    fields = b"&".join(b"%d=x" % n for n in range(LIMITS.parts + 5))
    received = receive([body(annotation(b"a", b"1"))], query=fields)
    assert len(received.report.annotations) == 1 + LIMITS.parts
    assert received.notes == ["5 fields of the query of the URL are left out: there are too many"]
    received = receive([body(annotation(b"abc", b"1234567"))], query=b"d=e&fg=h&i=j", limits=annotations_of(13))
    assert received.report.annotations == {"abc": "1234567", "d": "e"}
    assert received.notes == ["2 fields of the query of the URL are left out: there are too many"]


def test_names_that_are_not_utf8() -> None:
    received = receive([body(annotation(b"\xffa", b"1"), dump(b"caf\xe9", b"2"), annotation("é€".encode(), b"3"))])
    assert received.report.annotations == {"ÿa": "1", "é€": "3"}
    assert received.contents == {"caf": b"2"}
    assert received.report.notes == [
        Note("repaired", "ÿa: this name was not UTF-8, and is read as latin-1"),
        Note("repaired", "café: this name was not UTF-8, and is read as latin-1"),
        Note("renamed", "the file 'café' is called caf"),
    ]


def test_parts_without_a_name() -> None:
    received = receive(
        [
            body(
                annotation(b"a"),
                part(b"Content-Disposition: form-data", b"1"),
                part(b'Content-Disposition: form-data; name=""', b"2"),
                part(b'Content-Disposition: attachment; filename="a log.txt"', b"3"),
                part(b"Content-Type: application/octet-stream", b"4"),
                part([], b"5"),
                part([], b"MDMP"),
            )
        ]
    )
    assert received.report.annotations == {"a": "value", "unnamed": "1", "unnamed_2": "2", "unnamed_3": "5"}
    assert received.contents == {"alog": b"3", "attachment": b"4", "attachment_2": b"MDMP"}
    assert received.notes == [
        "the file 'a log.txt' is called alog",
        "the file '' is called attachment",
        "the file '' is called attachment_2",
        *(
            f"{name}: this name was given to an annotation that has none"
            for name in ("unnamed", "unnamed_2", "unnamed_3")
        ),
    ]


@for_each(
    ("sent", "name"),
    [
        (b'"raw \xc3\xa9"', "raw é"),
        (b'"a%22b%0D%0Ac"', 'a"b\r\nc'),
        (b'"100%25"', "100%25"),
        (b'"a\\"b"', 'a"b'),
        (b'"a\\"b\\\\c"', 'a"b\\c'),
        (b'"semi;colon"', "semi;colon"),
        (b"token", "token"),
    ],
)
def test_odd_names(sent: bytes, name: str) -> None:
    received = receive([body(part(b"Content-Disposition: form-data; name=" + sent, b"1"))])
    assert received.report.annotations == {name: "1"}
    odd = part(b"Content-Disposition: form-data; filename=x; name=" + sent, b"1")
    received = receive([body(annotation(b"a"), odd)])
    assert received.contents == {"".join(c for c in name if c.isascii() and (c.isalnum() or c == "_")): b"1"}


# ——— the names of dumps ———


@for_each(
    ("sent", "name"),
    [
        (b"upload_file_minidump", "upload_file_minidump"),
        (b"upload_file_minidump_browser", "upload_file_minidump_browser"),
        (b"memory_report", "memory_report"),
        (b"../../etc/passwd", "etcpasswd"),
        (b"..", "attachment"),
        (b"/", "attachment"),
        ("éé".encode(), "attachment"),
        (b"a.b-c d", "abcd"),
        (b"x" * 31, "x" * 30),
        (b"dump_namesx", "dump_namesx"),
        (b"Dump", "Dump"),
        (b"d\0d", "dd"),
    ],
)
def test_names_of_dumps(sent: bytes, name: str) -> None:
    assert receive([body(annotation(b"a"), dump(sent))]).contents == {name: b"MDMP"}


@for_each("name", [b"dump_names", b"raw_crash", b"processed_crash", b"dump", b"d.u.m.p", b"/raw_crash"])
def test_reserved_names(name: bytes) -> None:
    received = receive([body(annotation(b"a"), dump(name))])
    given = re.sub(rb"\W", b"", name).decode() + "_file"
    assert received.contents == {given: b"MDMP"}
    assert received.report.notes == [Note("renamed", f"the file {name.decode()!r} is called {given}")]
    assert receive([body(annotation(name))]).report.annotations == {name.decode(): "value"}


def test_a_dump_name_that_comes_again() -> None:
    received = receive([body(annotation(b"a"), dump(b"d", b"1"), dump(b"d", b"2"), dump(b"/d", b"3"))])
    assert received.contents == {"d": b"1", "d_2": b"2", "d_3": b"3"}
    assert received.notes == ["the file 'd' is called d_2", "the file '/d' is called d_3"]


def test_a_long_dump_name_that_comes_again() -> None:
    received = receive([body(annotation(b"a"), *(dump(b"x" * 30 + bytes([n]), b"%d" % n) for n in range(65, 76)))])
    names = ["x" * 30, *(f"{'x' * 28}_{n}" for n in range(2, 10)), f"{'x' * 27}_10", f"{'x' * 27}_11"]
    assert list(received.contents) == names
    assert max(map(len, names)) == 30
    assert received.notes == [
        f"the file {'x' * 30 + chr(n)!r} is called {name}" for n, name in zip(range(65, 76), names, strict=True)
    ]


def test_a_given_name_is_never_given_twice() -> None:
    received = receive([body(annotation(b"a"), *(dump(name) for name in (b"d_2", b"d", b"d", b"d_2", b"d")))])
    assert list(received.contents) == ["d_2", "d", "d_3", "d_2_2", "d_4"]


# ——— the structure ———


@for_each("sent", [b"garbage", b"\r\n", b"--xyzzy", body(annotation(b"a")).replace(b"xyzzy", b"other")], ids=repr)
def test_the_structure_is_broken(sent: bytes) -> None:
    assert refusal_of([sent]) == malformed("invalid_payload_structure")


def test_what_was_put_right_is_noted() -> None:
    received = receive([b"MIME\r\n" + annotation(b"a")])
    assert received.report.annotations == {"a": "value"}
    assert [(note.kind, note.text) for note in received.report.notes] == [
        ("repaired", "the body ends without its last boundary; its end may be missing"),
        ("left_out", "bytes before the first or after the last boundary are left out: 6"),
    ]


def test_a_dump_without_the_last_boundary() -> None:
    received = receive([annotation(b"a") + dump(b"d", b"MDMP\0")])
    assert received.contents == {"d": b"MDMP\0"}


def test_of_too_many_parts_the_first_and_the_minidump_are_kept() -> None:
    twenty = [*(annotation(b"a%d" % n) for n in range(19)), dump(b"d")]
    assert receive([body(*twenty)]).notes == []
    received = receive([body(*twenty, dump(b"e"), annotation(b"b"), dump(b"upload_file_minidump"), dump(b"f"))])
    assert len(received.report.annotations) == 19
    assert received.contents == {"d": b"MDMP", "upload_file_minidump": b"MDMP"}
    assert received.report.notes == [
        Note("left_out", "there are 24 parts; after 20 only the minidump is kept, and these are left out: e, b, f")
    ]


def test_beyond_too_many_parts_a_minidump_is_known_by_its_bytes() -> None:
    twenty = [annotation(b"a%d" % n) for n in range(20)]
    base64 = part([b'Content-Disposition: form-data; name="c"', b"Content-Transfer-Encoding: base64"], b"TURNUDM=")
    not_base64 = part([b'Content-Disposition: form-data; name="d"', b"Content-Transfer-Encoding: base64"], b"?")
    named = dump(b"upload_file_minidump", b"MDMP4")
    received = receive([body(*twenty, dump(b"\xe9", b"log"), not_base64, base64, dump(b"e"), named, named)])
    assert received.contents == {"c": b"MDMP3", "upload_file_minidump": b"MDMP4"}
    assert received.notes == [
        "there are 26 parts; after 20 only the minidump is kept, and these are left out: é, d, e, upload_file_minidump"
    ]
    received = receive([body(dump(b"c"), *twenty[1:], dump(b"d"), named)])
    assert received.contents == {"c": b"MDMP", "upload_file_minidump": b"MDMP4"}


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 50, 4000, 1_000_000])
@pytest.mark.parametrize("last", [b"--xyzzy--\r\n", b""], ids=["last boundary", "no last boundary"])
def test_of_many_times_too_many_parts_the_minidump_is_kept(last: bytes, size: int) -> None:
    """It is known by its name then, and by nothing else."""
    many, other = annotation(b"b") * 300, dump(b"other") + annotation(b"c", b"upload_file_minidump" * 200)
    minidump = dump(b"upload_file_minidump", b"MDMP of the name upload_file_minidump\r\n--xyzz")
    sent = annotation(b"a") + many + other + many + minidump + many + minidump + last + b"upload_file_minidump"
    received = receive([sent[at : at + size] for at in range(0, len(sent), size)])
    assert received.report.annotations == {"a": "value", "b": "value"}
    assert received.contents == {"upload_file_minidump": b"MDMP of the name upload_file_minidump\r\n--xyzz"}
    note, *others = received.notes[::-1]
    assert note == (
        "there are 204 parts or more; after 20 only the minidump is kept, and these are left out: "
        + ", ".join(["b"] * 20)
        + " …"
    )
    assert [other for other in others if "without its last boundary" in other] == (
        [] if last else ["the body ends without its last boundary; its end may be missing"]
    )


@for_each("size", [1, 50, 4000, 1_000_000])
@for_each(("before", "is_seen"), [(900, True), (1000, False)])
def test_beyond_that_the_name_is_seen_if_it_comes_soon(before: int, is_seen: bool, size: int) -> None:
    late = part([b"X: " + b"y" * before, b'Content-Disposition: form-data; name="upload_file_minidump"'], b"MDMP")
    sent = body(annotation(b"a") * 201, late)
    received = receive([sent[at : at + size] for at in range(0, len(sent), size)])
    assert bool(received.contents) == is_seen


def test_names_like_the_minidumps_are_looked_at_so_often() -> None:
    like = annotation(b"upload_file_minidump.")
    minidump = dump(b"upload_file_minidump")
    assert set(receive([body(annotation(b"a") * 200, like * 199, minidump)]).contents) == {"upload_file_minidump"}
    assert set(receive([body(annotation(b"a") * 200, like * 200, minidump)]).contents) == set()


def annotations_of(size: int) -> Limits:
    return Limits(read=LIMITS.read, body=LIMITS.body, parts=LIMITS.parts, annotations=size)


def test_annotations_that_are_too_large_are_cut() -> None:
    parts = [annotation(b"ab", b"c" * 100), annotation(b"de", "é".encode() * 60), annotation(b"f", b"g")]
    fits = receive([body(*parts)], limits=annotations_of(226))
    assert fits.report.annotations == {"ab": "c" * 100, "de": "é" * 60, "f": "g"}
    assert fits.notes == []
    cut = receive([body(*parts)], limits=annotations_of(201))
    assert cut.report.annotations == {"ab": "c" * 100, "de": "é" * 48}
    assert cut.report.notes == [
        Note("cut", "de: cut after 97 bytes; 23 more are left out"),
        Note("left_out", "1 annotations are left out, since all together are too large: f"),
    ]


def test_an_annotation_whose_name_has_no_room_leaves_room_for_others() -> None:
    parts = [annotation(b"n" * 101), annotation(b"b", b"x" * 90), annotation(b"n" * 20), annotation(b"c", b"y" * 8)]
    received = receive([body(*parts)], limits=annotations_of(100))
    assert received.report.annotations == {"b": "x" * 90, "c": "y" * 8}
    assert received.notes == [f"2 annotations are left out, since all together are too large: {'n' * 100}…, {'n' * 20}"]


def test_the_names_of_the_first_annotations_that_are_left_out_are_noted() -> None:
    limits = evolve(annotations_of(1), parts=30)
    received = receive(
        [body(annotation(b"a", b""), *(annotation(b"b%d" % n) for n in range(25)), dump(b"d"))], limits=limits
    )
    names = ", ".join(f"b{n}" for n in range(20))
    assert received.notes == [f"25 annotations are left out, since all together are too large: {names} …"]


def test_a_minidump_without_file_name_and_type_is_kept_though_there_is_no_room_for_annotations() -> None:
    minidump = b"MDMP" + bytes(1000)
    nameless = part(b'Content-Disposition: form-data; name="upload_file_minidump"', minidump)
    received = receive([body(annotation(b"a", b"x" * 100), nameless)], limits=annotations_of(50))
    assert received.contents == {"upload_file_minidump": minidump}


def test_names_count_in_bytes() -> None:
    euro = "€" * 10
    sent = body(annotation(b"a", b""), annotation(euro.encode(), b""))
    assert receive([sent], limits=annotations_of(31)).notes == []
    assert receive([sent], limits=annotations_of(30)).notes == [
        f"1 annotations are left out, since all together are too large: {euro}"
    ]


@pytest.mark.slow
def test_an_annotation_in_tiny_pieces_costs_little_memory() -> None:
    value = bytes(range(32, 127)) * 600
    sent = body(annotation(b"a", value))
    receiver = new_receiver(limits=annotations_of(1_000_000))
    tracemalloc.start()
    try:
        for at in range(0, len(sent), 2):
            receiver.received(sent[at : at + 2])
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert result_of(receiver.report()).annotations == {"a": value.decode()}
    assert kept < 3 * len(value)


def test_a_long_name_of_a_charset_costs_no_memory() -> None:
    receiver = new_receiver()
    tracemalloc.start()
    try:
        for n in range(LIMITS.parts):
            disposition = b'Content-Disposition: form-data; name="a%d"' % n
            receiver.received(part([disposition, b"Content-Type: text/plain; charset=" + b"x" * 30_000], b"v"))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 100_000
    assert len(result_of(receiver.report()).annotations) == LIMITS.parts


# ——— which part is a file ———


@for_each(
    "headers",
    [[], [b"Content-Type: text/plain"], [b"Content-Type: text/plain; charset=utf-16"]],
    ids=["no type", "text", "a charset"],
)
@for_each(
    "content",
    [b"MDMP\x93\xa7\0\0\xff\xfe" * 50, b"MDMP\0\0\1\0plain\0text\0", b"MDMP"],
    ids=["binary", "UTF-8", "nothing more"],
)
def test_what_begins_as_a_minidump_is_a_dump(headers: list[bytes], content: bytes) -> None:
    named = b'Content-Disposition: form-data; name="upload_file_minidump"'
    sent = body(annotation(b"a"), part([named, *headers], content))
    for pieces in ([sent], [sent[at : at + 1] for at in range(len(sent))]):
        received = receive(pieces)
        assert received.contents == {"upload_file_minidump": content}
        assert received.notes == []


@for_each(
    ("content", "binary"),
    [
        (b"", False),
        (b"plain \t\r\n\x1b[1m", False),
        ("é€😀".encode(), False),
        ("é".encode("latin-1"), False),
        (b"ends with NUL\0", False),
        (b"\1 one control character", False),
        ("é".encode("utf-16"), False),
        (b"\x7fELF\2\1\1\0", True),
        (b"\x89PNG\r\n\x1a\n", True),
        (b"\0\1\0\2", True),
        (b"\xff\0", True),
        (b"\xff\xfe\0\xdc\1", True),
    ],
)
def test_bytes_that_are_no_text_are_a_file(content: bytes, binary: bool) -> None:
    received = receive([body(annotation(b"a"), part(b'Content-Disposition: form-data; name="b"', content))])
    assert received.contents == ({"b": content} if binary else {})


@for_each(
    "content_type",
    [b"text/plain; charset=utf-8", b"text/plain; charset=latin-1", b"text/plain; charset=x-own", b"application/json"],
)
def test_bytes_that_are_no_text_are_a_file_whatever_is_said_of_them(content_type: bytes) -> None:
    headers = [b'Content-Disposition: form-data; name="b"', b"Content-Type: " + content_type]
    content = b"\x1f\x8b\x08\0\xff"
    received = receive([body(annotation(b"a"), part(headers, content))])
    assert (received.contents, received.notes) == ({"b": content}, [])


@for_each("content", [b"\0" * 100, b"\xff" * 100, b"PMDM\0", b"\1"], ids=["zeros", "0xff", "another order", "a byte"])
def test_damaged_bytes_of_what_is_called_as_the_minidump_are_a_file(content: bytes) -> None:
    sent = part(b'Content-Disposition: form-data; name="upload_file_minidump"', content)
    received = receive([body(annotation(b"a"), sent)])
    assert (received.contents, received.notes) == ({"upload_file_minidump": content}, [])


@for_each("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32-be"])
def test_json_with_control_characters_is_text_in_any_encoding(encoding: str) -> None:
    headers = [b'Content-Disposition: form-data; name="b"', b"Content-Type: application/json"]
    received = receive([body(part(headers, '{"a": "\1\u0101\u01ff"}'.encode(encoding)))])
    assert received.report.annotations == {"a": "\1\u0101\u01ff"}


def test_a_large_file_without_file_name_and_type_is_kept() -> None:
    content = b"\x7fELF\2\1\1\0" + bytes(range(256)) * 1000
    sent = body(annotation(b"a"), part(b'Content-Disposition: form-data; name="core"', content), annotation(b"b"))
    budget = MemoryBudget(limit=1_000_000)
    received = receive([sent])
    assert received.contents == {"core": content}
    assert received.report.annotations == {"a": "value", "b": "value"}
    assert budget.annotations == 0


def test_how_the_client_called_a_file_is_kept() -> None:
    received = receive(
        [
            body(
                annotation(b"a"),
                dump(b"d"),
                part(
                    [
                        b'Content-Disposition: form-data; name="e"; filename="caf\xc3\xa9.log"',
                        b"Content-Type: Text/Plain; charset=utf-16;\r\n title=\xc3\xa9",
                    ]
                ),
                part([b'Content-Disposition: form-data; name="f"', b"Content-Type: application\0/x"]),
                part(b'Content-Disposition: form-data; name="g"; filename="' + b"x" * 300 + b'"'),
            )
        ]
    )
    assert [(dump.name, dump.filename, dump.content_type) for dump in received.report.dumps] == [
        ("d", "minidump.dmp", "application/octet-stream"),
        ("e", "café.log", "Text/Plain; charset=utf-16; title=é"),
        ("f", None, "application/x"),
        ("g", "x" * 255, None),
    ]
    assert received.report.notes == [Note("cut", "g: its file name or type is cut after 255 characters")]


# ——— too many bytes ———


def files_of(size: int) -> Limits:
    return evolve(LIMITS, body=size)


def test_the_largest_attachments_are_left_out() -> None:
    parts = [
        dump(b"a", b"x" * 300),
        dump(b"b", b"x" * 500),
        dump(b"upload_file_minidump", b"x" * 900),
        dump(b"c", b"xy"),
    ]
    assert receive([body(annotation(b"a"), *parts)], limits=files_of(1702)).notes == []
    for order in (parts, parts[::-1], parts[2:] + parts[:2]):
        received = receive([body(annotation(b"a"), *order)], limits=files_of(1701))
        assert set(received.contents) == {"a", "upload_file_minidump", "c"}
        assert received.report.notes == [Note("left_out", "b: 500 bytes, left out: the report is too large")]


def test_any_split_of_a_report_that_is_too_large() -> None:
    parts = [dump(b"%d" % n, b"x" * n * 10) for n in (5, 1, 9, 3)] + [dump(b"m", b"MDMP" + b"x" * 100)]
    sent = body(annotation(b"a"), *parts)
    whole = receive([sent], limits=files_of(200))
    assert set(whole.contents) == {"1", "3", "5", "m"}
    assert comparable(receive([sent[at : at + 1] for at in range(len(sent))], limits=files_of(200))) == comparable(
        whole
    )


def test_what_is_left_out_does_not_depend_on_how_the_bytes_come() -> None:
    sent = body(annotation(b"a"), dump(b"log", b"x" * 600), dump(b"later", b"y" * 700))
    for size in (1, 30, 1000, len(sent)):
        received = receive([sent[at : at + size] for at in range(0, len(sent), size)], limits=files_of(1000))
        assert received.contents == {"log": b"x" * 600}
        assert received.notes == ["later: 700 bytes, left out: the report is too large"]


@pytest.mark.slow
@pytest.mark.parametrize("minidump", [b"upload_file_minidump", b"m"])
def test_what_is_left_out_does_not_depend_on_the_order_of_the_files(minidump: bytes) -> None:
    files = [dump(b"%d" % size, b"x" * size) for size in (900, 650, 120, 110)]
    files.append(dump(minidump, b"MDMP" + b"x" * 96))
    for order in permutations(files):
        for size in (7, 5000):
            sent = body(annotation(b"a"), *order)
            received = receive([sent[at : at + size] for at in range(0, len(sent), size)], limits=files_of(1000))
            assert set(received.contents) == {minidump.decode(), "650", "120", "110"}
            assert received.notes == ["900: 900 bytes, left out: the report is too large"]


def test_while_it_is_decided_what_is_left_out_no_more_than_twice_the_limit_is_held() -> None:
    budget = MemoryBudget(limit=10_000_000)
    receiver = new_receiver(limits=files_of(1000), budget=budget)
    most = 0
    for size in (990, 980, 970, 500, 1, 990, 2000):
        sent = dump(b"d", b"x" * size)
        for at in range(len(sent)):
            receiver.received(sent[at : at + 1])
            most = max(most, budget.used)
    receiver.received(body())
    assert [dump.size for dump in result_of(receiver.report()).dumps] == [500, 1]
    assert 1900 < most <= 2000


def test_a_growing_file_is_compared_with_others_only_when_it_may_be_the_largest() -> None:
    receiver = new_receiver(limits=Limits(read=10_000_000, body=1_000_000, parts=1000, annotations=1000))
    receiver.received(b"".join(dump(b"%d" % n, b"x") for n in range(900)) + dump(b"large", b"x" * 999_000))
    receiver.received(dump(b"d", b"x" * 900_000)[:-900_000])
    began = process_time()
    for _ in range(3000):
        receiver.received(b"x")
    assert process_time() - began < 1.0
    receiver.release()


def test_a_minidump_goes_last_and_the_named_one_never() -> None:
    other, named = dump(b"other", b"MDMP" + b"x" * 96), dump(b"upload_file_minidump", b"y" * 300)
    received = receive([body(annotation(b"a"), other, dump(b"log", b"z" * 10), named)], limits=files_of(310))
    assert set(received.contents) == {"log", "upload_file_minidump"}
    received = receive([body(annotation(b"a"), other, dump(b"log", b"z" * 10), named)], limits=files_of(309))
    assert set(received.contents) == {"upload_file_minidump"}
    received = receive([body(annotation(b"a"), other, dump(b"log", b"z" * 10))], limits=files_of(105))
    assert set(received.contents) == {"other"}


def test_beside_the_named_minidump_what_only_begins_like_one_is_an_attachment() -> None:
    named, browser = (
        dump(name, b"MDMP" + b"x" * 96) for name in (b"upload_file_minidump", b"upload_file_minidump_browser")
    )
    log, core, text = (
        dump(b"log", b"y" * 50),
        dump(b"core", b"MDMP" + b"z" * 56),
        dump(b"upload_file_minidump_log", b"t" * 20),
    )
    whole = [named, browser, log, core, text]
    for order in (whole, whole[::-1], whole[2:] + whole[:2]):
        for most, left_out in ((330, set()), (329, {"core"}), (269, {"core", "log"})):
            received = receive([body(annotation(b"a"), *order)], limits=files_of(most))
            assert {note.split(":")[0] for note in received.notes} == left_out
        for most in (219, 100):
            received = receive([body(annotation(b"a"), *order)], limits=files_of(most))
            assert "upload_file_minidump" in received.contents
    received = receive([body(annotation(b"a"), core, log, text)], limits=files_of(80))
    assert set(received.contents) == {"core", "upload_file_minidump_log"}


@for_each(
    ("parts", "has"),
    [
        pytest.param([dump(b"upload_file_minidump")], True, id="one"),
        pytest.param([dump(b"log", b"x"), dump(b"any")], True, id="by any name"),
        pytest.param([part([], b"MDMP\0")], True, id="without headers"),
        pytest.param([dump(b"upload_file_minidump", b"log")], True, id="by its name"),
        pytest.param([dump(b"upload_file_minidump", b"")], False, id="empty"),
        pytest.param([dump(b"log", b"MDM")], False, id="cut off"),
        pytest.param([dump(b"log", b"xMDMP")], False, id="not at the beginning"),
        pytest.param([dump(b"m", b"MDMP" + b"x" * 96), dump(b"upload_file_minidump", b"")], False, id="left out"),
        pytest.param([], False, id="no files"),
    ],
)
def test_whether_there_is_a_minidump(parts: Sequence[bytes], has: bool) -> None:
    sent = body(annotation(b"a"), *parts)
    for pieces in ([sent], [sent[at : at + 1] for at in range(len(sent))]):
        assert receive(pieces, limits=files_of(99)).report.has_minidump is has


def test_a_minidump_alone_that_is_too_large_is_refused_at_once() -> None:
    receiver = new_receiver(limits=files_of(1000))
    receiver.received(annotation(b"a") + dump(b"upload_file_minidump", b"MDMP" + b"x" * 1500)[:-500])
    assert isinstance(receiver.refusal, TooLarge)


def test_an_attachment_that_is_a_minidump_and_too_large_does_not_cost_the_minidump() -> None:
    parts = [annotation(b"a"), dump(b"hang", b"MDMP" + b"x" * 1500)]
    for name in (b"upload_file_minidump", b"m"):
        received = receive([body(*parts, dump(name))], limits=files_of(1000))
        assert received.contents == {name.decode(): b"MDMP"}
        assert received.report.notes == [Note("left_out", "hang: 1504 bytes, left out: the report is too large")]
    for sent in (body(*parts), body(*parts, dump(b"log", b"x"))):
        assert refusal_of([sent], limits=files_of(1000)) == (TooLarge, "too_large")


def test_what_is_left_out_takes_no_memory() -> None:
    budget = MemoryBudget(limit=10_000_000)
    receiver = new_receiver(limits=files_of(100_000), budget=budget)
    receiver.received(annotation(b"a") + dump(b"d", b"x" * 900_000)[:-10])
    assert receiver.refusal is None
    assert budget.used == 0
