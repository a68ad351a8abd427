"""
Rows as an operator writes them, and requests to them.
"""

import tomllib
from typing import Any

from attrs import field, frozen

from collectord.dialects.row import Dialect
from collectord.dialects.table import Asked, DialectTable


def row(text: str) -> Dialect:
    """Of C{path = …} and what else there is."""
    return Dialect.model_validate({"name": "some", **tomllib.loads(text)})


def tables(text: str) -> list[dict[str, Any]]:
    """Of C{[[row]]} and so on."""
    found: list[dict[str, Any]] = tomllib.loads(text)["row"]
    return found


@frozen
class Head:
    """The head of a request."""

    uri: bytes
    headers: dict[bytes, bytes] = field(factory=dict)

    def getHeader(self, key: bytes) -> bytes | None:
        return self.headers.get(key)


def asked(table: DialectTable, url: str, **headers: str) -> Asked | None:
    uri = url.encode()
    head = Head(uri, {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()})
    return table.find(uri.partition(b"?")[0], head)
