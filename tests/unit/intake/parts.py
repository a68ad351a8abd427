"""
Multipart bodies, part by part, and what becomes of them without a connection.
"""

import gzip
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from zope.interface import implementer

from collectord.errors import CollectordError, ReportRefused
from collectord.intake.budget import MemoryBudget
from collectord.intake.receiver import Limits, ReportReceiver
from collectord.interfaces import IDumpStaging
from collectord.model import CrashReport, Dump
from collectord.testing.memory import MemoryCrashStorage

T = TypeVar("T")

BOUNDARY = b"xyzzy"
CONTENT_TYPE = b"multipart/form-data; boundary=xyzzy"
LIMITS = Limits(read=1_000_000, body=1_000_000, parts=20, annotations=100_000)


def part(headers: bytes | Sequence[bytes], content: bytes = b"") -> bytes:
    """One part, with its own delimiter."""
    lines = [headers] if isinstance(headers, bytes) else headers
    return b"--" + BOUNDARY + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + content + b"\r\n"


def annotation(name: bytes, value: bytes = b"value") -> bytes:
    return part(b'Content-Disposition: form-data; name="' + name + b'"', value)


def dump(name: bytes, content: bytes = b"MDMP") -> bytes:
    return part(
        [
            b'Content-Disposition: form-data; name="' + name + b'"; filename="minidump.dmp"',
            b"Content-Type: application/octet-stream",
        ],
        content,
    )


def extra(json: bytes) -> bytes:
    return part(
        [b'Content-Disposition: form-data; name="extra"; filename="extra.json"', b"Content-Type: application/json"],
        json,
    )


def body(*parts: bytes) -> bytes:
    """Them, and the final boundary."""
    return b"".join(parts) + b"--" + BOUNDARY + b"--\r\n"


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


@define(eq=False)
class CountingFlow:
    """Counts; there is nothing to hold."""

    pauses: int = 0
    resumes: int = 0

    def pause(self) -> None:
        self.pauses += 1

    def resume(self) -> None:
        assert self.resumes < self.pauses
        self.resumes += 1

    def rest(self, go_on: Callable[[], None]) -> bool:
        return False

    @property
    def held(self) -> bool:
        return self.pauses > self.resumes


def result_of(work: Awaitable[T]) -> T:
    """Of work that never waits."""
    results: list[T | Failure] = []
    Deferred.fromCoroutine(_coroutine(work)).addBoth(results.append)
    (result,) = results
    if isinstance(result, Failure):
        result.raiseException()
        raise AssertionError
    return result


async def _coroutine(work: Awaitable[T]) -> T:
    return await work


async def content_of(dump: Dump) -> bytes:
    """Its bytes, from wherever they lie."""
    return b"".join([piece async for piece in dump.content.chunks()])


@implementer(ILogObserver)
@define
class LogRecorder:
    """Keeps what is logged."""

    events: list[LogEvent] = field(factory=list)

    def __call__(self, event: LogEvent) -> None:
        self.events.append(event)

    @property
    def failures(self) -> list[LogEvent]:
        return [e for e in self.events if e.get("log_failure") is not None or e["log_level"] >= LogLevel.critical]


@contextmanager
def recorded_log() -> Iterator[LogRecorder]:
    """All that is logged meanwhile."""
    recorder = LogRecorder()
    globalLogPublisher.addObserver(recorder)
    try:
        yield recorder
    finally:
        globalLogPublisher.removeObserver(recorder)


@frozen
class Received:
    """A report in comparable form."""

    report: CrashReport
    dumps: Sequence[tuple[str, int, str, bytes]]

    @property
    def contents(self) -> dict[str, bytes]:
        return {name: content for name, _, _, content in self.dumps}

    @property
    def notes(self) -> list[str]:
        return [note.text for note in self.report.notes]


def new_receiver(
    *,
    headers: dict[str, bytes] | Headers | None = None,
    length: int | None = None,
    limits: Limits = LIMITS,
    budget: MemoryBudget | None = None,
    staging: IDumpStaging | None = None,
    flow: CountingFlow | None = None,
    query: bytes = b"",
    token: str = "",
) -> ReportReceiver:
    """@param headers: one value each; or what may have several; None: those of a report."""
    fields = {"Content-Type": CONTENT_TYPE} if headers is None else headers
    if not isinstance(fields, Headers):
        fields = Headers({name.encode(): [value] for name, value in fields.items()})
    return ReportReceiver(
        limits,
        budget or MemoryBudget(limit=1_000_000),
        staging or MemoryCrashStorage(),
        fields,
        length,
        flow or CountingFlow(),
        query,
        token,
    )


def receive(
    pieces: Iterable[bytes],
    *,
    encoding: bytes | None = None,
    limits: Limits = LIMITS,
    memory: int = 1_000_000,
    query: bytes = b"",
) -> Received:
    """
    What is made of a body that comes in C{pieces}; nothing of it is left behind.

    @raise CollectordError: it is refused.
    """
    headers = {"Content-Type": CONTENT_TYPE} | ({"Content-Encoding": encoding} if encoding else {})
    budget, flow = MemoryBudget(limit=memory), CountingFlow()
    receiver = new_receiver(headers=headers, limits=limits, budget=budget, flow=flow, query=query)
    try:
        for piece in pieces:
            receiver.received(piece)
        report = result_of(receiver.report())
        return Received(
            report, [(dump.name, dump.size, dump.sha256, result_of(content_of(dump))) for dump in report.dumps]
        )
    finally:
        receiver.release()
        receiver.release()
        assert (budget.used, budget.flushing) == (0, 0)
        assert flow.pauses == flow.resumes


def refusal_of(
    pieces: Iterable[bytes], *, encoding: bytes | None = None, limits: Limits = LIMITS, memory: int = 1_000_000
) -> tuple[type[CollectordError], str]:
    """Of what class, and why."""
    try:
        received = receive(pieces, encoding=encoding, limits=limits, memory=memory)
    except ReportRefused as e:
        return type(e), e.reason
    raise AssertionError(received)


def comparable(received: Received) -> tuple[object, ...]:
    """All that may not depend on how the bytes came."""
    report = received.report
    return dict(report.annotations), received.dumps, list(report.notes), report.payload


def outcome(
    pieces: Iterable[bytes], *, encoding: bytes | None = None, limits: Limits = LIMITS, memory: int = 0
) -> object:
    """The report or the refusal, to be compared with another one."""
    try:
        return comparable(receive(pieces, encoding=encoding, limits=limits, memory=memory))
    except ReportRefused as e:
        return type(e), e.reason
