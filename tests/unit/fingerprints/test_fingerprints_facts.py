from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from attrs import evolve, frozen
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from collectord.concurrency.threadpool import at_once
from collectord.errors import StorageError
from collectord.fingerprints.annotations import facts_told
from collectord.fingerprints.facts import READING_S, facts_of
from collectord.fingerprints.minidumps import facts_in
from collectord.model import Content, CrashFacts, CrashReport, Dump, InMemory, Payload
from collectord.pieces import Pieces, ReaderAt
from collectord.storage.content import StoredFile
from collectord.testing.crashes import Torn
from tests.support.cases import for_each
from tests.support.minidumps import MadeMinidump, MadeModule
from tests.unit.intake.conftest import log
from tests.unit.intake.parts import LogRecorder, result_of

__all__ = ["log"]

T = TypeVar("T")
PAYLOAD = Payload(structure="multipart", compressed=False, size=1234, user_agent="")
APP = MadeModule(0x10_0000, 0x5000, "app", bytes(range(16)))
DATA = MadeMinidump(modules=[APP], instruction=APP.base + 0x123).write()
OTHER = MadeMinidump(modules=[APP], instruction=APP.base + 0x124).write()
REASON = {"MozCrashReason": "it broke"}


def dump(content: Content | bytes, name: str = "upload_file_minidump", *, is_minidump: bool = True) -> Dump:
    if isinstance(content, bytes):
        content = InMemory([content])
    return Dump(name=name, size=1, sha256="", content=content, is_minidump=is_minidump)


def report(*dumps: Dump, **annotations: str) -> CrashReport:
    return CrashReport(annotations=annotations, dumps=dumps, notes=(), payload=PAYLOAD)


def facts(report: CrashReport) -> CrashFacts | None:
    return result_of(facts_of(report.dumps, report.annotations, Clock()))


def of(data: bytes) -> CrashFacts:
    return facts_in(Pieces([data]))


def in_file(path: Path, data: bytes = DATA) -> StoredFile:
    path.write_bytes(data)
    return StoredFile(str(path), len(data), at_once)


def test_a_dump_in_memory() -> None:
    assert facts(report(dump(DATA), **REASON)) == of(DATA)


def test_a_dump_in_a_file(tmp_path: Path) -> None:
    assert facts(report(dump(in_file(tmp_path / "a")))) == of(DATA)


@for_each(
    ("dumps", "counts"),
    [
        ([dump(OTHER, "a"), dump(DATA)], DATA),
        ([dump(b"text", "log", is_minidump=False), dump(DATA, "a"), dump(OTHER, "b")], DATA),
        ([dump(DATA, "upload_file_minidump_browser")], DATA),
        ([dump(b"text", is_minidump=False), dump(DATA, "a")], DATA),
        ([dump(b"text", is_minidump=False)], None),
        ([], None),
    ],
    ids=["named", "first", "only", "named_is_none", "no_minidump", "no_dumps"],
)
def test_which_of_several_dumps_counts(dumps: Sequence[Dump], counts: bytes | None) -> None:
    assert facts(report(*dumps)) == (counts and of(counts))


@for_each("data", [b"MDMP", DATA[:100]], ids=["begin", "cut"])
def test_a_broken_dump_leaves_it_to_the_annotations(data: bytes) -> None:
    assert facts(report(dump(data))) is None
    assert facts(report(dump(data), **REASON)) == facts_told(REASON)


def test_a_dump_without_a_fingerprint_gets_that_of_the_annotations() -> None:
    data = MadeMinidump(instruction=5).write()
    told = facts_told(REASON)
    assert told is not None
    assert facts(report(dump(data))) == of(data)
    assert facts(report(dump(data), **REASON)) == evolve(of(data), fingerprint=told.fingerprint, place=told.place)


def test_a_file_that_can_not_be_read_costs_no_crash(tmp_path: Path, log: LogRecorder) -> None:
    (tmp_path / "gone").mkdir()
    for content in (Torn(), StoredFile(str(tmp_path / "gone"), 9, at_once)):
        assert facts(report(dump(content), **REASON)) == facts_told(REASON)
    assert [str(event["log_format"]) for event in log.events] == 2 * ["a crash has no fingerprint: {why}"]


@frozen
class Hanging:
    """Content on a disk that does not answer."""

    asked: Deferred[None]

    chunks = Torn.chunks

    async def examine(self, work: Callable[[ReaderAt], T]) -> T:
        await self.asked
        raise StorageError("too late")


def test_a_disk_that_hangs_is_not_waited_for_long(log: LogRecorder) -> None:
    clock = Clock()
    found = Deferred.fromCoroutine(facts_of([dump(Hanging(Deferred()))], REASON, clock))
    clock.advance(READING_S - 0.1)
    assert not found.called
    clock.advance(0.1)
    assert result_of(found) == facts_told(REASON)
    assert len(log.events) == 1


@frozen
class Odd:
    """Content whose reading has a defect."""

    chunks = Torn.chunks

    async def examine(self, work: Callable[[ReaderAt], T]) -> T:
        raise ZeroDivisionError


def test_a_defect_costs_no_crash(log: LogRecorder) -> None:
    assert facts(report(dump(Odd()), **REASON)) == facts_told(REASON)
    (failure,) = log.events
    log.events.clear()
    assert failure["log_failure"].check(ZeroDivisionError)
