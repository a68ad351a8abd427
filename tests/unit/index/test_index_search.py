"""
Searches: what a query means, what is found, and by what it can be narrowed.
"""

import sqlite3
from collections.abc import Iterator

import pytest

from collectord.index.database import open_to_write
from collectord.index.found import Found
from collectord.index.query import UnfitQuery, words_of, written
from collectord.index.rows import CrashRows
from collectord.index.search import search
from collectord.index.seen import write_tally
from collectord.model import CrashEvent
from tests.support.cases import for_each

DAY = 86400.0
NOW = 20_000 * DAY  # 2024-10-04


def crash_id(number: int) -> str:
    return f"{number:08x}-57c6-4e5d-b2cf-cabde2241003"


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    """Twelve crashes of three products, two hours apart, the last just now; each fourth was moved."""
    opened = open_to_write(":memory:")
    events = []
    for number in range(12):
        about: dict[str, str | int] = {
            "product": ("App", "Viewer", "App for Android")[number % 3],
            "version": f"{number % 2}.0",
            "fingerprint": f"1:{number % 5}",
            "crash_place": f"app.dll+0x{number % 5}",
            "annotations": "\nChannel=beta\n" if number % 2 else "\nChannel=nightly\n",
        }
        at = NOW - (11 - number) * 7200.0
        events.append(CrashEvent(at=at, crash_id=crash_id(number), kind="kept", where="/a", about=about))
        if number % 4 == 0:
            events.append(CrashEvent(at=at, crash_id=crash_id(number), kind="moved", where="s3"))
    CrashRows(opened, ["/a"]).write(events, NOW)
    yield opened
    opened.close()


def found(database: sqlite3.Connection, query: str, before: str = "", limit: int = 24) -> Found:
    return search(database, query, before, limit, lambda: 0.0)


def numbers(result: Found) -> list[int]:
    return [int(crash.crash_id[:8], 16) for crash in result.crashes]


@for_each(
    ("query", "expected"),
    [
        ("", [11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
        ("product:App", [9, 6, 3, 0]),
        ("product:App version:1.0", [9, 3]),
        ('product:"App for Android"', [11, 8, 5, 2]),
        ("product:App*", [11, 9, 8, 6, 5, 3, 2, 0]),
        ("-product:App*", [10, 7, 4, 1]),
        ("state:moved", [8, 4, 0]),
        ("state:waits product:App", [9, 6, 3]),
        ("fingerprint:1:3", [8, 3]),
        ("place:app.dll+0x3", [8, 3]),
        ("Channel:beta product:App", [9, 3]),
        ("Channel:b* product:App", [9, 3]),
        ("Channel:bet product:App", []),
        ("day:2024-10-04", [11]),
        ("-day:2024-10-03", [11]),
        ("bp-00000003", [3]),
        ("00000003-57c6-4e5d-b2cf-cabde2241003", [3]),
        ("BP-0000000B-57", [11]),
        ("product:none", []),
    ],
)
def test_queries(database: sqlite3.Connection, query: str, expected: list[int]) -> None:
    result = found(database, query)
    assert (numbers(result), result.count, result.problem) == (expected, len(expected), "")


@for_each("query", ["xyzzy", "day:yesterday", "a:b " * 21, '"bp'])
def test_what_can_not_be_searched_for(database: sqlite3.Connection, query: str) -> None:
    result = found(database, query)
    assert (result.problem != "", result.crashes, result.facets) == (True, (), ())


def test_pages_follow_each_other(database: sqlite3.Connection) -> None:
    first = found(database, "", limit=5)
    second = found(database, "", first.older, limit=5)
    third = found(database, "", second.older, limit=5)
    assert [numbers(page) for page in (first, second, third)] == [[11, 10, 9, 8, 7], [6, 5, 4, 3, 2], [1, 0]]
    assert [(page.first, page.newer, page.count) for page in (first, second, third)] == [
        (1, False, 12),
        (6, True, 12),
        (11, True, 12),
    ]
    assert third.older == ""
    assert found(database, "", "no place").problem != ""


def test_facets_count_under_the_other_filters(database: sqlite3.Connection) -> None:
    result = found(database, "product:App version:1.0")
    facets = {
        facet.name: [(value.label, value.count, value.is_chosen) for value in facet.values] for facet in result.facets
    }
    assert sorted(facets["product"]) == [("App", 2, True), ("App for Android", 2, False), ("Viewer", 2, False)]
    assert sorted(facets["version"]) == [("0.0", 2, False), ("1.0", 2, True)]
    assert facets["state"] == [("kept", 2, False), ("quarantined", 0, False)]
    assert result.is_all
    (words,) = [value.word for facet in result.facets for value in facet.values if value.label == "App for Android"]
    assert words == 'product:"App for Android"'


def test_only_the_most_frequent_values_are_shown(database: sqlite3.Connection) -> None:
    events = [
        CrashEvent(at=NOW + n, crash_id=crash_id(n), kind="kept", where="/a", about={"product": f"P{n}"})
        for n in range(100, 110)
    ]
    CrashRows(database, ["/a"]).write(events, NOW)
    product = found(database, "product:P109").facets[0]
    assert [value.label for value in product.values if value.is_chosen] == ["P109"]
    assert (len(product.values), product.others, product.others_count) == (6, 7, 7)


@for_each("value", ["App", "App for Android", 'a"b', "a\\b", "a:b", "", "all*", "-x", '"', "ünï"])
def test_a_written_word_is_read_as_it_was(value: str) -> None:
    (word,) = words_of(written("product", value))
    assert (word.name, word.value) == ("product", value)


def test_words_say_what_the_query_is_without_them() -> None:
    first, second = words_of('product:"App for Android"   -version:1*')
    assert (first.without, second.without) == ("-version:1*", 'product:"App for Android"')
    assert (second.is_not, second.value) == (True, "1*")
    with pytest.raises(UnfitQuery):
        words_of("product:App day:2024-13-01")


def test_how_many_more_were_seen_and_not_kept(database: sqlite3.Connection) -> None:
    counts = [["1:1", "App", "0.0", 100, 3], ["", "App", "1.0", 10, 4], ["1:1", "Viewer", "0.0", 7, 0]]
    for hours in (2, 1000):  # the second is of long before
        write_tally(database, (counts, []), NOW - hours * 3600)
    expected = {
        "": 110,
        "product:App": 103,
        "product:App version:1.0": 6,
        "fingerprint:1:1": 104,
        "product:App day:2024-10-03": 103,
        "product:App day:2024-10-02": 0,
        "product:App*": None,
        "-product:App": None,
        "Channel:beta": None,
        "product:App state:moved": None,
        "product:Nothing": 0,
    }
    assert {query: found(database, query).not_kept for query in expected} == expected
