"""
Splits the query of a URL into its fields.
"""

from collections.abc import Callable
from urllib.parse import unquote_to_bytes


def query_of(uri: bytes) -> bytes:
    """Return the query in C{uri}; empty if there is none."""
    return uri.partition(b"?")[2].partition(b"#")[0]


def fields_of(query: bytes, *, most: int, most_bytes: int) -> tuple[list[tuple[bytes, bytes]], int]:
    """
    Return the names and values of the fields of C{query}, and how many are left out.

    @param most: how many fields there may be.
    @param most_bytes: how many bytes their names and values may take together.
    """
    sent = [field for field in query.split(b"&") if field]
    fields: list[tuple[bytes, bytes]] = []
    for field in sent[:most]:
        name, value = _field(field)
        most_bytes -= len(name) + len(value)
        if most_bytes < 0:
            break
        fields.append((name, value))
    return fields, len(sent) - len(fields)


def values_in(query: bytes) -> dict[str, str]:
    """Return the values of the fields of C{query} by name; of those with the same name the first. It is not bounded."""
    values: dict[str, str] = {}
    for field in filter(None, query.split(b"&")):
        name, value = _field(field)
        values.setdefault(name.decode(errors="replace"), value.decode(errors="replace"))
    return values


def without_fields(query: bytes, is_dropped: Callable[[str], bool]) -> bytes:
    """Return C{query} without the fields of the names that C{is_dropped} is true of."""
    fields = filter(None, query.split(b"&"))
    return b"&".join(field for field in fields if not is_dropped(_field(field)[0].decode(errors="replace")))


def _field(field: bytes) -> tuple[bytes, bytes]:
    name, _, value = field.replace(b"+", b" ").partition(b"=")
    return unquote_to_bytes(name), unquote_to_bytes(value)
