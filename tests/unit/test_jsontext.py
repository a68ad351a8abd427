"""
JSON of clients: what is honest is parsed, and what would take long is refused before it does.
"""

import json
from contextlib import suppress
from time import thread_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectord.jsontext import TooManyItems, check_items, depth_of, parse_json
from tests.support.cases import for_each

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('",[]{}\\x\n'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text('",[]{}\\'), inner),
    max_leaves=30,
)


def items_in(value: object) -> int:
    """By the definition: the commas and the brackets."""
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    here = 1 + max(0, len(inner) - 1) if isinstance(value, list | dict) else 0
    return here + sum(map(items_in, inner))


@pytest.mark.slow
@given(VALUES)
def test_items_are_counted_outside_of_strings(value: object) -> None:
    text = json.dumps(value)
    items = items_in(value)
    check_items(text, max(1, items))
    if items > 1:
        with pytest.raises(TooManyItems):
            check_items(text, items - 1)


def test_json_in_a_string_is_one_item() -> None:
    inner = json.dumps([{"a": [1, 2, 3]}] * 50_000)
    assert parse_json(json.dumps({"environment": inner}), 10) == {"environment": inner}


@for_each("text", ['["' + '\\"' * 5000, "[" + '"\\' * 5000, '["' + "," * 5000 + "\\"])
def test_strings_that_do_not_end(text: str) -> None:
    with pytest.raises(ValueError, match=r"Unterminated|Expecting|Invalid"):
        parse_json(text, 100)


def test_numbers() -> None:
    assert parse_json(f"[1, -5, 1.5, {'9' * 100}, {'9' * 101}, {'9' * 5000}]", 10) == [
        1,
        -5,
        1.5,
        10**100 - 1,
        None,
        None,
    ]


def test_too_deep() -> None:
    with pytest.raises(TooManyItems):
        parse_json("[" * 5000 + "]" * 5000, 10_000)


@for_each(("value", "depth"), [(1, 0), ("[[", 0), ([], 1), ({}, 1), ({"a": [1, {}]}, 3), ([[], [[1]], 2], 3)])
def test_depth(value: object, depth: int) -> None:
    assert depth_of(value) == depth


N = 2**21


@for_each(
    "text",
    [
        "[" * 900 + "]" * 900 + ",",
        "[],",
        "{},",
        '{"a":1},',
        "1e9,",
        "0,",
        '"",',
        '"\\"",',
        '""',
        '"\\',
        '\\"',
        '"' + "\\n" * 1000 + '",',
        "9" * 4300 + ",",
        " ",
        "é",
    ],
    ids=lambda text: f"{text[:12]!r}",
)
def test_whatever_it_is_it_takes_no_time(text: str) -> None:
    hostile = '{"a":[' + text * (N // len(text)) + "1]}"
    began = thread_time()
    with suppress(ValueError, TooManyItems):
        parse_json(hostile, 20_000)
    assert thread_time() - began < 0.05
