"""
Searches the crashes of the index, and counts by what they could be narrowed.

All of it blocks.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from collectord.crashid import day_of
from collectord.index.columns import CHOSEN, JOINED, crashes_of, id_bytes, milliseconds
from collectord.index.found import Facet, FacetValue, Found, SearchWord
from collectord.index.query import FACETS, UnfitQuery, condition, day_begins, day_of_time, words_of, written
from collectord.index.values import IndexedCrash

COUNTED: Final = 200_000
"""The most crashes that are looked at for counts: the newest ones."""
_VALUES = 6
_DAY_S = 24 * 3600
_DAY_MS = _DAY_S * 1000
_COUNTED_BY: Final = {
    "product": "product = ?",
    "version": "version = ?",
    "fingerprint": "fingerprint = ?",
    "day": "hour / 24 = ?",
}
"""What the counts of reports can be chosen by, in SQL on the table C{hours}."""

_Group = tuple[str, ...]
"""Product, version, day, fingerprint and state of some crashes, as C{FACETS}."""


def search(database: sqlite3.Connection, query: str, before: str, limit: int, seconds: Callable[[], float]) -> Found:
    """
    Search for crashes. L{Index.search<collectord.index.asking.Index.search>} says what a query is.

    @param seconds: a clock.
    """
    began = seconds()
    try:
        words = words_of(query)
        place = _place(before)
        conditions = [(word, *condition(word)) for word in words]
    except UnfitQuery as e:
        return Found(query=query, words=(), problem=str(e))
    where, values = _all_of([(sql, of_word) for _, sql, of_word in conditions])
    shown = _page(database, where, values, place, limit + 1)
    groups, is_all, since, until = _grouped(
        database, [(sql, of_word) for word, sql, of_word in conditions if not _is_chosen(word)]
    )
    chosen = [word for word in words if _is_chosen(word)]
    has_more = len(shown) > limit
    last = shown[limit - 1] if has_more else None
    first = 1 if place is None else place[2] + 1
    return Found(
        query=query,
        words=words,
        count=sum(count for group, count in groups.items() if _fits(group, chosen)),
        is_all=is_all,
        since=since,
        until=until,
        not_kept=_not_kept(database, words, since, until),
        seconds=seconds() - began,
        crashes=shown[:limit],
        first=first,
        older="" if last is None else f"{milliseconds(last.at)}_{last.crash_id}_{first - 1 + limit}",
        newer=place is not None,
        facets=_facets(database, groups, chosen),
    )


def last_crashes(database: sqlite3.Connection, limit: int) -> list[IndexedCrash]:
    """Return the crashes that were kept last, newest first."""
    return _page(database, "1", [], None, limit)


def crash_by_id(database: sqlite3.Connection, crash_id: str) -> IndexedCrash | None:
    """Return one crash; None: the index does not know it."""
    wanted = id_bytes(crash_id)
    for since, until in _times_of(crash_id):
        found = database.execute(
            f"SELECT {CHOSEN} FROM {JOINED} WHERE crashes.at >= ? AND crashes.at < ? AND crashes.id = ?",
            (since, until, wanted),
        )
        for crash in crashes_of(found):
            return crash
    return None


def _times_of(crash_id: str) -> Sequence[tuple[int, int]]:
    """Return when a crash may have been kept: on the day that its id says, or later, since others have received it."""
    begin = milliseconds(day_begins(f"{day_of(crash_id)}"))
    end = begin + 2 * _DAY_MS
    return [(begin, end), (end, 2**62)]


def _page(
    database: sqlite3.Connection, where: str, values: list[object], place: tuple[int, bytes, int] | None, limit: int
) -> list[IndexedCrash]:
    if place is not None:
        where, values = f"{where} AND (crashes.at, crashes.id) < (?, ?)", [*values, *place[:2]]
    sql = f"SELECT {CHOSEN} FROM {JOINED} WHERE {where} ORDER BY crashes.at DESC, crashes.id DESC LIMIT ?"
    return list(crashes_of(database.execute(sql, [*values, limit])))


def _place(before: str) -> tuple[int, bytes, int] | None:
    if not before:
        return None
    try:
        at, crash_id, number = before.split("_")
        return int(at), id_bytes(crash_id), int(number)
    except ValueError:
        raise UnfitQuery(f"{before}: no place in a list of crashes") from None


def _all_of(conditions: Sequence[tuple[str, list[object]]]) -> tuple[str, list[object]]:
    where = " AND ".join(f"({sql})" for sql, _ in conditions) or "1"
    return where, [value for _, values in conditions for value in values]


def _is_chosen(word: SearchWord) -> bool:
    """Whether a word is the choice of one value of a facet."""
    return word.name in FACETS and not word.is_not and not word.value.endswith("*")


def _grouped(
    database: sqlite3.Connection, conditions: Sequence[tuple[str, list[object]]]
) -> tuple[Counter[_Group], bool, float | None, float | None]:
    """
    Count the crashes that fit by their facets.

    @return: the counts; whether these are all; and the times of the oldest and newest.
    """
    where, values = _all_of(conditions)
    rows = database.execute(
        f"SELECT product, version, day, fingerprint, state, seen, since, until FROM"
        f" (SELECT traits, at / {_DAY_MS} AS day, state, count(*) AS seen, min(at) AS since, max(at) AS until"
        f" FROM (SELECT traits, at, state FROM crashes WHERE {where} ORDER BY at DESC LIMIT {COUNTED})"
        " GROUP BY 1, 2, 3) JOIN traits ON number = traits",
        values,
    ).fetchall()
    groups: Counter[_Group] = Counter()
    for product, version, day, fingerprint, state, count, _, _ in rows:
        groups[product, version, day_of_time(day * _DAY_S), fingerprint, state] += count
    since = min((row[6] / 1000 for row in rows), default=None)
    until = max((row[7] / 1000 for row in rows), default=None)
    return groups, groups.total() < COUNTED, since, until


def _not_kept(
    database: sqlite3.Connection, words: Sequence[SearchWord], since: float | None, until: float | None
) -> int | None:
    """Count the reports that were not kept, from the hour of C{since} to that of C{until}."""
    if since is None or until is None or not all(_is_chosen(word) and word.name in _COUNTED_BY for word in words):
        return None
    conditions = " AND ".join(["hour BETWEEN ? AND ?", *(_COUNTED_BY[word.name] for word in words)])
    values = [day_begins(word.value) // _DAY_S if word.name == "day" else word.value for word in words]
    (number,) = database.execute(
        f"SELECT coalesce(sum(seen - kept), 0) FROM hours WHERE {conditions}", [since // 3600, until // 3600, *values]
    ).fetchone()
    return int(number)


def _fits(group: _Group, chosen: Sequence[SearchWord], except_for: str = "") -> bool:
    return all(group[FACETS.index(word.name)] == word.value for word in chosen if word.name != except_for)


def _facets(database: sqlite3.Connection, groups: Counter[_Group], chosen: Sequence[SearchWord]) -> Sequence[Facet]:
    return [_facet(database, name, groups, chosen) for name in FACETS]


def _facet(database: sqlite3.Connection, name: str, groups: Counter[_Group], chosen: Sequence[SearchWord]) -> Facet:
    number = FACETS.index(name)
    counts: Counter[str] = Counter()
    for group, count in groups.items():
        if group[number] and _fits(group, chosen, name):
            counts[group[number]] += count
    if name == "state" and counts:
        counts["quarantined"] += 0  # that there are none is worth to be said
    asked = [word.value for word in chosen if word.name == name]
    best = sorted(counts, reverse=True) if name == "day" else [value for value, _ in counts.most_common()]
    values = [value for value in best if value in asked]
    values += [value for value in best if value not in asked][: _VALUES - len(values)]
    values.sort(key=best.index)
    return Facet(
        name=name,
        values=[
            FacetValue(
                word=written(name, value),
                label=_label(database, name, value),
                count=counts[value],
                is_chosen=value in asked,
            )
            for value in values
        ],
        others=len(counts) - len(values),
        others_count=counts.total() - sum(counts[value] for value in values),
    )


def _label(database: sqlite3.Connection, name: str, value: str) -> str:
    if name != "fingerprint":
        return value
    found = database.execute("SELECT place FROM fingerprints WHERE fingerprint = ?", (value,)).fetchone()
    return found[0] if found else value
