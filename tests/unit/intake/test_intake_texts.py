from collectord.dialects.query import fields_of, query_of
from collectord.intake.texts import ReceivedTexts
from collectord.model import Note
from tests.support.cases import for_each


def new_texts() -> ReceivedTexts:
    return ReceivedTexts(most_items=1000, most_levels=10)


@for_each("first", [True, False])
def test_the_charset_of_a_form(first: bool) -> None:
    texts = new_texts()
    parts = [("a", b"caf\xe9", None), ("b", "é".encode("utf-16"), "utf-16"), ("c", "é".encode(), "utf-8")]
    charset = ("_charset_", b"iso-8859-1", None)
    for each in [charset, *parts] if first else [*parts, charset]:
        texts.add_part(*each)
    assert texts.finish() == {"a": "café", "b": "é", "c": "é", "_charset_": "iso-8859-1"}
    assert texts.notes() == []


def test_a_part_that_comes_again() -> None:
    texts = new_texts()
    for name, value in (("a", b"1"), ("b", b"2"), ("a", b"3"), ("b", b"2")):
        texts.add_part(name, value, None)
    assert texts.finish() == {"a": "3", "b": "2"}
    assert texts.notes() == [Note("left_out", "a: came again with another value; the last one counts")]


def test_what_costs_json_a_note() -> None:
    texts = new_texts()
    texts.add_json(
        "extra",
        b'{"a": "\xff", "b": "\\ud83d", "\\ud83d": "c", "d": "\\ud83d\\ude00", '
        b'"e": "x", "e": "y", "": "z", "n": "\\u0000"}',
        None,
    )
    assert texts.finish() == {
        "a": "\ufffd",
        "b": "\ufffd",
        "\ufffd": "c",
        "d": "😀",
        "e": "y",
        "n": "",
        "unnamed": "z",
    }
    assert texts.notes() == [
        Note("replaced", "extra: not all of it is UTF-8; U+FFFD stands for the rest"),
        Note("replaced", "b: half of a surrogate pair is replaced by U+FFFD"),
        Note("replaced", "\ufffd: half of a surrogate pair is replaced by U+FFFD"),
        Note("left_out", "e: came again with another value; the last one counts"),
        Note("left_out", "n: its NUL characters are left out"),
        Note("renamed", "unnamed: this name was given to an annotation that has none"),
    ]


@for_each(
    ("content", "charset"),
    [
        ('{"a": "é"}'.encode(), None),
        ('{"a": "é"}'.encode("utf-8-sig"), None),
        ('{"a": "é"}'.encode("utf-16"), None),
        ('{"a": "é"}'.encode("utf-16-be"), None),
        ('{"a": "é"}'.encode("utf-32"), None),
        ('{"a": "é"}'.encode("latin-1"), "iso-8859-1"),
    ],
)
def test_json_in_any_encoding(content: bytes, charset: str | None) -> None:
    texts = new_texts()
    texts.add_json("extra", content, charset)
    assert (texts.finish(), texts.notes()) == ({"a": "é"}, [])


@for_each(("charset", "encoding"), [("utf-16", "utf-8"), ("utf-8", "utf-16-le"), ("latin-1", "utf-32-be")])
def test_json_that_names_a_wrong_charset(charset: str, encoding: str) -> None:
    texts = new_texts()
    texts.add_json("extra", '{"a": "é"}'.encode(encoding), charset)
    texts.add_json("e", b"", "utf-16")
    assert texts.finish() == {"a": "é"}
    assert texts.notes()[0] == Note("repaired", f"extra: it is not in the charset that it names, but in {encoding}")


def test_text_that_is_no_json_takes_no_name_of_another() -> None:
    texts = new_texts()
    texts.add_json("extra", b'{"extra_2": "1", "a": 1, cut', None)
    texts.add_part("extra", b"2", None)
    assert texts.finish() == {"extra": "2", "extra_2": "1", "a": "1", "extra_3": "cut"}
    assert texts.notes()[-1] == Note(
        "repaired", "extra: it is not quite JSON; what could not be read is kept as text, in extra_3"
    )


def test_annotations_without_a_name() -> None:
    texts = new_texts()
    for value in (b"1", b"2", b"3"):
        texts.add_part("", value, None)
    texts.add_part("unnamed_2", b"own", None)
    texts.add_json("", b'{"": "4", "": "5", cut', None)
    assert texts.finish([(b"", b"6")]) == {
        "unnamed_2": "own",
        "unnamed": "1",
        "unnamed_3": "2",
        "unnamed_4": "3",
        "unnamed_5": "5",
        "unnamed_6": "cut",
    }


def test_several_json_parts() -> None:
    texts = new_texts()
    texts.add_json("extra", b'{"a": "1", "b": "1"}', None)
    texts.add_json("event", b'{"b": "2"}', None)
    assert texts.finish() == {"a": "1", "b": "2"}
    assert texts.has_json


def test_several_json_parts_together_have_not_too_many_members() -> None:
    texts = ReceivedTexts(most_items=4, most_levels=10)
    for name, sent in (("e", b'{"a": 1, "b": [2, 3]}'), ("f", b'{"c": 1, "d": 1}'), ("g", b'{"i": 1}'), ("h", b"{}")):
        texts.add_json(name, sent, None)
    texts.add_json("k", b'{"l": 1}', None)
    assert texts.finish() == {"a": "1", "b": "[2, 3]", "c": "1", "d": "1", "g": '{"i": 1}', "h": "{}", "k": '{"l": 1}'}
    assert [note.kind for note in texts.notes()] == ["repaired", "repaired", "repaired"]


def test_json_and_parts() -> None:
    texts = new_texts()
    for name in ("a", "b", "c"):
        texts.add_part(name, name.encode(), None)
    texts.add_json("extra", b'{"a": "json", "b": "b"}', None)
    assert texts.finish() == {"a": "json", "b": "b", "c": "c"}
    assert texts.notes() == [
        Note("left_out", "a: came as a part, too, with another value; that in the JSON counts"),
    ]


def test_json_beside_parts() -> None:
    texts = new_texts()
    texts.add_part("a", b"part", None)
    texts.add_json("extra", b'{"b": "json"}', None)
    assert texts.finish() == {"a": "part", "b": "json"}
    assert texts.notes() == [Note("repaired", "annotations came both as parts and as JSON")]


def test_many_notes_are_few() -> None:
    texts = new_texts()
    for n in range(50):
        texts.add_part(f"{n:02}" * 100, b"\xff", None)
    texts.finish()
    notes = texts.notes()
    assert len(notes) == 21
    assert notes[0].text.startswith("00" * 50 + "…: not all of it")
    assert notes[-1] == Note("replaced", "30 more: not all of it is UTF-8; U+FFFD stands for the rest")


# ——— the query ———


@for_each(
    ("uri", "query"),
    [
        (b"/submit", b""),
        (b"/submit?", b""),
        (b"/submit?a=b&c", b"a=b&c"),
        (b"http://host/submit?a=b?c#d?e", b"a=b?c"),
    ],
)
def test_the_query_of_a_uri(uri: bytes, query: bytes) -> None:
    assert query_of(uri) == query


def test_fields() -> None:
    query = b"a=b+c&d&=e&&f=%C3%A9=%zz&%00=1"
    fields = [(b"a", b"b c"), (b"d", b""), (b"", b"e"), (b"f", "é".encode() + b"=%zz"), (b"\0", b"1")]
    assert fields_of(query, most=5, most_bytes=100) == (fields, 0)
    assert fields_of(query, most=3, most_bytes=100) == (fields[:3], 2)
    assert fields_of(query, most=5, most_bytes=6) == (fields[:3], 2)
    assert fields_of(b"", most=5, most_bytes=6) == ([], 0)


def test_fields_become_annotations() -> None:
    texts = new_texts()
    texts.add_part("a", b"1", None)
    texts.add_json("extra", b'{"b": "2"}', None)
    assert texts.finish([(b"a", b"1"), (b"b", b"3"), (b"c", b"\xff"), (b"", b"4"), (b"c", b"5"), (b"d\0", b"6")]) == {
        "a": "1",
        "b": "2",
        "c": "\ufffd",
        "unnamed": "4",
        "d": "6",
    }
    assert [note.text for note in texts.notes()[1:]] == [
        "b: came with another value in the query of the URL, which is left out",
        "c: came with another value in the query of the URL, which is left out",
        "c: not all of it is UTF-8; U+FFFD stands for the rest",
        "d: its NUL characters are left out",
    ]
