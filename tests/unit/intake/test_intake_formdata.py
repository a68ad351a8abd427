from collections.abc import Sequence

import pytest
from attrs import define
from hypothesis import example, given
from hypothesis import strategies as st

from collectord.errors import MalformedReport
from collectord.intake.formdata import FormDataParser
from collectord.intake.partheaders import Part
from tests.support.cases import for_each
from tests.support.formevents import in_pieces

A = b'--xyzzy\r\nContent-Disposition: form-data; name="a"\r\n'
END = b"\r\n--xyzzy--\r\n"
NO_END = ["the body ends without its last boundary; its end may be missing"]


@define
class Form:
    """What is made of a body: the name and content of each part, and the notes."""

    parts: Sequence[tuple[str | None, bytes]]
    notes: Sequence[str]


def read(*pieces: bytes) -> Form:
    """The form of a body that comes in C{pieces}. The events come in the right order."""
    found: list[tuple[str | None, bytes]] = []
    parser, is_open = FormDataParser(b"xyzzy"), False
    for events in [*map(parser.parse, pieces), parser.close()]:
        for event in in_pieces(events):
            assert is_open == (not isinstance(event, Part))
            if isinstance(event, Part):
                found.append((event.name, b""))
                is_open = True
            elif event is None:
                is_open = False
            else:
                assert event
                name, content = found.pop()
                found.append((name, content + event))
    assert not is_open
    return Form(found, [note.text for note in parser.notes])


def cut(sent: bytes, size: int) -> list[bytes]:
    return [sent[at : at + size] for at in range(0, len(sent), size)]


def parts(sent: bytes) -> Sequence[tuple[str | None, bytes]]:
    """The parts of a body in which nothing was passed over or put right."""
    form = read(sent)
    assert form.notes == []
    return form.parts


# ——— as it should be ———


@for_each(
    "content",
    [
        b"",
        b"hello",
        b"\r\n",
        b"\n\n",
        b"\r",
        b"x--xyzzy",
        b"\r\n--xyzz\r\n",
        b"\r\n--xyzzy-",
        b"\r\n--xyzzyx\r\n",
        b"a\r\n",
    ],
    ids=repr,
)
def test_contents(content: bytes) -> None:
    sent = A + b"\r\n" + content + b"\r\n" + A + b"\r\nnext" + END
    assert parts(sent) == [("a", content), ("a", b"next")]


def test_a_part_need_not_be_form_data() -> None:
    assert parts(b"--xyzzy\r\nX: y\r\n\r\nhello" + END) == [(None, b"hello")]
    assert parts(b"--xyzzy\r\n\r\nhello" + END) == [(None, b"hello")]


@for_each("length", [b"1", b"-1", b"", b"unknown", b"\x80", b"9" * 5000])
def test_the_length_of_a_part_is_ignored(length: bytes) -> None:
    assert parts(A + b"Content-Length: " + length + b"\r\n\r\nhello" + END) == [("a", b"hello")]


def test_a_form_without_parts() -> None:
    assert parts(b"--xyzzy--") == []


# ——— as it is sent nevertheless ———


def test_lines_may_end_with_a_line_feed() -> None:
    sent = A + b"\r\nfirst\n\r\n" + A + b"\r\nnext" + END
    assert parts(sent.replace(b"\r\n", b"\n")) == [("a", b"first\n"), ("a", b"next")]
    assert parts(A.replace(b"\r\n", b"\n") + b"\nfirst\n" + A + b"\r\nnext" + END) == [("a", b"first"), ("a", b"next")]


@for_each("blanks", [b" ", b"\t", b" \t" * 2048])
def test_blanks_may_follow_a_boundary(blanks: bytes) -> None:
    sent = A + b"\r\nfirst\r\n" + A + b"\r\nnext" + END
    assert parts(sent.replace(b"xyzzy\r", b"xyzzy" + blanks + b"\r")) == [("a", b"first"), ("a", b"next")]
    assert parts(sent.replace(b"xyzzy--", b"xyzzy--" + blanks)) == [("a", b"first"), ("a", b"next")]


def test_line_ends_that_were_written_as_text_on_windows() -> None:
    sent = (A + b"\r\nfirst\r\n" + A + b"\r\nnext" + END).replace(b"\r\n", b"\r\r\n")
    assert parts(sent) == [("a", b"first\r"), ("a", b"next\r")]
    assert parts(A.replace(b"xyzzy\r", b"xyzzy\r\r") + b"\r\nhello" + END) == [("a", b"hello")]


def test_what_begins_like_a_boundary_is_none() -> None:
    for line in (b"x", b" x", b"-x", b" " * 4097):
        content = b"\r\n--xyzzy" + line + b"\r\n"
        assert parts(A + b"\r\n" + content + END) == [("a", content)], line


def test_an_empty_part_may_go_without_its_own_line_end() -> None:
    assert parts(A + b"\r\n" + A + b"\r\nnext" + END) == [("a", b""), ("a", b"next")]
    assert parts(A + END) == [("a", b"")]


def test_a_boundary_may_come_twice_in_a_row() -> None:
    assert parts(b"--xyzzy\r\n" + A + b"\r\nhello" + END) == [("a", b"hello")]


def test_headers_may_go_without_a_blank_line() -> None:
    note = "parts without a blank line, so without content: 1"
    assert read(A + A + b"\r\nhello" + END) == Form([("a", b""), ("a", b"hello")], [note])
    assert read(A[:-2] + END) == Form([("a", b"")], [note])


def test_a_blank_line_may_have_blanks() -> None:
    for line_end in (b"\r\n", b"\n"):
        sent = A + b" \t" + line_end + b"hello" + END
        assert read(sent) == read(*cut(sent, 1)) == Form([("a", b"hello")], [])


def test_long_headers() -> None:
    start, rest = b'--xyzzy\r\nContent-Disposition: form-data; x="', b'"; name="a"\r\n\r\nhello' + END
    assert parts(start + b"x" * 16384 + rest) == [("a", b"hello")]
    assert parts(A + b"X: y\r\n" * 4000 + b"\r\nhello" + END) == [("a", b"hello")]


def test_headers_without_end_are_cut() -> None:
    long = A + b"X: " + b"y" * 40_000 + b"\r\n\r\nhello\r\n"
    for size in (1000, 100_000):
        form = read(*cut(long + long + A + b"\r\nhello" + END, size))
        assert form == Form([("a", b"hello")] * 3, ["parts whose headers are cut after 32768 bytes: 2"])


@for_each(
    ("preamble", "notes"),
    [
        pytest.param(b"", [], id="none"),
        pytest.param(b"\r\n", [], id="empty line"),
        pytest.param(b"MIME\r\n", ["bytes before the first or after the last boundary are left out: 6"], id="a line"),
        pytest.param(b"\xef\xbb\xbf", ["bytes before the first or after the last boundary are left out: 3"], id="BOM"),
        pytest.param(
            b"--xyzz\r\n--xyzz\r\r\n",
            ["bytes before the first or after the last boundary are left out: 17"],
            id="almost a boundary",
        ),
        pytest.param(b"x" * 1000, ["bytes before the first or after the last boundary are left out: 1000"], id="long"),
    ],
)
@for_each("size", [1, 2, 7, 8, 9, 10, 11, 10_000])
def test_a_preamble_is_passed_over(preamble: bytes, notes: Sequence[str], size: int) -> None:
    form = read(*cut(preamble + A + b"\r\nhello\r\n--xyzzy--", size))
    assert form == Form([("a", b"hello")], notes)


def test_an_epilogue_is_passed_over() -> None:
    sent = A + b"\r\nhello" + END + b"epilogue" + END
    for size in (1, 7, 1000):
        form = read(*cut(sent, size))
        assert form == Form([("a", b"hello")], ["bytes before the first or after the last boundary are left out: 23"])


# ——— without an end ———


@for_each(
    "end",
    [b"", b"\r", b"\n", b"\r\n", b"\r\n-", b"\n--xyz", b"\r\n--xyzzy", b"\r\n--xyzzy-", b"\r\n--xyzzy  "],
    ids=repr,
)
def test_the_last_boundary_may_be_missing(end: bytes) -> None:
    assert read(A + b"\r\nhello" + end) == Form([("a", b"hello")], NO_END)


@for_each(
    ("sent", "found"),
    [(b"--xyzzy\r\n", []), (A, []), (A[:-5], []), (A + b"\r\n", [("a", b"")]), (A + b"\r\n\r\n", [("a", b"")])],
)
def test_a_body_that_is_cut_off(sent: bytes, found: Sequence[tuple[str, bytes]]) -> None:
    assert read(sent) == Form(found, NO_END)


@for_each("sent", [b"", b"\r\n", b"preamble", b"--xyzz", b"--xyzzy", b"--xyzzy\r", b"--other\r\n"])
def test_without_a_boundary_it_is_no_form(sent: bytes) -> None:
    with pytest.raises(MalformedReport) as refused:
        read(sent)
    assert refused.value.reason == "invalid_payload_structure"


# ——— any split ———

PIECES = st.sampled_from(
    [
        b"\r",
        b"\n",
        b"\r\n",
        b"--",
        b"-",
        b"xyzzy",
        b"--xyzzy",
        b"\r\n--xyzzy",
        b" ",
        b"x",
        b"\r\n\r\n",
        A,
        A + b"\r\n",
        END,
    ]
)


@given(st.lists(PIECES, max_size=12), st.integers(1, 8))
@example([A, b"\r\n", b"\r\n--xyzzy", b" ", b"\r", b"x", END], 1)
def test_any_split_of_anything(pieces: list[bytes], size: int) -> None:
    outcomes = []
    sent = b"".join(pieces)
    for split in (pieces, [sent], cut(sent, size)):
        try:
            outcomes.append(read(*split))
        except MalformedReport as e:
            outcomes.append(Form([], [e.reason]))
    assert outcomes[0] == outcomes[1] == outcomes[2]


def test_nothing_is_held_back_but_a_possible_boundary() -> None:
    parser = FormDataParser(b"xyzzy")
    list(parser.parse(A + b"\r\n"))
    for piece in (b"hello", b"\n\n\nx", b"\r\n--xyzzyx", b"--xyzzy"):
        assert b"".join(event for event in parser.parse(piece) if event) == piece  # type: ignore[misc]
