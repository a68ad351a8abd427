from collections.abc import Mapping

import pytest

from collectord.dialects.load import SUBMIT
from collectord.dialects.table import Asked, DialectTable
from collectord.errors import UnknownKey
from tests.support.cases import for_each
from tests.unit.dialects.rows import asked, row

TABLE = DialectTable(
    [
        row('path = "/api/{project}/minidump"'),
        row('path = "/post/ue4/{app}/{version}"'),
        row('path = "/post"\nwhen = { format = "minidump" }\nannotations = { A = ["query:a"] }'),
        row('path = "/post"\nhost = "{database}.example.com"'),
        row('path = "/any/{rest*}"'),
        row('path = "/a.b/"'),
        SUBMIT,
    ]
)


@for_each(
    ("url", "path", "placeholders"),
    [
        ("/submit", "/submit", {}),
        ("/submit/", "/submit", {}),
        ("/submit?a=b", "/submit", {}),
        ("/a.b", "/a.b/", {}),
        ("/a.b/", "/a.b/", {}),
        ("/axb", None, {}),
        ("/api/42/minidump/", "/api/{project}/minidump", {"project": "42"}),
        ("/api/42/minidump?x", "/api/{project}/minidump", {"project": "42"}),
        ("/api//minidump/", None, {}),
        ("/api/4/2/minidump/", None, {}),
        ("/api/42/minidump/x", None, {}),
        ("/api/42/minidump//", None, {}),
        ("/post/ue4/App/1.0", "/post/ue4/{app}/{version}", {"app": "App", "version": "1.0"}),
        ("/any/", "/any/{rest*}", {"rest": ""}),
        ("/any/a/b/", "/any/{rest*}", {"rest": "a/b/"}),
        ("/post?format=minidump", "/post", {}),
        ("/post?format=other", None, {}),
        ("/post", None, {}),
        ("/", None, {}),
    ],
)
def test_what_is_asked_for(url: str, path: str | None, placeholders: Mapping[str, str]) -> None:
    found = asked(TABLE, url)
    assert (found and found.dialect.path) == path
    assert (found.path if found else {}) == placeholders


@for_each(
    ("host", "database"),
    [("fred.example.com", "fred"), ("Fred.Example.com:8000", "fred"), ("a.b.example.com", None), ("example.com", None)],
)
def test_the_host(host: str, database: str | None) -> None:
    found = asked(TABLE, "/post", Host=host)
    assert (found and found.path["database"]) == database


@for_each(
    ("path", "url", "values"),
    [
        ("/c/{a}-{b}/dump", "/c/x-y-z/dump", {"a": "x", "b": "y-z"}),
        ("/c/{a}.dmp", "/c/x.y.dmp", {"a": "x.y"}),
        ("/c/{a}-{b*}", "/c/x-y/-z", {"a": "x", "b": "y/-z"}),
        ("/c/{a}]{b}", "/c/x]y", {"a": "x", "b": "y"}),
        ("/c/{a}-{b}/dump", "/c/" + 16_000 * "-", None),
        ("/c/{a}.{b}-{c}/dump", "/c/" + 8_000 * ".-", None),
    ],
)
def test_several_placeholders_between_slashes(path: str, url: str, values: dict[str, str] | None) -> None:
    """However long the path is, it takes no time."""
    found = asked(DialectTable([row(f'path = "{path}"')]), url)
    assert (found and found.path) == values


def test_no_pattern_takes_the_paths_of_the_health() -> None:
    table = DialectTable([row('path = "/{rest*}"')])
    assert asked(table, "/") is not None
    assert asked(table, "/x/y") is not None
    assert asked(table, "/__heartbeat__") is None


def test_the_first_row_counts_and_a_path_before_a_pattern() -> None:
    first, second = row('path = "/{a}"\nno_dump = "refuse"'), row('path = "/{b}"')
    table = DialectTable([first, second, SUBMIT])
    assert asked(table, "/x") == Asked(first, {"a": "x"})
    assert asked(table, "/submit") == Asked(SUBMIT)


# ——— keys ———

KEYED = row(
    'path = "/api/{project}/{key}"\n'
    'key = ["header:X-Auth#some_key", "header:X-Plain", "query:k", "basic", "path:key"]\n'
    'keys = { good = "App", other = "", "ü" = "Umlaut" }'
)


def product(url: str = "/api/1/x", **headers: str) -> str:
    found = asked(DialectTable([KEYED]), url)
    assert found is not None
    named = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return found.product_by_key(url.partition("?")[2].encode(), named.get)


@for_each(
    ("url", "headers", "expected"),
    [
        ("/api/1/x", {"X_Auth": "Sentry some_key=good, some_version=7"}, "App"),
        ("/api/1/x", {"X_Auth": 'Sentry a=b,some_key="good"'}, "App"),
        ("/api/1/x", {"X_Auth": "some_key=other"}, ""),
        ("/api/1/x", {"X_Plain": "good"}, "App"),
        ("/api/1/x?k=good", {}, "App"),
        ("/api/1/x?a=b&k=%C3%BC", {}, "Umlaut"),
        ("/api/1/x", {"Authorization": "Basic Z29vZDo="}, "App"),
        ("/api/1/x", {"Authorization": "basic Z29vZDpwYXNzd29yZA=="}, "App"),
        ("/api/1/good", {}, "App"),
        ("/api/1/bad?k=good", {}, "App"),
        ("/api/1/x?k=good&k=bad", {}, "App"),
        # keys at two places at once
        ("/api/1/good?k=good", {"X_Auth": "Sentry some_key=good"}, "App"),
        ("/api/1/x?k=%C3%BC", {"X_Plain": "good"}, "App"),
        ("/api/1/x?k=good", {"X_Plain": "other"}, ""),
        ("/api/1/x?k=good", {"Authorization": "Basic cHJveHk6cHJveHk="}, "App"),  # that of a proxy
    ],
)
def test_a_key_that_is_taken(url: str, headers: dict[str, str], expected: str) -> None:
    assert product(url, **headers) == expected


@for_each(
    ("url", "headers"),
    [
        ("/api/1/x", {}),
        ("/api/1/x?k=", {}),
        ("/api/1/x?k=goo", {}),
        ("/api/1/x?k=goodd", {}),
        ("/api/1/x?k=%FF", {}),
        ("/api/1/good?k=bad", {}),  # the first place that has one counts
        ("/api/1/x?k=good", {"X_Auth": "Sentry some_key=bad"}),
        ("/api/1/x?k=bad&k=good", {}),
        ("/api/1/x", {"X_Auth": "Sentry another_some_key=good"}),
        ("/api/1/x", {"X_Auth": "good"}),
        ("/api/1/x", {"Authorization": "Basic ===="}),
        ("/api/1/x", {"Authorization": "Basic \xff"}),
        ("/api/1/x", {"Authorization": "Bearer good"}),
    ],
)
def test_a_key_that_is_not_taken(url: str, headers: dict[str, str]) -> None:
    with pytest.raises(UnknownKey):
        product(url, **headers)


def test_any_key_is_taken_where_none_is_named() -> None:
    assert Asked(row('path = "/a"\nkey = ["query:k"]')).product_by_key(b"", lambda name: None) == ""


@for_each(
    ("rest", "kept"),
    [
        ("", b"a=1&k=2&c=%33&a=4"),
        ('key = ["query:k"]', b"a=1&c=%33&a=4"),
        ('key = ["query:k"]\nkeep_query = true', b"a=1&c=%33&a=4"),
        ("keep_query = false", b""),
        ('keep_query = ["a"]', b"a=1&a=4"),
        ('keep_query = ["a", "k"]\nkey = ["query:k"]', b"a=1&a=4"),
    ],
)
def test_what_is_kept_of_the_query(rest: str, kept: bytes) -> None:
    assert Asked(row(f'path = "/a"\n{rest}')).kept_query(b"a=1&k=2&c=%33&a=4") == kept
