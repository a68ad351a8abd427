"""
Places in a request: where a key may be, or the value of an annotation. C{query:api_key} is the field of that name in
the query of the URL.
"""

import re
from base64 import b64decode
from binascii import Error
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from attrs import frozen

from collectord.dialects.documents import DOCUMENTS
from collectord.dialects.query import values_in

_OF_KEYS: Final = ("query", "path", "header", "basic")
_OF_ANNOTATIONS: Final = ("field", "query", "path", *DOCUMENTS)
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_PARAMETER = r"(?:^|[,;\s]){}\s*=\s*\"?([^,;\s\"]*)"


class RequestHead(Protocol):
    """What a dialect looks at in a request: the URL and the headers."""

    @property
    def uri(self) -> bytes:
        """The URL as it was sent, without scheme and host, but with the query."""

    def getHeader(self, key: bytes) -> bytes | None:
        """The value of a header; None if there is none."""


@frozen
class RequestPlace:
    """
    One place in a request.

    @ivar kind: C{field}, C{query}, C{path}, C{header}, C{basic}, or the kind of a document.
    @ivar name: of the field, of the placeholder in the path, of the header, or of the part that is the document.
    @ivar parameter: in the value of the header; empty: all of the value. In a document: names with slashes between.
    """

    kind: str
    name: str = ""
    parameter: str = ""


def place_of_key(text: str) -> RequestPlace:
    """
    Return the place that C{text} says: C{query:key}, C{path:key}, C{header:X-Auth}, C{header:X-Auth#key} or C{basic}.

    @raise ValueError: it is none in which a key can be.
    """
    if text == "basic":
        return RequestPlace("basic")
    kind, _, name = text.partition(":")
    parameter = ""
    if kind == "header":
        name, _, parameter = name.partition("#")
    if kind not in _OF_KEYS or not name or (kind == "header" and not _HEADER_NAME.fullmatch(name)):
        raise ValueError('has to be "query:name", "path:name", "header:Name", "header:Name#parameter" or "basic"')
    return RequestPlace(kind, name, parameter)


def place_of_annotation(text: str) -> RequestPlace:
    """
    Return the place that C{text} says: C{field:name}, C{query:name}, C{path:name}, or C{json:part/name/name}, and so
    for other documents.

    @raise ValueError: it is none in which the value of an annotation can be.
    """
    kind, _, name = text.partition(":")
    parameter = ""
    if kind in DOCUMENTS:
        name, _, parameter = name.partition("/")
    if kind not in _OF_ANNOTATIONS or not name or (kind in DOCUMENTS and not parameter):
        documents = ", ".join(f'"{document}:part/name"' for document in DOCUMENTS)
        raise ValueError(f'has to be "field:name", "query:name", "path:name", {documents}')
    return RequestPlace(kind, name, parameter)


def key_at(
    place: RequestPlace, query: bytes, path: Mapping[str, str], header: Callable[[bytes], bytes | None]
) -> str | None:
    """
    Return the key at C{place}; None if none is there.

    @param path: the values of the placeholders in the path.
    @param header: returns the value of a header.
    """
    if place.kind == "query":
        return values_in(query).get(place.name)
    if place.kind == "path":
        return path.get(place.name)
    value = (header((place.name or "Authorization").encode()) or b"").decode(errors="replace")
    if place.kind == "basic":
        return _user_in(value)
    if not place.parameter:
        return value or None
    found = re.search(_PARAMETER.format(re.escape(place.parameter)), value)
    return found and found[1]


def _user_in(authorization: str) -> str | None:
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return b64decode(credentials.strip()).decode(errors="replace").partition(":")[0]
    except (Error, ValueError):
        return None
