"""
Finds the row that a request is for. A path without placeholders is found at once, however many rows there are.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from hmac import compare_digest

from attrs import frozen

from collectord.dialects.places import RequestHead, key_at
from collectord.dialects.query import query_of, values_in, without_fields
from collectord.dialects.row import PLACEHOLDER, Dialect
from collectord.errors import UnknownKey


@frozen
class Asked:
    """
    What a request asks for: a row, and the values of the placeholders in its path and host.
    """

    dialect: Dialect
    path: Mapping[str, str] = {}

    def product_by_key(self, query: bytes, header: Callable[[bytes], bytes | None]) -> str:
        """
        Return the ProductName of the key that was sent; empty if there is none.

        All keys are compared, each in constant time, so that how long it takes tells nothing of them.

        @param query: of the URL.
        @param header: returns the value of a header.
        @raise UnknownKey: none was sent, or one that is not taken.
        """
        keys = self.dialect.keys
        if keys is None:
            return ""
        there = (key_at(place, query, self.path, header) for place in self.dialect.key)
        sent = next((key for key in there if key is not None), "")
        found = [product for key, product in keys.items() if compare_digest(key.encode(), sent.encode())]
        if not found:
            raise UnknownKey
        return found[0]

    def kept_query(self, query: bytes) -> bytes:
        """Return what of the query of the URL becomes annotations."""
        return query if self.dialect.is_plain else without_fields(query, self.dialect.drops)


class DialectTable:
    """
    The rows. Of those for a path the first counts that fits, and those with fewer placeholders come before others.

    @param rows: of all dialects that are taken.
    """

    def __init__(self, rows: Iterable[Dialect]) -> None:
        self._alone: dict[bytes, Asked] = {}
        self._fixed: dict[bytes, list[Dialect]] = {}
        self._patterns: list[tuple[re.Pattern[str], Dialect]] = []
        for row in rows:
            if PLACEHOLDER.search(row.path):
                self._patterns.append((_compiled(row.path), row))
            else:
                for path in _both(row.path):
                    self._fixed.setdefault(path, []).append(row)
        self._patterns.sort(key=lambda pattern: _vagueness(pattern[1].path))
        for path, found in self._fixed.items():
            if not (found[0].host or found[0].when):
                self._alone[path] = Asked(found[0])

    def find(self, path: bytes, head: RequestHead) -> Asked | None:
        """
        Return what a request asks for; None if there is no row for it.

        @param path: of the URL, without escapes.
        """
        return self._alone.get(path) or self._find(path, head)

    def _find(self, path: bytes, head: RequestHead) -> Asked | None:
        for row in self._fixed.get(path, ()):
            if (asked := _asked(row, {}, head)) is not None:
                return asked
        text = path.decode(errors="replace")
        if text.startswith("/__"):  # the health of the daemon is no report
            return None
        for pattern, row in self._patterns:
            found = pattern.fullmatch(text)
            if found is not None and (asked := _asked(row, found.groupdict(), head)) is not None:
                return asked
        return None


def _vagueness(path: str) -> tuple[bool, int]:
    return path.endswith("*}"), len(PLACEHOLDER.findall(path))


def _both(path: str) -> Sequence[bytes]:
    bare = path.rstrip("/").encode()
    return [bare, bare + b"/"] if bare else [b"/"]


def _compiled(path: str) -> re.Pattern[str]:
    end = "" if path.endswith("*}") else "/?"
    return _pattern(path if not end else path.rstrip("/"), "/", end)


def _pattern(text: str, separators: str, end: str = "") -> re.Pattern[str]:
    pattern, at = "", 0
    for found in PLACEHOLDER.finditer(text):
        # Of two between the same separators only the last may have what is between them: otherwise all ways to split a
        # hostile text would be tried, which takes seconds.
        between = re.split(f"[{separators}]", text[found.end() :], maxsplit=1)[0]
        stop = re.escape(between[:1]) if "{" in between else ""
        one = ".*" if found[2] else f"[^{separators}{stop}]+"
        pattern += re.escape(text[at : found.start()]) + f"(?P<{found[1]}>{one})"
        at = found.end()
    return re.compile(pattern + re.escape(text[at:]) + end, re.DOTALL)


def _asked(row: Dialect, path: Mapping[str, str], head: RequestHead) -> Asked | None:
    """What a request of the path of C{row} asks for; None if its host or its query is that of another row."""
    if row.when:
        values = values_in(query_of(head.uri))
        if any(values.get(name) != value for name, value in row.when.items()):
            return None
    if row.host:
        host = (head.getHeader(b"Host") or b"").decode(errors="replace").lower()
        found = _pattern(row.host.lower(), ".:", r"(?::\d+)?").fullmatch(host)
        if found is None:
            return None
        return Asked(row, {**path, **found.groupdict()})
    return Asked(row, path)
