"""
Makes a L{CrashReport} of the parts of a multipart body: which part is an annotation, which is a dump, and its name.
"""

import re
from collections.abc import Callable, Iterable, Sequence

from collectord.errors import MalformedReport, TooLarge
from collectord.intake.budget import MemoryBudget
from collectord.intake.buffer import DumpBuffer
from collectord.intake.formdata import FormDataParser
from collectord.intake.partheaders import Part, text_of
from collectord.intake.query import fields_of
from collectord.intake.texts import ReceivedTexts
from collectord.model import CrashReport, Note, NoteKind, Payload

_NAME_LENGTH = 30
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_]")
_RESERVED_NAMES = frozenset({"dump_names", "raw_crash", "processed_crash", "dump"})


class ReportBuilder:
    """
    Builds one report of one multipart body, which it is fed with. All of it is for the reactor thread.

    @param new_buffer: makes a buffer for a dump of that name.
    @param budget: the memory that all uploads share.
    @param max_annotation_bytes: of all annotations together, names and values.
    @param texts: makes annotations of texts.
    """

    def __init__(
        self,
        boundary: bytes,
        new_buffer: Callable[[str], DumpBuffer],
        budget: MemoryBudget,
        *,
        max_parts: int,
        max_annotation_bytes: int,
        texts: ReceivedTexts,
    ) -> None:
        self._parser = FormDataParser(boundary)
        self._new_buffer = new_buffer
        self._budget = budget
        self._texts = texts
        self._annotation_bytes = 0
        self._max_parts = self._parts_left = max_parts
        self._annotation_bytes_left = max_annotation_bytes
        self._notes: list[Note] = []
        self._buffers: dict[str, DumpBuffer] = {}
        self._repeats: dict[str, int] = {}
        self._write: Callable[[bytes], None] = _ignore
        self._end: Callable[[], None] = _nothing

    def feed(self, data: bytes) -> None:
        """
        Take the next bytes of the body.

        @raise ReportRefused: the report is refused.
        @raise StorageError: a dump that does not fit into memory can't be kept anywhere else.
        """
        self._take_in(self._parser.parse(data))

    def _take_in(self, events: Iterable[Part | bytes | None]) -> None:
        for event in events:
            if event is None:
                self._end()
            elif isinstance(event, bytes):
                self._write(event)
            else:
                self._begin(event)

    async def finish(
        self,
        payload_size: int,
        query: bytes,
        *,
        compressed: bool,
        user_agent: str,
        bearer_token: str | None,
        sender_stores: Sequence[str] = (),
    ) -> CrashReport:
        """
        The report. To be called after the last byte.

        @param payload_size: bytes of the body, as it was sent.
        @param query: of the URL. It has annotations that did not come in the body.
        @param compressed: it was sent compressed.
        @raise ReportRefused: as L{feed}.
        @raise StorageError: as L{feed}.
        """
        self._take_in(self._parser.close())
        self._notes += self._parser.notes
        fields, left_out = fields_of(query, most=self._max_parts, most_bytes=self._annotation_bytes_left)
        if left_out:
            self._note("left_out", f"{left_out} fields of the query of the URL are left out: there are too many")
        annotations = self._texts.finish(fields)
        if not self._buffers and (self._texts.refusal or not annotations):
            raise MalformedReport(self._texts.refusal or "no_annotations")
        if not annotations:
            self._note("repaired", "the report came without annotations")
        structure = "json" if self._texts.has_json else "multipart"
        return CrashReport(
            annotations=annotations,
            dumps=[await buffer.finish() for buffer in self._buffers.values()],
            notes=[*self._notes, *self._texts.notes()],
            payload=Payload(structure=structure, compressed=compressed, size=payload_size, user_agent=user_agent),
            bearer_token=bearer_token,
            sender_stores=sender_stores,
        )

    def release(self) -> None:
        """Free what is held for the report, which is saved or given up."""
        self._write, self._end = _ignore, _nothing
        self._budget.release_annotations(self._annotation_bytes)
        self._annotation_bytes = 0
        for buffer in self._buffers.values():
            buffer.release()

    def _begin(self, part: Part) -> None:
        self._parts_left -= 1
        if self._parts_left < 0:
            raise MalformedReport("too_many_parts")
        self._write, self._end = _ignore, _nothing
        name = text_of(part.name or "")
        if name is None:
            self._note("left_out", "a part whose name is not UTF-8 is left out")
            return
        name = name.replace("\0", "")
        if not name:
            self._note("left_out", "a part without a name is left out")
        elif part.content_type == "application/json" and (name == "extra" or not part.filename):
            self._collect(name, part.charset, self._texts.add_json)
        elif not part.filename and part.content_type in (None, "text/plain"):
            self._collect(name, part.charset, self._texts.add_part)
        else:
            self._begin_dump(name)

    def _collect(self, name: str, charset: str | None, end: Callable[[str, bytes, str | None], None]) -> None:
        value = bytearray()  # a list of tiny pieces would take many times their size

        def write(data: bytes) -> None:
            self._take(len(data))
            value.extend(data)

        self._take(len(name.encode()))
        self._write = write
        self._end = lambda: end(name, bytes(value), charset)

    def _take(self, size: int) -> None:
        self._annotation_bytes_left -= size
        if self._annotation_bytes_left < 0:
            raise TooLarge
        self._annotation_bytes += size
        self._budget.reserve_annotations(size)

    def _begin_dump(self, part_name: str) -> None:
        name = _NOT_IN_NAMES.sub("", part_name)[:_NAME_LENGTH] or "attachment"
        if name in _RESERVED_NAMES:
            raise MalformedReport("invalid_dump_name")
        if name in self._buffers:
            name = self._next_free(name)
            self._note("renamed", f"a dump name came again; this one is called {name}")
        buffer = self._buffers[name] = self._new_buffer(name)
        self._write, self._end = buffer.write, buffer.end

    def _note(self, kind: NoteKind, text: str) -> None:
        self._notes.append(Note(kind, text))

    def _next_free(self, name: str) -> str:
        while True:
            n = self._repeats[name] = self._repeats.get(name, 1) + 1
            suffix = f"_{n}"
            candidate = name[: _NAME_LENGTH - len(suffix)] + suffix
            if candidate not in self._buffers:
                return candidate


def _ignore(data: bytes) -> None:
    pass


def _nothing() -> None:
    pass
