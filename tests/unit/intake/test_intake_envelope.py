import gzip
import json

import pytest

from collectord.errors import MalformedReport, NoDump, TooLarge
from collectord.intake.envelope import EnvelopeParser
from collectord.intake.receiver import Limits
from collectord.metrics import REGISTRY
from collectord.model import CrashReport
from tests.support.cases import for_each
from tests.unit.dialects.rows import row
from tests.unit.intake.parts import LIMITS
from tests.unit.intake.receiving import receive_as

ENVELOPE = row('path = "/a"\nbody = "envelope"\nno_dump = "answer"')
ID = "9ec79c33ec9942ab8353589fcb2e04dc"
EVENT = b'{"release":"a@1","message":"\xc3\xbc"}'
HEADER = b'{"event_id":"%s","dsn":"x"}\n' % ID.encode()
MINIDUMP = b"MDMP\n{}\n" + bytes(range(256)) * 10


def item(content: bytes, *, sized: bool = True, end: bytes = b"\n", **header: object) -> bytes:
    header |= {"length": len(content)} if sized else {}
    return json.dumps(header).encode() + b"\n" + content + end


def receive(content: bytes, piece: int = 65536) -> tuple[CrashReport, dict[str, bytes]]:
    return receive_as(ENVELOPE, content, piece=piece, content_type=None)


def dropped(kind: str) -> float:
    return REGISTRY.get_sample_value("collectord_dropped_items_total", {"type": kind}) or 0


EVENT_ITEM = item(EVENT, type="event")
DUMP_ITEM = item(MINIDUMP, type="attachment", attachment_type="event.minidump", filename="a.dmp")
LOG_ITEM = item(b"log\n\nlog", type="attachment", filename="my log.txt", content_type="text/plain")
KEPT = {"event": EVENT, "upload_file_minidump": MINIDUMP, "mylogtxt": b"log\n\nlog"}


@for_each("piece", [1, 7, 65536])
@for_each(
    "content",
    [
        HEADER + EVENT_ITEM + DUMP_ITEM + LOG_ITEM,
        (HEADER + EVENT_ITEM + DUMP_ITEM + LOG_ITEM).rstrip(b"\n"),
        HEADER
        + item(b'{"a":1}', type="session")
        + EVENT_ITEM
        + item(b"x" * 100, type="new", a=1)
        + DUMP_ITEM
        + LOG_ITEM,
        HEADER + item(EVENT, type="event", sized=False) + DUMP_ITEM + LOG_ITEM,
        HEADER
        + item(b"", type="event2")
        + item(b"{}", type="x", sized=False)
        + EVENT_ITEM
        + b"\n\n"
        + DUMP_ITEM
        + LOG_ITEM,
        HEADER + b"\r\n" + EVENT_ITEM + DUMP_ITEM + LOG_ITEM + item(b"{}", type={}),
    ],
)
def test_items(content: bytes, piece: int) -> None:
    report, dumps = receive(content, piece)
    assert dumps == KEPT
    assert dict(report.annotations) == {"EventID": ID}
    assert [note.text for note in report.notes] == ["the file 'my log.txt' is called mylogtxt"]
    assert (report.payload.structure, report.has_minidump) == ("envelope", True)
    assert [dump.filename for dump in report.dumps] == ["event.json", "a.dmp", "my log.txt"]


@for_each("last", [b"", b"\n"])
def test_an_event_of_unknown_length_at_the_end(last: bytes) -> None:
    _, dumps = receive(HEADER + item(EVENT, type="event", sized=False, end=last))
    assert dumps == {"event": EVENT}


@for_each(
    "content",
    [
        b"{}",
        b"{}\n",
        b"{}\n\n\n",
        HEADER,
        HEADER + item(b'{"a":1}', type="session"),
        HEADER + item(b"{}", type="transaction") + item(b"{}", type="client_report"),
    ],
)
def test_nothing_to_keep(content: bytes) -> None:
    with pytest.raises(NoDump):
        receive(content)


@for_each(
    "content",
    [
        HEADER + b"x\n" + EVENT_ITEM,
        HEADER + item(b"{}", type="session") + EVENT_ITEM[:10],
        HEADER + item(b"", type="session") * 1000 + EVENT_ITEM,
        HEADER + item(b"{}", type="session", end=b"")[:-1],
        gzip.compress(HEADER + item(b"{}", type="session"))[:-9],
    ],
)
def test_an_event_that_may_be_lost_is_not_taken_for_none(content: bytes) -> None:
    """Its client would be told that all is well, and nobody else of it."""
    with pytest.raises(MalformedReport, match="invalid_payload_structure"):
        receive(content)


def test_an_event_that_is_too_large_is_not_taken_for_none() -> None:
    limits = Limits(read=10_000, body=10, parts=20, annotations=1000)
    with pytest.raises(TooLarge):
        receive_as(ENVELOPE, HEADER + EVENT_ITEM, content_type=None, limits=limits)


def test_what_is_dropped_is_counted() -> None:
    before = dropped("session"), dropped("other")
    receive(HEADER + item(b"{}", type="session") + item(b"", type="x") + item(b"", type=["session"]) + EVENT_ITEM)
    assert (dropped("session"), dropped("other")) == (before[0] + 1, before[1] + 2)


@for_each("content", [b"x", b"[]\n", b"\n", b'{"a":', b'{"a":"' + b"x" * 70_000 + b'"}\n', b"{" * 5000, b"[" * 100_000])
def test_no_envelope(content: bytes) -> None:
    with pytest.raises(MalformedReport, match="invalid_payload_structure"):
        receive(content)


def test_an_envelope_that_is_cut_off() -> None:
    report, dumps = receive((HEADER + EVENT_ITEM + DUMP_ITEM)[:-100])
    assert dumps == {"event": EVENT, "upload_file_minidump": MINIDUMP[:-99]}
    assert [note.text for note in report.notes] == ["the envelope is cut off: 99 bytes of an item are missing"]


@for_each(("end", "is_whole"), [(100, False), (1, True)])
def test_whether_it_is_whole(end: int, is_whole: bool) -> None:
    """Another collector's has to be."""
    parser = EnvelopeParser()
    list(parser.parse((HEADER + EVENT_ITEM + DUMP_ITEM)[:-end]))
    list(parser.close())
    assert parser.is_whole == is_whole


@for_each(
    "rest", [b"x\n", b"[]\n", b'{"type":', b"\x00" * 70_000, b'{"a":[' + b"[]," * 1000 + b"1]}\n", b'{"a":"\xff"}\n']
)
def test_what_can_not_be_understood_is_left_out(rest: bytes) -> None:
    report, dumps = receive(HEADER + EVENT_ITEM + rest + DUMP_ITEM)
    assert dumps == {"event": EVENT}
    assert [note.text for note in report.notes] == ["the rest of the envelope is left out: it is malformed"]


@for_each("length", [-1, "5", None, True, 1.5, [], 10**30])
def test_a_length_that_is_none(length: object) -> None:
    content = HEADER + item(EVENT, type="event", sized=False, length=length)
    _, dumps = receive(content)
    assert dumps == {"event": EVENT + b"\n" * (length == 10**30)}


@for_each("name", [None, 5, "", "\0", "\ud800", "ü", "a" * 300])
def test_odd_file_names(name: object) -> None:
    _, dumps = receive(HEADER + EVENT_ITEM + item(b"x", type="attachment", filename=name))
    assert len(dumps) == 2


@pytest.mark.slow
@for_each("kind", ["attachment", "session"])
def test_too_many_items(kind: str) -> None:
    report, dumps = receive(HEADER + EVENT_ITEM + item(b"", type=kind, filename="f") * 2000)
    assert "event" in dumps
    assert len(dumps) <= LIMITS.parts
    assert "more than 1000 items" in str(report.notes)


def test_the_minidump_after_too_many_attachments() -> None:
    many = item(b"x", type="attachment", filename="f") * (LIMITS.parts * 12)
    _, dumps = receive(HEADER + EVENT_ITEM + many + DUMP_ITEM)
    assert dumps["upload_file_minidump"] == MINIDUMP
