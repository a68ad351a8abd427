"""
Makes a L{CrashReport} of the parts of a multipart body: which part is an annotation, which is a dump, and its name.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from collectord.dialects.query import fields_of
from collectord.errors import MalformedReport, NoDump, TooLarge
from collectord.intake.bodyparser import BodyParser, PartEvent
from collectord.intake.budget import MemoryBudget
from collectord.intake.buffer import DumpBuffer
from collectord.intake.charsets import drop_cut_character
from collectord.intake.files import LONGEST_TEXT, ReceivedFiles
from collectord.intake.formdata import Field
from collectord.intake.partcount import PartCount
from collectord.intake.partheaders import Part, text_of
from collectord.intake.room import OF_FILE, OF_TEXT, AnnotationRoom, shown
from collectord.intake.texts import NO_ANNOTATIONS, ReceivedTexts
from collectord.intake.transfer import Decoder, decoder_for
from collectord.intake.undecided import End, Sink, UndecidedPart, Write, is_binary, is_plain
from collectord.model import MINIDUMP, CrashReport, Note, NoteKind, Payload

_EVENTS = 100
"""Beginnings, pieces and ends of parts that are taken at once: they take a millisecond."""

_EndText = Callable[[str, bytes, str | None], None]
"""Takes a whole text: the name of its part, its bytes, and the charset that the part names, or None."""


class ReportBuilder:
    """
    Builds one report of one body, which it is fed with. All of it is for the reactor thread.

    @param parser: splits the body.
    @param new_buffer: makes a buffer for a dump of that name.
    @param budget: the memory that all uploads share.
    @param max_file_bytes: that are kept of all files together.
    @param max_parts: that are kept.
    @param max_annotation_bytes: that are kept of all annotations together, names and values.
    @param texts: makes annotations of texts.
    """

    def __init__(
        self,
        parser: BodyParser,
        new_buffer: Callable[[str], DumpBuffer],
        budget: MemoryBudget,
        *,
        max_file_bytes: int,
        max_parts: int,
        max_annotation_bytes: int,
        texts: ReceivedTexts,
    ) -> None:
        self._parser = parser
        self._files = ReceivedFiles(new_buffer, max_file_bytes)
        self._room = AnnotationRoom(budget, max_annotation_bytes)
        self._texts = texts
        self._parts = PartCount(max_parts)
        self._takes_json = False
        self._notes: list[Note] = []
        self._write: Write = _nothing
        self._end: End = _nothing

    def feed(self, data: bytes) -> Iterator[None]:
        """
        Take the next bytes of the body, and yield now and then, so that others may have their turn.

        Consume all of it before the next call.

        @raise ReportRefused: the report is refused.
        @raise StorageError: a dump that does not fit into memory can't be kept anywhere else.
        """
        return self._take_in(self._parser.parse(data))

    def _take_in(self, events: Iterable[PartEvent]) -> Iterator[None]:
        for number, event in enumerate(events, 1):
            if isinstance(event, Field):
                self._take_field(event)
            elif event is None:
                self._end()
            elif isinstance(event, bytes):
                self._write(event)
            else:
                self._begin(event)
            if number % _EVENTS == 0 or (event is None and self._takes_json):
                yield

    async def finish(
        self,
        payload_size: int,
        query: bytes,
        *,
        compressed: bool,
        user_agent: str,
        bearer_token: str | None,
        sender_stores: Sequence[str] = (),
        sender_notes: Sequence[str] = (),
        notes: Sequence[Note] = (),
        is_whole: bool = True,
        wants_dump: bool = False,
        address: str | None = None,
    ) -> CrashReport:
        """
        The report. To be called after the last byte.

        @param payload_size: bytes of the body, as it was sent.
        @param query: of the URL. It has annotations that did not come in the body.
        @param compressed: it was sent compressed.
        @param notes: what was put right before the body came here.
        @param is_whole: nothing of the body was lost before it came here.
        @param wants_dump: without one it is refused: by L{NoDump}, if none was sent.
        @param address: of the client, if it is wanted.
        @raise ReportRefused: as L{feed}.
        @raise StorageError: as L{feed}.
        """
        for _ in self._take_in(self._parser.close()):
            pass
        is_whole = is_whole and self._parser.is_whole
        if sender_stores and not is_whole:
            # The sender is another collector, which removes its copy once this is acknowledged, and that one is whole.
            raise MalformedReport("invalid_payload_structure")
        self._notes += [*self._parser.notes, *notes]
        fields, left_out = fields_of(query, most=self._parts.most, most_bytes=self._room.left)
        if left_out:
            self._note("left_out", f"{left_out} fields of the query of the URL are left out: there are too many")
        annotations = self._texts.finish(fields)
        dumps = await self._files.finish()
        if not dumps and (wants_dump or self._texts.refusal or not annotations):
            if self._files.notes():
                raise TooLarge
            if wants_dump and is_whole and not self._texts.refusal:
                raise NoDump
            otherwise = "invalid_payload_structure" if wants_dump else "no_annotations"
            raise MalformedReport(self._texts.refusal or otherwise)
        if not annotations:
            self._notes.append(NO_ANNOTATIONS)
        structure = "json" if self._texts.has_json else self._parser.structure
        return CrashReport(
            annotations=annotations,
            dumps=dumps,
            notes=[*self._notes, *self._texts.notes(), *self._notes_on_limits()],
            payload=Payload(structure=structure, compressed=compressed, size=payload_size, user_agent=user_agent),
            bearer_token=bearer_token,
            sender_stores=sender_stores,
            sender_notes=sender_notes,
            has_minidump=self._files.has_filled_minidump,
            address=address,
        )

    def release(self) -> None:
        """Free what is held for the report, which is saved or given up."""
        self._write, self._end = _nothing, _nothing
        self._room.release()
        self._files.release()

    def _take_field(self, field: Field) -> None:
        """Take a whole part. If nothing about it is odd, it is an annotation, and this takes a tenth of the time."""
        name, content = field
        parts = self._parts
        if parts.count < parts.most and is_plain(content) and self._room.take_text(len(name) + len(content)):
            parts.count += 1
            self._texts.add_part(name, content, None)
        else:
            self._begin(Part(name))
            if content:
                self._write(content)
            self._end()

    def _begin(self, part: Part) -> None:
        self._write, self._end = _nothing, _nothing
        self._takes_json = False
        self._parts.count += 1
        if self._parts.are_too_many and not self._parts.may_be_the_minidump(part, self._files):
            self._leave_out(part)
            return
        name = self._name_of(part)
        if self._parts.are_too_many and name != MINIDUMP:
            write, end = self._collect_minidump(part, name)
        elif part.content_type == "application/json" and (name == "extra" or not part.filename):
            self._takes_json = True
            write, end = self._collect(part, name, self._add_json)
        elif not part.filename and part.content_type in (None, "text/plain"):
            write, end = self._collect(part, name, self._texts.add_part)
        else:
            write, end = self._begin_file(part, name)
        decoder = decoder_for(part.transfer_encoding)
        if decoder is None:
            self._write, self._end = write, end
        else:
            self._write = lambda data: write(decoder.feed(data))
            self._end = lambda: self._end_encoded(name, decoder, write, end)

    def _leave_out(self, part: Part) -> None:
        self._parts.leave_out(text_of(part.name or "") or "")
        if self._parts.are_far_too_many:
            self._parser.pass_over(but_for=b"" if self._parts.are_enough else MINIDUMP.encode())

    def _name_of(self, part: Part) -> str:
        sent = part.name or ""
        text = text_of(sent)
        if text is not None and "\0" not in text:
            return text
        name = (sent if text is None else text).replace("\0", "")
        if self._parts.are_too_many:
            return name
        if text is None:
            self._note("repaired", f"{shown(name)}: this name was not UTF-8, and is read as latin-1")
        if "\0" in sent:
            self._note("left_out", f"{shown(name)}: NUL characters in its name are left out")
        return name

    def _collect_minidump(self, part: Part, name: str) -> Sink:
        """Keep nothing but a minidump, which is known by its first bytes."""

        def file() -> Sink:
            self._parts.has_minidump = True
            return self._begin_file(part, name)

        undecided = UndecidedPart(
            take=lambda size: 0,
            give_back=lambda size: None,
            is_binary=lambda value: False,
            text=lambda value, lost: self._parts.leave_out(name),
            file=file,
        )
        return undecided.write, undecided.end

    def _collect(self, part: Part, name: str, end: _EndText) -> Sink:
        size = len(name.encode())
        has_room = size <= self._room.left
        room = self._room.take(size) if has_room else 0

        def text(value: bytearray, lost: int) -> None:
            if not has_room:
                self._room.leave_out(name)
            elif name or value:
                self._end_text(part, name, value, lost, end)

        def file() -> Sink:
            self._room.give_back(room)
            return self._begin_file(part, name)

        charset = part.charset or ("utf-16" if self._texts.form_is_wide else "")
        is_json = part.content_type == "application/json"
        is_likely = name.startswith(MINIDUMP)
        looks_binary: Callable[[bytearray], bool] = is_binary
        if charset or is_json or is_likely:
            looks_binary = partial(is_binary, charset=charset, is_json=is_json, is_likely=is_likely)
        take = self._room.take if has_room else lambda size: 0
        undecided = UndecidedPart(take, self._room.give_back, looks_binary, text, file)
        return undecided.write, undecided.end

    def _add_json(self, name: str, content: bytes, charset: str | None) -> None:
        self._room.hold(OF_TEXT * self._texts.add_json(name, content, charset))

    def _end_text(self, part: Part, name: str, value: bytearray, lost: int, end: _EndText) -> None:
        if lost:
            self._note("cut", f"{shown(name)}: cut after {len(value)} bytes; {lost} more are left out")
            if part.charset is None:
                drop_cut_character(value)
        self._room.hold(OF_TEXT)
        end(name, bytes(value), part.charset)

    def _begin_file(self, part: Part, name: str) -> Sink:
        filename, content_type = _text_of(part.filename), _text_of(part.whole_type or part.content_type)
        sent = name or (filename or "").rpartition(".")[0] or filename or ""
        self._room.hold(OF_FILE)
        file = self._files.begin(sent, filename, content_type)
        dump_name = file.buffer.name
        if dump_name == MINIDUMP:
            self._parts.has_named_minidump = self._parts.has_minidump = True
        if dump_name != name:
            called = name or filename or ""
            self._note("renamed", f"the file {called and shown(called)!r} is called {dump_name}")
        if max(len(filename or ""), len(content_type or "")) > LONGEST_TEXT:
            self._note("cut", f"{dump_name}: its file name or type is cut after {LONGEST_TEXT} characters")
        return file.write, file.end

    def _end_encoded(self, name: str, decoder: Decoder, write: Write, end: End) -> None:
        write(decoder.finish())
        end()
        is_kept = not self._parts.are_too_many or self._parts.has_minidump
        if decoder.problem and is_kept:
            self._note("repaired", f"{shown(name)}: {decoder.problem}")

    def _note(self, kind: NoteKind, text: str) -> None:
        self._notes.append(Note(kind, text))

    def _notes_on_limits(self) -> list[Note]:
        at_least = self._parser.has_passed_over
        return [*self._files.notes(), *self._room.notes(), *self._parts.notes(at_least=at_least)]


def _text_of(header: str | None) -> str | None:
    return header and (text_of(header) or header).replace("\0", "")


def _nothing(*data: bytes) -> None:
    pass
