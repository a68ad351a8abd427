"""
Loads the rows of the dialects that are taken: the built-in ones that the settings name, and those in the settings.
"""

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from pydantic import ValidationError

from collectord.dialects.row import Dialect
from collectord.errors import ConfigError
from collectord.nearest import known_in_words

_Table = Mapping[str, Any]


def builtin_dialects() -> Sequence[str]:
    """Return the names of the dialects that come with collectord."""
    return sorted(each.name.removesuffix(".toml") for each in _directory().iterdir() if each.name.endswith(".toml"))


def load_dialects(names: Sequence[str], tables: Sequence[Mapping[str, Any]]) -> Sequence[Dialect]:
    """
    Load the rows of some dialects, in the order in which they are tried.

    @param names: of built-in dialects.
    @param tables: rows of the operator, which come first. One without a path is none: its keys take the place of those
        of the built-in rows of its name.

    @raise ConfigError: there is no such dialect, or a row can't be used; the text names the row and the key.
    """
    rows: list[Dialect] = []
    changes: dict[str, Mapping[str, Any]] = {}
    for number, table in enumerate(tables):
        where = f"[[submission.dialect]] {number}{_named(table)}"
        if "path" in table:
            rows.append(_row(table, where))
        elif table.get("name") not in names:
            raise ConfigError(f"{where}: path is missing, and no built-in dialect of its name is in dialects")
        else:
            changes[str(table["name"])] = table
    for name in names:
        if name not in builtin_dialects():
            raise ConfigError(f"[submission] dialects: {name!r} is unknown; known are {', '.join(builtin_dialects())}")
        for number, table in _changed(_builtin(name), changes.get(name, {})):
            where = f"dialect {name}, row {number}" + (", as [[submission.dialect]] changes it" * (name in changes))
            rows.append(_row(table, where))
    if not rows:
        raise ConfigError("[submission] dialects: there is none, so no report could be received")
    return rows


def _directory() -> Any:
    return files("collectord.dialects") / "builtin"


@cache
def _builtin(name: str) -> Sequence[Mapping[str, Any]]:
    tables: Sequence[Mapping[str, Any]] = tomllib.loads((_directory() / f"{name}.toml").read_text("utf-8"))["dialect"]
    return tables


def _changed(rows: Sequence[_Table], changes: _Table) -> Sequence[tuple[int, _Table]]:
    """
    Change rows, and number them. If only some keys are taken, the rows that have no place for one are left out; but not
    if that is so of all, which has to be told.
    """
    changed = list(enumerate(({**row, **changes} for row in rows), 1))
    with_key = [(number, row) for number, row in changed if "key" in row]
    return with_key if "keys" in changes and with_key else changed


def _named(table: Mapping[str, Any]) -> str:
    return f" {table['name']!r}" if isinstance(table.get("name"), str) else ""


def _row(table: Mapping[str, Any], where: str) -> Dialect:
    try:
        return Dialect.model_validate(table)
    except ValidationError as e:
        raise ConfigError("\n".join(f"{where}: {_described(error)}" for error in e.errors())) from e


def _described(error: Any) -> str:
    keys = [str(key) for key in error["loc"]]
    if keys[:1] == ["keys"]:  # what comes after it may be a key
        return "keys: has to be a table of texts: keys, and a ProductName for each"
    where = ".".join(keys)
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown key; {known_in_words(keys[-1], Dialect.model_fields)}"
    if error["type"] == "missing":
        return f"{where}: is missing"
    message = error["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


[SUBMIT] = load_dialects(["submit"], [])
"""The dialect of those who call nothing else theirs: Crashpad, Breakpad, Firefox."""
