"""
Splits the query of a URL into its fields.
"""

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
        name, _, value = (unquote_to_bytes(text) for text in field.replace(b"+", b" ").partition(b"="))
        most_bytes -= len(name) + len(value)
        if most_bytes < 0:
            break
        fields.append((name, value))
    return fields, len(sent) - len(fields)
