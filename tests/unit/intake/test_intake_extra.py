import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectord.intake.extra import Extra, parse_extra
from tests.support.cases import for_each


def parsed(text: str, items: int = 10_000, levels: int = 100) -> Extra:
    return parse_extra(text, most_items=items, most_levels=levels)


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


@for_each(
    "text",
    [
        "",
        " ",
        "[]",
        '"text"',
        "1",
        "null",
        '[{"a": 1}]',
        "{'a': 1}",
        "{",
        "{b",
        '{"a" "b"}',
        '{"a": [1,}',
        '{"a": , "b": 1}',
        "{]",
    ],
)
def test_what_is_no_object_is_kept_as_text(text: str) -> None:
    extra = parsed(text)
    assert (list(extra.members), extra.rest) == ([], text)
    assert extra.problem
    assert extra.refusal == ("invalid_json_value" if is_json(text) else "invalid_json")


@for_each(
    ("text", "rest"),
    [
        ('{"a":1, "b": "cut', '"b": "cut'),
        ('{"a":1, "b": "', '"b": "'),
        ('{"a":1, "b":', '"b":'),
        ('{"a":1, "b', '"b'),
        ('{"a":1,', ""),
        ('{"a":1', ""),
        ('{"a":1} x', "} x"),
        ('{"a":1; "b":2}', '; "b":2}'),
        ('{"a":1, b: 2}', "b: 2}"),
        ('{"a":1, "b": tr', '"b": tr'),
        ('{"a":1, "b": two words, "c": 1}', '"b": two words, "c": 1}'),
        ('{"a":1, "b": ' + "x" * 200_000 + "}", '"b": ' + "x" * 200_000 + "}"),
        ('{"a":1, "b": [01, "c": 1}', '"b": [01, "c": 1}'),
        ('{"a":1, "b\\x": "\\x', '"b\\x": "\\x'),
        ('{"a":1, "b": ' + "[" * 9000 + "]" * 9000 + "}", '"b": ' + "[" * 9000 + "]" * 9000 + "}"),
    ],
    ids=[
        "value",
        "empty value",
        "colon",
        "name",
        "comma",
        "brace",
        "more",
        "no comma",
        "no quotes",
        "cut off",
        "words",
        "long",
        "in a list",
        "mended",
        "deep",
    ],
)
def test_what_is_whole_before_the_error_is_read(text: str, rest: str) -> None:
    extra = parsed(text)
    assert (list(extra.members), extra.rest) == ([("a", "1")], rest)
    assert extra.problem
    assert not extra.refusal


@for_each(
    ("text", "members"),
    [
        ('{"a": "x\ny\t\x01\x00"}', [("a", "x\ny\t\x01\x00")]),
        ('{"a\n": "x"}', [("a\n", "x")]),
        ('{"a": "x",}', [("a", "x")]),
        ('{,"a": "x",, "b": [1] ,}', [("a", "x"), ("b", "[1]")]),
        ('{"a": "x" "b": 1"c":{}\n"d": 2}', [("a", "x"), ("b", "1"), ("c", "{}"), ("d", "2")]),
        (r'{"a": "C:\x\"\u00e", "b": "\u00e9\\"}', [("a", r'C:\x"\u00e'), ("b", "é\\")]),
        (r'{"\a": "\b\ud83d\ude00\ud83", "c": "\\\x"}', [(r"\a", "\b😀\\ud83"), ("c", r"\\x")]),
        (
            r'{"a": ["\x", 1], "b": [1,], "c": {"]": 01, "d"}, "e": [[1.5] 2]}',
            [("a", r'["\x", 1]'), ("b", "[1,]"), ("c", '{"]": 01, "d"}'), ("e", "[[1.5] 2]")],
        ),
        (
            r'{"\x": 1e999, "b\x": true, "c\x" : -1.10, "d": "\x"}',
            [(r"\x", "1e999"), (r"b\x", "true"), (r"c\x", "-1.10"), ("d", r"\x")],
        ),
        (
            '{"a": undefined, "b": 1, "c": 01, "d":+.5 , "e": None}',
            [("a", "undefined"), ("b", "1"), ("c", "01"), ("d", "+.5"), ("e", "None")],
        ),
    ],
    ids=[
        "control characters",
        "in a name",
        "last comma",
        "commas",
        "no commas",
        "escapes",
        "names",
        "in values",
        "after bad names",
        "words and numbers",
    ],
)
def test_what_is_not_quite_json_is_read(text: str, members: list[tuple[str, str]]) -> None:
    assert parsed(text) == Extra(members, "", "it is not quite JSON")


def test_so_many_members_are_mended() -> None:
    bad = [f'"{n}": "\\x"' for n in range(101)]
    assert len(parsed("{" + ",".join(bad[:100]) + "}").members) == 100
    extra = parsed("{" + ",".join(bad) + "}")
    assert (len(extra.members), extra.rest, extra.problem) == (100, bad[100] + "}", "it is not JSON")


def test_so_long_members_are_mended() -> None:
    for value in ('"\\x%s"', '["\\x" "%s"]'):
        long = '{"ok": "%s", "a": ' % ("y" * 200_000) + value % ("y" * 100_000) + ', "b": ' + value % ("y" * 40_000)
        assert [name for name, _ in parsed(long + ', "c": 1}').members] == ["ok", "a"]
        assert parsed(long + ', "c": 1}').rest.startswith('"b"')


def test_members_without_commas_between_them_are_counted() -> None:
    text = "{" + '"a":1' * 12 + "}"
    assert len(parsed(text, items=12).members) == 12
    extra = parsed(text, items=11)
    assert (len(extra.members), extra.rest, extra.problem) == (11, '"a":1}', "it has more than 11 values")


def test_levels_of_what_is_no_json() -> None:
    assert parsed('{"a": [[[1 1]]], "b": 1}', levels=4).members == [("a", "[[[1 1]]]"), ("b", "1")]
    extra = parsed('{"z": 1, "a": [[[1 1]]], "b": 1}', levels=3)
    assert (extra.rest, extra.problem) == ('"a": [[[1 1]]], "b": 1}', "it has more than 3 levels")


def test_names_that_come_again() -> None:
    assert parsed('{"a": "1", "b": "2", "a": "3"}') == Extra((("a", "1"), ("b", "2"), ("a", "3")))
    assert parsed('{"a": 1, "a": {"k":1,"k":2}}').members == [("a", "1"), ("a", '{"k":1,"k":2}')]


def test_too_many_items() -> None:
    text = '{"a": [1, 2, 3, {"b": ",,,[[[{{{"}], "c": "[[[[[[,,,,,,,{{{{"}'
    assert parsed(text, items=7).members == [("a", '[1, 2, 3, {"b": ",,,[[[{{{"}]'), ("c", "[[[[[[,,,,,,,{{{{")]
    assert parsed(text, items=6) == Extra((), text, "it has more than 6 values")
    text = '{"z": "1", "y": [2], "a": [1, 2, 3, 4, 5, 6], "b": "c"}'
    read = [("z", "1"), ("y", "[2]")]
    assert parsed(text, items=7) == Extra(read, '"a": [1, 2, 3, 4, 5, 6], "b": "c"}', "it has more than 7 values")
    assert parsed(text, items=2) == Extra(read[:1], text[11:], "it has more than 2 values")
    assert parsed("[1,2,3,4]", items=3) == Extra((), "[1,2,3,4]", "it has more than 3 values")


def test_too_many_levels() -> None:
    text = '{"z": "1", "a": [{"b": [[]]}], "c": "d"}'
    assert parsed(text, levels=5).members == [("z", "1"), ("a", '[{"b": [[]]}]'), ("c", "d")]
    assert parsed(text, levels=4) == Extra([("z", "1")], '"a": [{"b": [[]]}], "c": "d"}', "it has more than 4 levels")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@pytest.mark.slow
@given(st.dictionaries(st.text(max_size=5), JSON, max_size=5), st.sampled_from([None, 1]), st.booleans())
def test_each_value_is_kept_as_it_was_sent(sent: dict[str, Any], indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(sent, indent=indent, ensure_ascii=ascii_only)
    extra = parsed(text)
    assert (extra.rest, extra.problem) == ("", "")
    assert [name for name, _ in extra.members] == list(sent)
    for name, value in extra.members:
        if isinstance(sent[name], str):
            assert value == sent[name]
        else:
            assert value in text
            assert json.dumps(json.loads(value)) == json.dumps(sent[name])


@given(st.text('{}[]":,\\ a1\n', max_size=40), st.integers(0, 10))
def test_nothing_is_lost(text: str, cut: int) -> None:
    begin = '{"a": [1], "b": "c", '
    extra = parsed(begin + text)
    assert list(extra.members)[:2] == [("a", "[1]"), ("b", "c")] or not extra.members
    if not extra.members:
        assert extra.rest == begin + text
    assert (begin + text).endswith(extra.rest)
