"""
Splits an envelope of Sentry's SDKs into its items: the event of a crash and its attachments are wanted, no others.

A line of JSON comes first. Each item is a line of JSON, and then as many bytes as that says, or all up to the next line
end.
"""

from collections.abc import Iterator, Mapping
from enum import Enum, auto
from typing import Any, Final

from collectord.errors import MalformedReport
from collectord.intake.bodyparser import PartEvent
from collectord.intake.formdata import Field
from collectord.intake.partheaders import Part
from collectord.jsontext import TooManyItems, parse_json
from collectord.metrics import DROPPED_ITEMS, series
from collectord.model import MINIDUMP, Note

_LINE: Final = 64 * 1024
_MOST_VALUES: Final = 1000
"""Values that a line of JSON may have: 64 KiB of empty lists take 10 ms."""

_MOST_ITEMS: Final = 1000
_LONGEST_ID: Final = 100
_EVENT: Final = Part("event", filename="event.json", content_type="application/json")
_KNOWN: Final = ("session", "sessions", "transaction", "client_report", "log", "span", "user_report", "feedback")
"""The types of other items that are counted each by its name."""


class _State(Enum):
    ENVELOPE = auto()  # its first line is next
    ITEM = auto()  # the line of an item is next
    SIZED = auto()  # in an item whose length is known
    LINE = auto()  # in an item that ends with its line
    END = auto()  # what follows is not looked at


class EnvelopeParser:
    """
    Splits an envelope into the parts of a report, fed with its bytes as they come.

    It is a L{BodyParser<collectord.intake.bodyparser.BodyParser>}. The id in its first line becomes C{EventID}.
    """

    structure = "envelope"

    def __init__(self) -> None:
        self._state = _State.ENVELOPE
        self._held = b""
        self._left = 0
        self._is_wanted = False
        self._items = 0
        self._only_minidump = False
        self.has_passed_over = False
        self.is_whole = True
        self.notes: list[Note] = []

    def parse(self, data: bytes) -> Iterator[PartEvent]:
        """Take the next bytes, and yield what is in them."""
        data, self._held = self._held + data, b""
        while data:
            if self._state is _State.SIZED:
                piece, data = data[: self._left], data[self._left :]
                self._left -= len(piece)
                yield from self._passed_on(piece, ends=not self._left)
            elif self._state is _State.LINE:
                piece, line_end, data = data.partition(b"\n")
                yield from self._passed_on(piece, ends=bool(line_end))
            elif self._state is _State.END:
                return
            else:
                if self._state is _State.ITEM and not (data := data.lstrip(b"\r\n")):
                    return
                line, line_end, rest = data.partition(b"\n")
                if not line_end and len(data) <= _LINE:
                    self._held = data
                    return
                data = rest
                yield from self._header(line)

    def close(self) -> Iterator[PartEvent]:
        """
        The body has ended: yield what is still to come.

        @raise MalformedReport: C{invalid_payload_structure}: it has no first line.
        """
        line, self._held = self._held, b""
        if line or self._state is _State.ENVELOPE:
            yield from self._header(line)
        if self._state is _State.SIZED:
            self.is_whole = False
            self.notes.append(Note("repaired", f"the envelope is cut off: {self._left} bytes of an item are missing"))
        if self._state in (_State.SIZED, _State.LINE) and self._is_wanted:
            yield None
        self._state = _State.END

    def pass_over(self, *, but_for: bytes) -> None:
        """Pass over the rest of this item, and over those after it, but for the minidump if that is wanted."""
        self.has_passed_over = True
        self._only_minidump = True
        self._is_wanted = False
        if not but_for:
            self._items = _MOST_ITEMS

    def _passed_on(self, piece: bytes, *, ends: bool) -> Iterator[PartEvent]:
        if piece and self._is_wanted:
            yield piece
        if ends:
            self._state = _State.ITEM
            # One that is not wanted yields something, too, so that others may have their turn.
            yield None if self._is_wanted else b""

    def _header(self, line: bytes) -> Iterator[PartEvent]:
        if self._state is _State.ITEM and not line.strip():
            return
        header = _json(line)
        if self._state is _State.ENVELOPE:
            if header is None:
                raise MalformedReport("invalid_payload_structure")
            self._state = _State.ITEM
            event_id = header.get("event_id")
            if isinstance(event_id, str) and 0 < len(event_id) <= _LONGEST_ID:
                yield Field("EventID", event_id.encode(errors="replace"))
            return
        self._items += 1
        if header is None or self._items > _MOST_ITEMS:
            self._state = _State.END
            self.is_whole = False
            problem = "it is malformed" if header is None else f"there are more than {_MOST_ITEMS} items"
            self.notes.append(Note("left_out", f"the rest of the envelope is left out: {problem}"))
            return
        part = self._part(header)
        self._is_wanted = part is not None
        if part is None:
            kind = header.get("type")
            series(DROPPED_ITEMS, str(kind) if kind in _KNOWN else "other").inc()
        else:
            yield part
        length = header.get("length")
        if isinstance(length, int) and not isinstance(length, bool) and length >= 0:
            self._state, self._left = _State.SIZED, length
            if not length:
                yield from self._passed_on(b"", ends=True)
        else:
            self._state = _State.LINE

    def _part(self, header: Mapping[str, Any]) -> Part | None:
        """What an item is in a report; None if it is not wanted."""
        kind = header.get("type")
        if kind == "attachment" and header.get("attachment_type") == "event.minidump":
            return Part(MINIDUMP, filename=_header_text(header, "filename"), content_type="application/octet-stream")
        if self._only_minidump:
            return None
        if kind == "event":
            return _EVENT
        if kind == "attachment":
            filename = _header_text(header, "filename") or "attachment"
            content_type = _header_text(header, "content_type") or "application/octet-stream"
            return Part(filename, filename=filename, content_type=content_type)
        return None


def _json(line: bytes) -> Mapping[str, Any] | None:
    if len(line) > _LINE:
        return None
    try:
        header = parse_json(line.decode(), _MOST_VALUES)
    except (ValueError, TooManyItems):
        return None
    return header if isinstance(header, dict) else None


def _header_text(header: Mapping[str, Any], name: str) -> str | None:
    """A text in the header of an item, as the headers of a part are read: latin-1."""
    text = header.get(name)
    return text.encode(errors="replace").decode("latin-1") if isinstance(text, str) else None
