"""
Documents in a report, from which annotations are taken: JSON, MessagePack and XML, each read with bounds.

What can't be read has nothing in it: the document itself is kept as it came.
"""

import json
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final
from xml.parsers.expat import ExpatError, ParserCreate

from collectord.dialects.msgpack import read_msgpack
from collectord.jsontext import TooManyItems, depth_of, parse_json

MOST_BYTES: Final = 1024 * 1024
"""A document that is larger is not read."""

_MOST_ITEMS: Final = 10_000
_LEVELS: Final = 100


def read_document(kind: str, data: bytes) -> object:
    """
    Read a document: lists, mappings by text, and values.

    @param kind: C{json}, C{msgpack} or C{xml}.

    @raise ValueError: it can't be read, or is too large; the text says why.
    """
    if len(data) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES} bytes")
    return _READERS[kind](data)


def text_at(document: object, path: Sequence[str]) -> str | None:
    """
    Return the value at C{path} as text; None if there is none.

    @param path: the names of members, or numbers of those of a list, which may be counted from its end: C{-1}.
    """
    found = at(document, path)
    return None if found is None else as_text(found)


def members_at(document: object, path: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the names and values of the mapping at C{path}, or of the pairs in the list there, as text."""
    found = at(document, path)
    pairs: Any = found.items() if isinstance(found, Mapping) else found if isinstance(found, list) else ()
    for pair in pairs:
        if isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str) and pair[1] is not None:
            yield pair[0], as_text(pair[1])


def at(document: object, path: Sequence[str]) -> object:
    """Return the value at C{path}, as L{text_at} has it; None if there is none."""
    for name in path:
        if isinstance(document, Mapping):
            document = document.get(name)
        elif isinstance(document, list) and name.removeprefix("-").isdecimal() and len(name) < 10:
            number = int(name)
            document = document[number] if -len(document) <= number < len(document) else None
        else:
            return None
    return document


def as_text(value: object) -> str:
    """Return a value as an annotation has it: a text as it is, any other as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _json(data: bytes) -> object:
    try:
        document = parse_json(data.decode(json.detect_encoding(data)).removeprefix("\ufeff"), _MOST_ITEMS)
    except TooManyItems as e:
        raise ValueError("it has too many values") from e
    if depth_of(document) > _LEVELS:  # Python could read more levels than it can write
        raise ValueError("it has too many levels")
    return document


def _msgpack(data: bytes) -> object:
    return read_msgpack(data, _MOST_ITEMS)


def _xml(data: bytes) -> object:
    """
    Elements become mappings by the names of those in them, and texts where there are none. Attributes are passed over.
    Of several of one name in an element the first counts. It is in UTF-8 or UTF-16, whatever it says itself: Python
    would look for any codec, and find some that are none of text.
    """
    is_wide = data.startswith((BOM_UTF16_LE, BOM_UTF16_BE))
    text = data.decode("utf-16" if is_wide else "utf-8-sig", errors="replace").rstrip("\0")
    if text.count("=") > _MOST_ITEMS:  # an element is parsed at once, with all its attributes
        raise ValueError("it may have too many attributes")
    if "<!DOCTYPE" in text:  # it can give any number of attributes to each element
        raise ValueError("it has a DOCTYPE")
    root: dict[str, object] = {}
    open_elements: list[tuple[dict[str, object], str, list[str]]] = [(root, "", [])]
    count = 0

    def begin(name: str, attributes: object) -> None:
        nonlocal count
        count += 1
        if count > _MOST_ITEMS or len(open_elements) > _LEVELS:
            raise ValueError("it has too many elements")
        open_elements.append(({}, name, []))

    def end(name: str) -> None:
        members, _, texts = open_elements.pop()
        open_elements[-1][0].setdefault(name, members or "".join(texts).strip())

    parser = ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = begin, end
    parser.CharacterDataHandler = lambda text: open_elements[-1][2].append(text)
    try:
        parser.Parse(text, True)
    except ExpatError as e:
        raise ValueError(f"it is no XML: {e}") from e
    return root


_READERS: Mapping[str, Callable[[bytes], object]] = {"json": _json, "msgpack": _msgpack, "xml": _xml}
DOCUMENTS: Final = tuple(_READERS)
"""The kinds of documents."""
