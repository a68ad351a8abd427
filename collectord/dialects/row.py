"""
A row of the table of dialects: which requests it is for, what becomes of them, and what they are answered.
"""

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from functools import cached_property
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from collectord.dialects.answers import Answers
from collectord.dialects.documents import DOCUMENTS
from collectord.dialects.places import RequestPlace, place_of_annotation, place_of_key

PLACEHOLDER: Final = re.compile(r"\{([a-z_]+)(\*?)\}")
"""C{{name}}: all up to the next slash. C{{name*}}: all that is left of a path, slashes too."""


def _is_path(text: str) -> str:
    if not text.startswith("/") or "?" in text:
        raise ValueError('has to begin with a slash, and be without a query, as in "/api/{project}/minidump"')
    if text.startswith("/__"):
        raise ValueError("begins as the paths of the daemon's health do")
    return _with_placeholders(text)


def _with_placeholders(text: str) -> str:
    if re.search(r"[{}]", PLACEHOLDER.sub("", text)):
        raise ValueError("a placeholder is {name} or {name*}, in small letters")
    if re.search(r"\{[a-z_]+\*\}.", text):
        raise ValueError("{name*} has to be its end")
    if "}{" in text:
        raise ValueError("something has to be between two placeholders, as in {product}-{version}")
    names = [name for name, _ in PLACEHOLDER.findall(text)]
    if len(set(names)) < len(names):
        raise ValueError("a placeholder is there twice")
    return text


def _place(parse: object) -> BeforeValidator:
    def placed(value: object) -> object:
        if not isinstance(value, str):
            raise ValueError("has to be a text")
        return parse(value)  # type: ignore[operator]

    return BeforeValidator(placed)


_KeyPlace = Annotated[RequestPlace, _place(place_of_key)]
_AnnotationPlace = Annotated[RequestPlace, _place(place_of_annotation)]


class Dialect(BaseModel):
    """
    A row of the table of dialects. Several rows may have one name.

    @ivar path: of the URL, with placeholders; a slash at its end may be there or not.
    @ivar host: that clients ask for, with placeholders; empty: any.
    @ivar when: fields that the query of the URL has to have, and their values.
    @ivar body: what it is: parts, or nothing but a minidump (of these two the Content-Type may say which), or an
        envelope of Sentry's, or a container of Unreal Engine's.
    @ivar unpack: whether minidumps are unpacked that are packed inside of their part.
    @ivar key: the places where clients send a key; the first that has one counts.
    @ivar keys: the keys that are taken, each with its ProductName, or an empty text; None: any, and none, is taken.
    @ivar annotations: by the name of an annotation, where its value is if it was not sent by that name.
    @ivar spread: by a prefix, the documents of which all members become annotations, with that prefix.
    @ivar join: by the name of an annotation, the beginning of the names of those of which it is put together, which end
        with 1, 2, 3 and so on.
    @ivar keep_query: whether the fields of the query become annotations; or which of them do.
    @ivar minidump: the names of files which stand for the minidump. C{MDMP}: the first file that begins as one does.
    @ivar no_dump: what is done with a report without a dump: C{answer}: it gets that answer and is not kept.
    @ivar unavailable: what a client is answered if no store takes its crash: 503, or nothing: the connection is closed.
    @ivar cors: the origins whose pages may send reports and read the answers; C{*}: all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, arbitrary_types_allowed=True)

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    path: Annotated[str, AfterValidator(_is_path)]
    host: Annotated[str, AfterValidator(_with_placeholders)] = ""
    when: Mapping[str, str] = {}
    body: Literal["multipart", "dump", "multipart or dump", "envelope", "unreal"] = "multipart"
    unpack: bool = False
    key: Sequence[_KeyPlace] = ()
    keys: Mapping[str, str] | None = Field(default=None, repr=False)
    annotations: Mapping[str, Sequence[_AnnotationPlace]] = {}
    spread: Mapping[str, Sequence[_AnnotationPlace]] = {}
    join: Mapping[str, str] = {}
    keep_query: bool | Sequence[str] = True
    minidump: Sequence[str] = ()
    no_dump: Literal["keep", "refuse", "answer"] = "keep"
    answer: Answers = Answers()
    unavailable: Literal["503", "close"] = "503"
    cors: Sequence[str] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        known = {name for name, _ in PLACEHOLDER.findall(self.path + self.host)}
        for place in [*self.key, *self._sources]:
            if place.kind == "path" and place.name not in known:
                raise ValueError(f"path:{place.name}: there is no {{{place.name}}} in path or host")
        if self.keys is not None and not self.key:
            raise ValueError('keys: key has to say where they are, as in key = ["query:api_key"]')
        if self.keys is not None and (not self.keys or "" in self.keys):
            raise ValueError("keys: has to be a table of keys and product names")
        return self

    @property
    def _sources(self) -> Iterator[RequestPlace]:
        for sources in (*self.annotations.values(), *self.spread.values()):
            yield from sources

    @cached_property
    def documents(self) -> Set[tuple[str, str]]:
        """The kinds and the names of the documents from which annotations are taken."""
        return {(place.kind, place.name) for place in self._sources if place.kind in DOCUMENTS}

    @cached_property
    def is_plain(self) -> bool:
        """Whether its reports are kept as they came."""
        added = self.key or self.annotations or self.spread or self.join or self.minidump
        return self.keep_query is True and self.no_dump == "keep" and not added

    def drops(self, field: str) -> bool:
        """Tell whether a field of the query, by its name, is not kept. A key never is."""
        if any(place.kind == "query" and place.name == field for place in self.key):
            return True
        return field not in self.keep_query if not isinstance(self.keep_query, bool) else not self.keep_query
