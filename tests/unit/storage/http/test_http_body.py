"""
A crash as the body of a report: what other parsers make of it, and how it is written.
"""

import gzip
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from io import BytesIO
from typing import Any

import multipart
import pytest
from attrs import define, evolve, field
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IConsumer
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer
from zope.interface.verify import verifyObject

from collectord.errors import StorageError
from collectord.model import COLLECTOR_NAMES, Crash, Dump, InMemory
from collectord.storage.http.body import PiecesProducer, gzipped, make_report, notes_of
from tests.support.cases import for_each
from tests.unit.intake.parts import LIMITS, new_receiver, result_of
from tests.unit.storage.stores import CRASH_ID, dump_of, make_crash, started

BOUNDARY = "0123456789abcdef"


def now(work: Deferred[Any]) -> Any:
    """The result of what is done already."""
    results: list[Any] = []
    work.addBoth(results.append)
    (result,) = results
    if hasattr(result, "raiseException"):
        result.raiseException()
    return result


async def joined(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


def body_of(crash: Crash) -> bytes:
    body = now(started(joined(make_report(crash, BOUNDARY).pieces())))
    assert isinstance(body, bytes)
    return body


def parsed(body: bytes) -> tuple[dict[str, str], dict[str, tuple[str, str, bytes]]]:
    """Its annotations, and its files: their names, types and contents."""
    texts, files = {}, {}
    for part in multipart.MultipartParser(BytesIO(body), BOUNDARY, strict=True):
        if part.filename is None:
            assert part.headerlist == [("Content-Disposition", part.headers["Content-Disposition"])]
            texts[part.name] = part.raw.decode()
        else:
            files[part.name] = (part.filename, part.headers["Content-Type"], part.raw)
    return texts, files


def test_what_a_client_would_send() -> None:
    crash = make_crash(Version="1.2", version="2", type_tag="bp", Email="")
    texts, files = parsed(body_of(crash))
    assert texts == {"ProductName": "Fenix", "Version": "1.2", "Email": "", "uuid": CRASH_ID}
    assert files == {
        "upload_file_minidump": ("upload_file_minidump", "application/octet-stream", b"MDMP minidump"),
        "extra_2": ("extra_2", "application/octet-stream", b"something else"),
    }


def test_it_arrives_unchanged() -> None:
    kept: dict[str, Any] = {
        "client_version": "1",
        "client_uuid": "a device",
        "Comments": "é\ufffd😀",
        "unnamed": "",
        "extra": '{"cut',
    }
    for annotations in (
        kept,
        {**kept, "_charset_": "utf-16"},
        {**kept, "Comments": "MDMP is how it begins"},
        {**kept, "upload_file_minidump": "\1"},
        {**kept, "a%22b%0D": "x", 'a"b\r\n': "y"},
        {"é" * 20_000: "the name is longer than headers may be"},
    ):
        receiver = new_receiver(headers={"Content-Type": f"multipart/form-data; boundary={BOUNDARY}".encode()})
        receiver.received(body_of(make_crash(**annotations)))
        report = result_of(receiver.report())
        assert report.annotations == {"ProductName": "Fenix", **annotations, "uuid": CRASH_ID}
        assert report.notes == []
        assert len(report.dumps) == 2


def noted(about: object) -> Crash:
    """A crash where its collector noted that of its dumps."""
    crash = make_crash()
    return evolve(crash, raw_crash={**crash.raw_crash, "metadata": {"dumps": about}})


def test_how_the_first_client_called_a_file_is_sent_on() -> None:
    about = {
        "upload_file_minidump": {"size": 1, "filename": 'a "b".dmp', "content_type": "application/x-dmp"},
        "extra_2": {"size": 1, "content_type": "text/x\r\nX: y"},
    }
    _, files = parsed(body_of(noted(about)))
    assert {name: file[:2] for name, file in files.items()} == {
        "upload_file_minidump": ('a "b".dmp', "application/x-dmp"),
        "extra_2": ("extra_2", "application/octet-stream"),
    }


@for_each(
    ("sent", "arrived"),
    [
        ("text/plain; charset=utf-16", "text/plain; charset=utf-16"),
        ('Image/PNG ;title="é; \\"', 'Image/PNG ;title="é; \\"'),
        ("application/json; charset=utf-8", "application/octet-stream"),
        ("Application/JSON", "application/octet-stream"),
        ("text/plain\r\n; x", "application/octet-stream"),
        ("text/plain; x\r\nX: y", "application/octet-stream"),
    ],
)
def test_what_the_first_client_said_that_a_file_is_arrives(sent: str, arrived: str) -> None:
    receiver = new_receiver(headers={"Content-Type": f"multipart/form-data; boundary={BOUNDARY}".encode()})
    receiver.received(body_of(noted({"upload_file_minidump": {"content_type": sent}})))
    report = result_of(receiver.report())
    assert [dump.content_type for dump in report.dumps] == [arrived, "application/octet-stream"]


@for_each("filename", ["a%22b.dmp", "é%0D 😀;'", "%0A", '"%"', "C:\\"])
def test_how_the_first_client_called_a_file_arrives(filename: str) -> None:
    receiver = new_receiver(headers={"Content-Type": f"multipart/form-data; boundary={BOUNDARY}".encode()})
    receiver.received(body_of(noted({"upload_file_minidump": {"filename": filename}})))
    report = result_of(receiver.report())
    assert [dump.filename for dump in report.dumps] == [filename, "extra_2"]


@for_each("about", [None, [], {"upload_file_minidump": 1}, {"upload_file_minidump": {"filename": 1}}])
def test_what_other_collectors_noted_of_files_does_no_harm(about: object) -> None:
    _, files = parsed(body_of(noted(about)))
    assert set(files) == {"upload_file_minidump", "extra_2"}


def with_notes(notes: object) -> Crash:
    crash = make_crash()
    return evolve(crash, raw_crash={**crash.raw_crash, "metadata": {"collector_notes": notes}})


@for_each(
    ("notes", "sent"),
    [
        pytest.param(["a", "\u00fc\r\n\ud800"], ["a", "\u00fc\r\n\ud800"], id="any text"),
        pytest.param(["a", 1, None], ["a"], id="of another collector"),
        pytest.param([], None, id="none"),
        pytest.param({"a": "b"}, None, id="no list"),
        pytest.param(None, None, id="nothing"),
    ],
)
def test_notes_fit_into_a_header(notes: object, sent: object) -> None:
    header = notes_of(with_notes(notes))
    assert header.isprintable()
    assert header.isascii()
    assert (json.loads(header) if header else None) == sent


@for_each("size", [1, 10, 100, 4000])
def test_notes_that_are_too_long_for_a_header(size: int) -> None:
    notes = [f"{number}" + "\u00fc" * size for number in range(5000)]
    header = notes_of(with_notes(notes))
    assert len(header) < 4096
    *sent, last = json.loads(header)
    assert sent == notes[: len(sent)]
    assert last == f"the notes of an earlier collector are too long, and {5000 - len(sent)} are left out"


def test_what_was_taken_with_the_same_limits_is_taken_from_a_relay() -> None:
    quotes: dict[str, Any] = {f"k{n:03}": '"' * 200 for n in range(510)}
    limits = evolve(LIMITS, parts=1, annotations=110_000)
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}".encode(), "Authorization": b"Bearer secret"}

    def notes_with(token: str) -> list[str]:
        receiver = new_receiver(headers=headers, limits=limits, token=token)
        receiver.received(body_of(make_crash(dumps={"upload_file_minidump": b"MDMP"}, **quotes)))
        report = result_of(receiver.report())
        assert [dump.name for dump in report.dumps] == ["upload_file_minidump"]
        assert (quotes.items() <= report.annotations.items()) == (not report.notes)
        return [note.kind for note in report.notes]

    assert notes_with("secret") == []
    assert "cut" in notes_with("another")
    assert "cut" in notes_with("")


@for_each(
    "annotations",
    [{"bad": "\ufffd" * 1000}, {"control": "\x01" * 1000, "c%22": ""}, {f"k{n}": "" for n in range(400)}],
    ids=["bytes that were no text", "characters that JSON escapes", "names from JSON"],
)
def test_what_has_become_more_is_taken_from_a_relay(annotations: dict[str, Any]) -> None:
    limits = evolve(LIMITS, parts=1, annotations=1000, items=1)
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}".encode(), "Authorization": b"Bearer secret"}
    receiver = new_receiver(headers=headers, limits=limits, token="secret")
    receiver.received(body_of(make_crash(**annotations)))
    report = result_of(receiver.report())
    assert report.annotations == {"ProductName": "Fenix", **annotations, "uuid": CRASH_ID}
    assert (report.notes, len(report.dumps)) == ([], 2)


def test_no_dumps() -> None:
    assert parsed(body_of(make_crash(dumps={})))[1] == {}


def test_values_that_are_no_text_are_sent_as_json() -> None:
    values: dict[str, Any] = {"a": 1, "b": ["x", {"y": None}], "c": True, "d": None, "e": 1.5, "f": {"ü": "ü"}}
    texts, _ = parsed(body_of(make_crash(**values)))
    assert {name: json.loads(texts[name]) for name in values} == values


def test_half_a_surrogate_pair() -> None:
    assert parsed(body_of(make_crash(a="x\ud800y")))[0]["a"] == "x\\ud800y"


def test_the_names_as_browsers_write_them() -> None:
    odd: dict[str, Any] = {'a"b\r\nc\\é;': "x"}
    body = body_of(make_crash(**odd))
    assert 'form-data; name="a%22b%0D%0Ac\\é;"\r\n\r\nx\r\n'.encode() in body


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="\0%", exclude_categories=["Cc", "Zl", "Zp"])
    | st.sampled_from("\"\r\n;\\= '"),
    min_size=1,
    max_size=40,
).filter(lambda name: name.strip() == name and name not in COLLECTOR_NAMES and '\\"' not in name and "\x85" not in name)
VALUES = st.text(st.characters(codec="utf-8") | st.sampled_from('-"\r\n' + BOUNDARY), max_size=200)


@pytest.mark.slow
@given(
    st.dictionaries(NAMES, VALUES, max_size=8),
    st.dictionaries(st.from_regex(r"[A-Za-z0-9_]{1,30}", fullmatch=True), st.binary(max_size=300), max_size=4),
)
def test_anything_comes_back(annotations: Mapping[str, str], dumps: Mapping[str, bytes]) -> None:
    crash = make_crash(dumps=dumps)
    crash = Crash(crash_id=CRASH_ID, raw_crash={**annotations, "metadata": {}}, dumps=crash.dumps)
    report = make_report(crash, BOUNDARY)
    body = body_of(crash)
    assert report.length == len(body)
    texts, files = parsed(body)
    assert texts == {**annotations, "uuid": CRASH_ID}
    assert {name: content for name, (_, _, content) in files.items()} == dumps
    assert gzip.decompress(now(started(joined(gzipped(report.pieces(), at_once))))) == body


def at_once(work: Any) -> Deferred[Any]:
    done: Deferred[Any] = Deferred()
    done.callback(work())
    return done


@for_each("spoiled", [b"MDMP", b"MDMP minidumq", b"MDMP minidump and more", b""])
def test_a_dump_that_is_another_by_now(spoiled: bytes) -> None:
    right = dump_of("upload_file_minidump", b"MDMP minidump")
    dump = Dump(name=right.name, size=right.size, sha256=right.sha256, content=InMemory([spoiled]))
    report = make_report(Crash(crash_id=CRASH_ID, raw_crash={}, dumps=[dump]), BOUNDARY)
    consumer = Consumer()
    done = PiecesProducer(report.pieces(), report.length).startProducing(consumer)
    with pytest.raises(StorageError, match="upload_file_minidump no longer has the checksum"):
        now(done)
    assert len(consumer.written()) < report.length
    assert not consumer.written().endswith(b"--\r\n")


@implementer(IConsumer)
@define(eq=False)
class Consumer:
    """
    @ivar takes: writes until it wants no more for now.
    """

    takes: int = 1000
    producer: Any = None
    pieces: list[bytes] = field(factory=list)

    def registerProducer(self, producer: Any, streaming: bool) -> None: ...

    def unregisterProducer(self) -> None: ...

    def write(self, data: bytes) -> None:
        self.pieces.append(data)
        self.takes -= 1
        if self.takes == 0:
            self.producer.pauseProducing()

    def written(self) -> bytes:
        return b"".join(self.pieces)


@define(eq=False)
class Source:
    """
    @ivar asked: how many pieces were asked for.
    @ivar waits: for what the next piece waits.
    """

    pieces: Sequence[bytes]
    asked: int = 0
    waits: Deferred[None] | None = None

    async def read(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            self.asked += 1
            if self.waits is not None:
                await self.waits
            yield piece


def producer_of(source: Source, takes: int = 1000) -> tuple[PiecesProducer, Consumer]:
    producer = PiecesProducer(source.read(), sum(map(len, source.pieces)))
    verifyObject(IBodyProducer, producer)
    return producer, Consumer(takes, producer)


def test_it_reads_no_further_than_it_may_write() -> None:
    source = Source([b"%d" % number for number in range(10)])
    producer, consumer = producer_of(source, takes=3)
    done = producer.startProducing(consumer)
    assert (consumer.pieces, source.asked) == ([b"0", b"1", b"2"], 4)
    producer.pauseProducing()
    assert not done.called
    consumer.takes = 2
    producer.resumeProducing()
    assert (len(consumer.pieces), source.asked) == (5, 6)
    producer.resumeProducing()
    producer.resumeProducing()
    assert now(done) is None
    assert consumer.written() == b"0123456789"


def test_stopped_while_paused() -> None:
    producer, consumer = producer_of(Source([b"a", b"b"]), takes=1)
    done = producer.startProducing(consumer)
    producer.stopProducing()
    producer.pauseProducing()
    producer.resumeProducing()
    assert not done.called
    assert consumer.written() == b"a"


def test_stopped_while_it_reads() -> None:
    source = Source([b"a"], waits=Deferred())
    producer, consumer = producer_of(source)
    done = producer.startProducing(consumer)
    producer.stopProducing()
    assert source.waits is not None
    source.waits.callback(None)
    assert (done.called, consumer.pieces) == (False, [])


def test_a_read_that_fails_after_the_stop_is_nobodys_business() -> None:
    source = Source([b"a"], waits=Deferred())
    producer, consumer = producer_of(source)
    done = producer.startProducing(consumer)
    producer.stopProducing()
    assert source.waits is not None
    source.waits.errback(StorageError("gone"))
    assert not done.called


def test_cancelled_while_it_reads() -> None:
    source = Source([b"a"], waits=Deferred())
    producer, consumer = producer_of(source)
    done = producer.startProducing(consumer)
    done.cancel()
    with pytest.raises(CancelledError):
        now(done)
    assert source.waits is not None
    source.waits.callback(None)
    assert consumer.pieces == []


def test_unknown_length() -> None:
    assert PiecesProducer(Source([]).read(), None).length is UNKNOWN_LENGTH
