import json
import tracemalloc
from hashlib import sha256

import pytest
from attrs import evolve

from collectord.errors import MalformedReport, TooLarge
from collectord.intake.receiver import Limits
from collectord.model import Note, Payload
from tests.unit.intake.parts import (
    LIMITS,
    annotation,
    body,
    dump,
    extra,
    new_receiver,
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


def test_the_last_of_an_annotation_counts() -> None:
    received = receive([body(annotation(b"a", b"1"), annotation(b"b", b"2"), annotation(b"a", b"3"))])
    assert received.report.annotations == {"a": "3", "b": "2"}


def test_preamble_and_epilogue_are_passed_over() -> None:
    sent = b"This is MIME.\r\n" + body(annotation(b"a", b"1")) + b"epilogue\r\n--xyzzy--\r\n"
    assert receive([sent]).report.annotations == {"a": "1"}


@pytest.mark.parametrize(
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


@pytest.mark.parametrize(
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


@pytest.mark.parametrize("extra_first", [True, False])
def test_extra_wins(extra_first: bool) -> None:
    parts = [extra(b'{"a": "extra", "c": "extra"}'), annotation(b"a", b"part"), annotation(b"b", b"part")]
    received = receive([body(*(parts if extra_first else reversed(parts)))])
    assert received.report.annotations == {"a": "extra", "b": "part", "c": "extra"}
    assert received.notes == ["annotations came both as parts and as JSON; those in the JSON count"]
    assert received.report.payload.structure == "json"


@pytest.mark.parametrize(
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


@pytest.mark.parametrize("name", [b"extra", b"event"])
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


@pytest.mark.parametrize(
    "sent",
    ["{}", ' \n{ "a" : 1 , "b" : [ 1 , 2 ] , "a" : "last" } \t', '{"a":{},"":1,"\\u0041":-0.0}'],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32-be"])
def test_extra_however_it_is_written(sent: str, encoding: str) -> None:
    parsed = {name or "unnamed": value for name, value in json.loads(sent).items()}
    found = receive([body(annotation(b"z"), extra(sent.encode(encoding)))]).report.annotations
    assert [*found] == ["z", *parsed]
    for name, value in parsed.items():
        assert found[name] == value if isinstance(value, str) else json.loads(found[name]) == value


@pytest.mark.parametrize("sent", [b"[]", b'"text"', b"1", b"null", b"true", b'[{"a": 1}]', b"{'a': 1}", b"\xff"])
def test_extra_is_no_object(sent: bytes) -> None:
    received = receive([body(annotation(b"a"), extra(sent))])
    assert received.report.annotations == {"a": "value", "extra": sent.decode(errors="replace")}
    assert received.notes[-1].endswith("what could not be read is kept as text, in extra")
    assert receive([body(dump(b"d"), extra(sent))]).report.annotations == {"extra": sent.decode(errors="replace")}


@pytest.mark.parametrize("parts", [[dump(b"d")], [extra(b"{}"), dump(b"d")], [extra(b""), dump(b"d")]])
def test_a_dump_alone(parts: list[bytes]) -> None:
    received = receive([body(*parts)])
    assert (received.report.annotations, received.contents) == ({}, {"d": b"MDMP"})
    assert Note("repaired", "the report came without annotations") in received.report.notes


@pytest.mark.parametrize(
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
    assert received.report.annotations == {"ab": "vw"}
    assert received.notes == ["a part without a name is left out", "ab: its NUL characters are left out"]


@pytest.mark.parametrize(
    ("charset", "sent"),
    [(b"iso-8859-1", b"caf\xe9"), (b'"Windows-1252"', b"caf\xe9"), (b"utf-16", "café".encode("utf-16"))],
)
def test_the_charset_of_a_part(charset: bytes, sent: bytes) -> None:
    headers = [b'Content-Disposition: form-data; name="a"', b"Content-Type: text/plain; charset=" + charset]
    received = receive([body(part(headers, sent))])
    assert (received.report.annotations, received.notes) == ({"a": "café"}, [])


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
    received = receive([body(annotation(b"\xffa", b"1"), dump(b"\xc3", b"2"), annotation("é€".encode(), b"3"))])
    assert received.report.annotations == {"é€": "3"}
    assert received.dumps == []
    assert received.notes == ["a part whose name is not UTF-8 is left out"] * 2


def test_parts_without_a_name() -> None:
    received = receive(
        [
            body(
                annotation(b"a"),
                part(b"Content-Disposition: form-data", b"1"),
                part(b'Content-Disposition: form-data; name=""', b"2"),
                part(b'Content-Disposition: form-data; filename="x"', b"3"),
                part(b"Content-Type: application/octet-stream", b"4"),
                part([], b"5"),
            )
        ]
    )
    assert received.report.annotations == {"a": "value"}
    assert received.dumps == []
    assert received.notes == ["a part without a name is left out"] * 5


@pytest.mark.parametrize(
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


@pytest.mark.parametrize(
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


@pytest.mark.parametrize("name", [b"dump_names", b"raw_crash", b"processed_crash", b"dump", b"d.u.m.p", b"/raw_crash"])
def test_reserved_names(name: bytes) -> None:
    assert refusal_of([body(annotation(b"a"), dump(name))]) == malformed("invalid_dump_name")
    assert receive([body(annotation(name))]).report.annotations == {name.decode(): "value"}


def test_a_dump_name_that_comes_again() -> None:
    received = receive([body(annotation(b"a"), dump(b"d", b"1"), dump(b"d", b"2"), dump(b"/d", b"3"))])
    assert received.contents == {"d": b"1", "d_2": b"2", "d_3": b"3"}
    assert received.notes == [
        "a dump name came again; this one is called d_2",
        "a dump name came again; this one is called d_3",
    ]


def test_a_long_dump_name_that_comes_again() -> None:
    received = receive([body(annotation(b"a"), *(dump(b"x" * 30 + bytes([n]), b"%d" % n) for n in range(65, 76)))])
    names = ["x" * 30, *(f"{'x' * 28}_{n}" for n in range(2, 10)), f"{'x' * 27}_10", f"{'x' * 27}_11"]
    assert list(received.contents) == names
    assert max(map(len, names)) == 30
    assert received.notes == [f"a dump name came again; this one is called {name}" for name in names[1:]]


def test_a_given_name_is_never_given_twice() -> None:
    received = receive([body(annotation(b"a"), *(dump(name) for name in (b"d_2", b"d", b"d", b"d_2", b"d")))])
    assert list(received.contents) == ["d_2", "d", "d_3", "d_2_2", "d_4"]


# ——— the structure ———


@pytest.mark.parametrize(
    "sent", [b"garbage", b"\r\n", b"--xyzzy", body(annotation(b"a")).replace(b"xyzzy", b"other")], ids=repr
)
def test_the_structure_is_broken(sent: bytes) -> None:
    assert refusal_of([sent]) == malformed("invalid_payload_structure")


def test_what_was_put_right_is_noted() -> None:
    received = receive([b"MIME\r\n" + annotation(b"a")])
    assert received.report.annotations == {"a": "value"}
    assert [(note.kind, note.text) for note in received.report.notes] == [
        ("repaired", "the body ends without its last boundary; its end may be missing"),
        ("left_out", "6 bytes before the first or after the last boundary are left out"),
    ]


def test_a_dump_without_the_last_boundary() -> None:
    received = receive([annotation(b"a") + dump(b"d", b"MDMP\0")])
    assert received.contents == {"d": b"MDMP\0"}


def test_parts_are_limited() -> None:
    twenty = [annotation(b"a%d" % n) for n in range(19)]
    assert len(receive([body(*twenty, dump(b"d"))]).report.annotations) == 19
    assert refusal_of([body(*twenty, dump(b"d"), dump(b"d"))]) == malformed("too_many_parts")
    assert refusal_of([body(*twenty, *[part([], b"")] * 2)]) == malformed("too_many_parts")
    receiver = new_receiver()
    receiver.received(b"".join([*twenty, dump(b"d")]))
    assert receiver.refusal is None
    receiver.received(dump(b"d"))
    assert isinstance(receiver.refusal, MalformedReport)


def annotations_of(size: int) -> Limits:
    return Limits(body=LIMITS.body, parts=LIMITS.parts, annotations=size)


@pytest.mark.parametrize(
    ("parts", "size"),
    [
        ([annotation(b"ab", b"c" * 4), annotation(b"cd", b"ef")], 10),
        ([extra(b'{"a": 1}'), annotation(b"b", b"")], 14),
        ([annotation(b"n" * 9, b""), annotation(b"m", b"")], 10),
        ([annotation(b"a", b"\xff" * 8), annotation(b"b", b"")], 10),
        ([annotation(b"a", b"bcdef"), annotation(b"a", b"bcd")], 10),
    ],
)
def test_annotations_are_limited(parts: list[bytes], size: int) -> None:
    uncounted = [dump(b"d", b"x" * 1000), annotation(b"", b"x" * 1000)]
    assert receive([body(*parts, *uncounted)], limits=annotations_of(size)).report.annotations
    assert refusal_of([body(*parts)], limits=annotations_of(size - 1)) == (TooLarge, "too_large")


def test_names_count_in_bytes() -> None:
    euro = "€" * 10
    assert receive([body(annotation(euro.encode(), b""))], limits=annotations_of(30)).report.annotations == {euro: ""}
    assert refusal_of([body(annotation(euro.encode(), b""))], limits=annotations_of(29)) == (TooLarge, "too_large")


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
