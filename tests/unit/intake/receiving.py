"""
Bodies of any dialect, and what becomes of them without a connection.
"""

from twisted.web.http_headers import Headers

from collectord.dialects.row import Dialect
from collectord.dialects.table import Asked
from collectord.intake.budget import MemoryBudget
from collectord.intake.receiver import Limits, ReportReceiver
from collectord.model import CrashReport
from collectord.testing.memory import MemoryCrashStorage
from tests.unit.intake.parts import CONTENT_TYPE, LIMITS, CountingFlow, content_of, result_of


def receive_as(
    dialect: Dialect,
    content: bytes,
    *,
    piece: int = 65536,
    content_type: bytes | None = CONTENT_TYPE,
    content_encoding: bytes = b"",
    limits: Limits = LIMITS,
) -> tuple[CrashReport, dict[str, bytes]]:
    """What is made of a body, and the contents of its dumps; nothing of it is left behind."""
    budget, flow = MemoryBudget(limit=10_000_000), CountingFlow()
    headers = Headers({b"Content-Encoding": [content_encoding]})
    if content_type is not None:
        headers.addRawHeader(b"Content-Type", content_type)
    receiver = ReportReceiver(limits, budget, MemoryCrashStorage(), headers, None, flow, asked=Asked(dialect))
    try:
        for at in range(0, len(content), piece):
            receiver.received(content[at : at + piece])
        report = result_of(receiver.report())
        return report, {dump.name: result_of(content_of(dump)) for dump in report.dumps}
    finally:
        receiver.release()
        assert (budget.used, budget.flushing, budget.annotations) == (0, 0, 0)
        assert flow.pauses == flow.resumes
