"""
What the intake makes of a body, however its bytes come, and what a second collector makes of what the first one kept.
"""

import hashlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from random import Random

from attrs import define, evolve, field, frozen
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers

from collectord.collector import Collector
from collectord.errors import ReportRefused, StorageError
from collectord.intake.budget import MemoryBudget
from collectord.intake.receiver import Limits, ReportReceiver
from collectord.model import SENDER, SENDER_NOTES, Crash, CrashReport, InMemory
from collectord.settings.schema import Submission
from collectord.storage.http.body import make_report, notes_of
from collectord.testing.memory import MemoryCrashStorage
from collectord.throttle.results import Result
from collectord.throttle.rules import Verdict
from tests.support.judging import judging
from tests.unit.intake.parts import CountingFlow, content_of, result_of

_TOKEN = "secret"


@frozen(kw_only=True)
class Request:
    """A request that posts a report, and the collector that it is sent to."""

    body: bytes
    content_type: bytes
    encoding: bytes = b""
    query: bytes = b""
    limits: Limits
    memory: int = 1_000_000
    is_relayed: bool = False
    sender_notes: str = ""

    def headers(self) -> Headers:
        headers = Headers({b"Content-Type": [self.content_type]})
        if self.encoding:
            headers.addRawHeader("Content-Encoding", self.encoding)
        if self.is_relayed:
            headers.addRawHeader("Authorization", f"Bearer {_TOKEN}")
            headers.addRawHeader(SENDER, "a-store")
            headers.addRawHeader(SENDER_NOTES, self.sender_notes)
        return headers


@frozen
class Refused:
    """Why there is no report."""

    kind: type[Exception]
    reason: str


@frozen
class Taken:
    """A report, and the bytes of its dumps."""

    report: CrashReport = field(eq=False, repr=False)
    annotations: Mapping[str, str]
    dumps: Sequence[tuple[str, str | None, str | None, bytes]]
    notes: Sequence[str]
    payload: object


@define(eq=False)
class _Hurried(CountingFlow):
    """A connection whose share of the time is over at times that are up to chance."""

    chance: Random = field(factory=Random)
    waiting: deque[Callable[[], None]] = field(factory=deque)

    def rest(self, go_on: Callable[[], None]) -> bool:
        if self.chance.random() < 0.2:
            self.waiting.append(go_on)
            return True
        return False

    def take_turns(self) -> None:
        while self.waiting:
            self.waiting.popleft()()


def take(request: Request, pieces: Sequence[bytes], chance: Random) -> Taken | Refused:
    """Receive the body of C{request} in C{pieces}. Only errors that are meant may end that; nothing is left behind."""
    budget, flow, storage = MemoryBudget(limit=request.memory), _Hurried(chance=chance), MemoryCrashStorage()
    receiver = ReportReceiver(
        request.limits,
        budget,
        storage,
        request.headers(),
        None,
        flow,
        request.query,
        _TOKEN if request.is_relayed else "",
    )
    try:
        for piece in pieces:
            receiver.received(piece)
            if chance.random() < 0.8:
                flow.take_turns()
        report = _report_of(receiver, flow)
        dumps = [(dump.name, dump.filename, dump.content_type, result_of(content_of(dump))) for dump in report.dumps]
        for dump, (*_, content) in zip(report.dumps, dumps, strict=True):
            assert (dump.size, dump.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        notes = [f"{note.kind}: {note.text}" for note in report.notes]
        kept = [evolve(dump, content=InMemory([sent[-1]])) for dump, sent in zip(report.dumps, dumps, strict=True)]
        return Taken(evolve(report, dumps=kept), dict(report.annotations), dumps, notes, report.payload)
    except (ReportRefused, StorageError) as e:
        return Refused(type(e), str(getattr(e, "reason", "")))
    finally:
        receiver.release()
        receiver.release()
        flow.take_turns()
        assert (budget.used, budget.flushing, budget.annotations) == (0, 0, 0)
        assert flow.pauses == flow.resumes


def keep(report: CrashReport) -> Crash:
    """Return the crash that a collector, as it is by default, keeps of C{report}."""
    storage = MemoryCrashStorage()
    collector = Collector(
        judge=judging(lambda annotations: Verdict(Result.ACCEPT, "ALL", 100)),
        storage=storage,
        now=lambda: datetime(2026, 1, 2, tzinfo=UTC),
        seconds=lambda: 0.0,
        random=lambda: bytes(16),
        token=_TOKEN,
        aliases=Submission().annotation_aliases,
    )
    result_of(collector.collect(report))
    (crash,) = storage.crashes.values()
    return crash


def relayed(crash: Crash, limits: Limits, chance: Random) -> Request:
    """Return the request by which a collector sends C{crash} on to another one, which has the same limits."""
    report = make_report(crash, f"{chance.getrandbits(128):032x}")
    body = result_of(_joined(report.pieces()))
    assert len(body) == report.length
    content_type = report.content_type.encode()
    return Request(body=body, content_type=content_type, limits=limits, is_relayed=True, sender_notes=notes_of(crash))


async def _joined(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


def _report_of(receiver: ReportReceiver, flow: _Hurried) -> CrashReport:
    results: list[CrashReport | Failure] = []
    Deferred.fromCoroutine(receiver.report()).addBoth(results.append)
    flow.take_turns()
    (result,) = results
    if isinstance(result, Failure):
        result.raiseException()
        raise AssertionError
    return result
