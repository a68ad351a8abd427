"""
Makes the annotations of a report of its texts: those of its parts, of JSON in parts, and of the query of its URL.
"""

import json
from collections.abc import Iterable, Iterator, Sequence

from attrs import evolve

from collectord.annotations import FORM_CHARSET, free_name, free_names
from collectord.intake.charsets import WITHOUT_NUL, TextDecoder, is_wide, without_surrogates
from collectord.intake.extra import Extra, parse_extra
from collectord.intake.room import shown
from collectord.model import Note, NoteKind

NO_ANNOTATIONS = Note("repaired", "the report came without annotations")
_NAMED = 20
"""Of more annotations that have the same problem, only the number is noted."""

_UNNAMED = "unnamed"
_GIVEN = "this name was given to an annotation that has none"


class ReceivedTexts:
    """
    The texts of one report, as they come. Once all of it has come they become its annotations.

    @param most_items: in the JSON of a part, as for L{parse_extra}. The members of the parts before count as well.
    @param most_levels: in the JSON of a part, as for L{parse_extra}.
    @ivar has_json: whether annotations came as JSON.
    @ivar refusal: the reason to refuse a report that has no dump, either; empty if some text is understood, or if there
        is none.
    """

    has_json = False
    refusal = ""

    def __init__(self, *, most_items: int, most_levels: int) -> None:
        self._items_left = most_items
        self._most_levels = most_levels
        self._decoder = TextDecoder()
        self._parts: dict[str, tuple[bytes, str | None]] = {}
        self._nameless: list[tuple[bytes, str | None]] = []
        self._members: dict[str, str] = {}
        self._rests: list[tuple[str, Extra]] = []
        self._noted: dict[tuple[NoteKind, str], list[str]] = {}

    def add_part(self, name: str, content: bytes, charset: str | None) -> None:
        """
        Take the annotation in one part. If its name came before, the last one counts.

        @param name: of the part. One without a name gets one in the end.
        @param charset: that the part names; None if it names none.
        """
        if not name:
            self._nameless.append((content, charset))
            return
        if name in self._parts and self._parts[name][0] != content:
            self._note("left_out", name, "came again with another value; the last one counts")
        self._parts[name] = content, charset

    def add_json(self, name: str, content: bytes, charset: str | None) -> int:
        """
        Take the annotations in the JSON of one part, and return how many there are. What is no JSON becomes an
        annotation itself.

        @param name: of the part.
        @param charset: that the part names; None if it names none.
        """
        self.has_json = True
        text = self._decoded(name, content, self._charset_of_json(name, content, charset)).removeprefix("\ufeff")
        extra = parse_extra(text, most_items=self._items_left, most_levels=self._most_levels)
        self._items_left -= len(extra.members)  # each takes memory, however short it is
        self._add_members(extra.members if "\\u" not in text else self._cleaned_all(extra.members))
        if extra.rest:
            self._rests.append((name, evolve(extra, members=())))
        elif extra.problem:
            self._note("repaired", name, extra.problem)
        return len(extra.members)

    def _charset_of_json(self, name: str, content: bytes, charset: str | None) -> str:
        """JSON shows by its first bytes whether it is in UTF-16 or UTF-32, whatever its part says."""
        detected = json.detect_encoding(content)
        if not charset:
            return detected
        if content and is_wide(charset) != is_wide(detected):
            self._note("repaired", name, f"it is not in the charset that it names, but in {detected}")
            return detected
        return charset

    def finish(self, query: Iterable[tuple[bytes, bytes]] = ()) -> dict[str, str]:
        """
        Return the annotations. JSON counts more than parts, and both count more than the query.

        @param query: the fields of the query of the URL, their names and values.
        """
        annotations = self._of_parts()
        replaced = [name for name, value in self._members.items() if annotations.get(name, value) != value]
        for name in replaced:
            self._note("left_out", name, "came as a part, too, with another value; that in the JSON counts")
        if annotations and self._members and not replaced:
            self._note("repaired", "", "annotations came both as parts and as JSON")
        annotations |= self._members
        if "" in annotations:
            name = free_name(_UNNAMED, annotations)
            annotations[name] = annotations.pop("")
            self._note("renamed", name, _GIVEN)
        for sent_name, sent_value in query:
            name = self._decoded(sent_name.decode(errors="replace"), sent_name, None) or _UNNAMED
            value = self._decoded(name, sent_value, None)
            if annotations.setdefault(name, value) != value:
                self._note("left_out", name, "came with another value in the query of the URL, which is left out")
        if not annotations:
            self.refusal = next((extra.refusal for _, extra in self._rests), "")
        free: dict[str, Iterator[str]] = {}
        for name, extra in self._rests:
            kept_as = next(free.setdefault(name, free_names(name or _UNNAMED, annotations)))
            annotations[kept_as] = extra.rest
            self._note("repaired", name, f"{extra.problem}; what could not be read is kept as text, in {kept_as}")
        return annotations

    def notes(self) -> Sequence[Note]:
        """Return what was left out of the annotations or changed."""
        notes = []
        for (kind, text), names in self._noted.items():
            notes += [Note(kind, f"{shown(name)}: {text}" if name else text) for name in names[:_NAMED]]
            if len(names) > _NAMED:
                notes.append(Note(kind, f"{len(names) - _NAMED} more: {text}"))
        return notes

    @property
    def form_is_wide(self) -> bool:
        """Whether a field has come that says of text in parts that it has NUL bytes in it."""
        return FORM_CHARSET in self._parts and is_wide(self._form_charset)

    @property
    def _form_charset(self) -> str:
        return self._parts.get(FORM_CHARSET, (b"", None))[0][:40].decode("latin-1").strip()

    def _of_parts(self) -> dict[str, str]:
        form_charset = self._form_charset
        annotations = {
            name: content.decode()
            if not (charset or form_charset) and content.isascii() and b"\0" not in content
            else self._decoded(name, content, charset or ("" if name == FORM_CHARSET else form_charset))
            for name, (content, charset) in self._parts.items()
        }
        if self._nameless:
            for name, (content, charset) in zip(free_names(_UNNAMED, annotations), self._nameless, strict=False):
                annotations[name] = self._decoded(name, content, charset or form_charset)
                self._note("renamed", name, _GIVEN)
        return annotations

    def _add_members(self, members: Iterable[tuple[str, str]]) -> None:
        for name, value in members:
            if self._members.setdefault(name, value) != value:
                self._members[name] = value
                self._note("left_out", name, "came again with another value; the last one counts")

    def _cleaned_all(self, members: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        for sent_name, value in members:
            name = self._cleaned(None, sent_name)
            yield name, self._cleaned(name, value)

    def _cleaned(self, name: str | None, text: str) -> str:
        """C{text} without what could be neither stored nor sent on."""
        if "\0" in text:
            text = text.replace("\0", "")
            self._note(WITHOUT_NUL.kind, text if name is None else name, WITHOUT_NUL.text)
        if not text.isascii():
            whole = without_surrogates(text)
            if whole != text:
                text = whole
                self._note("replaced", text if name is None else name, "half of a surrogate pair is replaced by U+FFFD")
        return text

    def _decoded(self, name: str, content: bytes, charset: str | None) -> str:
        text, notes = self._decoder.decode(content, charset)
        for note in notes:
            self._note(note.kind, name.replace("\0", ""), note.text)
        return text

    def _note(self, kind: NoteKind, name: str, text: str) -> None:
        self._noted.setdefault((kind, text), []).append(name)
